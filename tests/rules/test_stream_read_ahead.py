"""Streams whose pieces a thread reads ahead; contexts such as that of double precision do not apply there."""

import jax
import numpy as np
import optax
from flax import nnx

from slax_data import prefetched
from slax_neurons import LI, LIF, connect
from slax_rules import OTPE, Checkpoints, Piece, correct, cross_entropy, run_stream, start_stream

B, N, C = 3, 6, 4


def stream_of_two():
    """A stream of two layers under OTPE."""
    rngs = nnx.Rngs(0)
    model = connect([nnx.Linear(N, 8, rngs=rngs), LIF(threshold=0.5), nnx.Linear(8, C, rngs=rngs), LI()])
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    return start_stream(model, optimizer, cross_entropy, (B, N), rule=OTPE(), window=5)


def test_a_stream_that_is_read_ahead_is_the_same_stream_bit_for_bit(tmp_path):
    """With gaps, resets, masks, pieces without targets, and a run that stops and goes on from a checkpoint."""

    def source(start=0):
        draws = np.random.default_rng(0)
        begin = 0
        for number in range(12):
            inputs, labels = (draws.random((5, B, N)) < 0.4).astype(np.float32), draws.integers(0, C, (5, B))
            piece = Piece(
                inputs=inputs,
                targets=None if number % 3 == 2 else labels,
                mask=draws.random((5, B)) < 0.7 if number % 3 == 1 else None,
                reset=np.arange(B) == 1 if number == 6 else None,
                start=begin,
            )
            if begin >= start:
                yield piece
            begin += 12 if number == 3 else 5

    def ahead(start):
        return prefetched(source(start), 2)

    def finished(source, name, stop=10**9):
        checkpoints = Checkpoints(tmp_path / name, every=10)
        run = run_stream(stream_of_two(), source, metrics={"hit": correct}, max_gap=10, checkpoints=checkpoints)
        for info in run:
            if info.step >= stop:
                break
        run.close()
        return info.step, info.numbers, jax.tree.leaves(info.stream)

    expected = finished(source, "whole")
    assert type(finished(ahead, "ahead", stop=32)[0]) is int
    found = finished(ahead, "ahead")
    assert found[:2] == expected[:2] and expected[0] == 67
    assert len(found[2]) == len(expected[2]) > 10
    for one, two in zip(found[2], expected[2], strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))
