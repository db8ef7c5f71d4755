"""The loop over a source: predictions, means, numbers that are not finite, and checkpoints in the middle of a stream."""

import itertools

import jax
import numpy as np
import pytest

import slax_rules as sr
from training.test_stream import FIRST, INPUTS, LABELS, RESET, RULES, SAME, B, C, T, deviation, numbers, stream_of

pytestmark = pytest.mark.usefixtures("x64")  # all numbers are float64


def pieces(inputs=INPUTS, labels=LABELS, **more):
    return [sr.Piece(inputs[at : at + 5], labels[at : at + 5], **more) for at in range(0, len(inputs), 5)]


def last(iterator):
    *_, found = iterator
    return found


def test_run_is_extension_piece_by_piece_with_weighted_means_and_reads_nothing_ahead():
    draws, expected, values, masks, read = np.random.default_rng(3), stream_of(), [], [], []
    given = [one._replace(mask=draws.random((5, B)) < 0.6) for one in pieces()]
    given[2] = given[2]._replace(reset=RESET)
    for piece in given:
        expected, outputs, losses = sr.extend_stream(expected, *piece[:3], reset=piece.reset)
        values.append((losses, outputs.argmax(axis=-1) == piece.targets))
        masks.append(piece.mask)

    def source():
        for piece in given:
            read.append(piece)
            yield tuple(piece)

    infos = []
    for info in sr.run_stream(stream_of(), source(), metrics={"accuracy": sr.correct}, half_life=7.0):
        infos.append(info)
        assert len(read) == len(infos)
    assert [info.step for info in infos] == [5, 10, 15, 20]
    assert deviation(numbers(infos[-1].stream), numbers(expected)) == 0
    weights = 0.5 ** (np.arange(T - 1, -1, -1) / 7.0)[:, None] * np.concatenate(masks)
    for name, found in zip(("loss", "accuracy"), zip(*values, strict=True), strict=True):
        assert abs(infos[-1].numbers[name] - np.average(np.concatenate(found), weights=weights)) < SAME


def test_no_mean_before_any_step_counts():
    assert last(sr.run_stream(stream_of(), pieces(mask=np.zeros((5, B), bool)))).numbers == {"loss": None}


@pytest.mark.parametrize("wrong", ["inputs", "loss"])
def test_a_run_that_stopped_at_numbers_that_are_not_finite_continues_from_the_piece_before(wrong, tmp_path):
    """Its checkpoint has nothing of that piece."""
    targets = np.eye(C)[LABELS]
    damaged = [np.array(INPUTS), np.array(targets)]
    damaged[wrong == "loss"][12] = np.nan

    def run(inputs, targets, folder):
        where, stream = sr.Checkpoints(tmp_path / folder, every=1000), stream_of(loss_fn=sr.squared_error)
        return sr.run_stream(stream, lambda step: pieces(inputs[step:], targets[step:]), checkpoints=where)

    expected = last(run(INPUTS, targets, "whole"))
    seen = []
    told = "steps 10 to 14: " + ("the inputs are NaN .*at time step 2" if wrong == "inputs" else ".*target of sample 0")
    with pytest.raises(FloatingPointError, match=told):
        for info in run(*damaged, "run"):
            seen.append(info.step)
    assert seen == [5, 10]
    found = last(run(INPUTS, targets, "run"))
    assert found.step == expected.step == T
    assert deviation((found.outputs, numbers(found.stream)), (expected.outputs, numbers(expected.stream))) == 0


def test_a_run_that_was_stopped_continues_bit_for_bit(tmp_path):
    """At any piece, with a checkpoint every ten steps, and at the end of a loop that is left. UORO has traces and draws."""

    def start(stop=T, folder=None):
        checkpoints = None if folder is None else sr.Checkpoints(tmp_path / folder, every=10, keep=9)
        stream = stream_of(RULES["uoro"]())
        source = lambda step: pieces(INPUTS[step:], LABELS[step:])  # noqa: E731
        options = {"metrics": {"accuracy": sr.correct}, "half_life": 9.0, "checkpoints": checkpoints}
        for info in sr.run_stream(stream, source, **options):
            if info.step == stop:
                break
        return info

    whole = start()
    for stop in (5, 10):
        start(stop, str(stop))
        again = start(folder=str(stop))
        saved = {path.name for path in (tmp_path / str(stop)).iterdir()}
        assert saved == {str(stop), "10", "20"}
        assert again.step == T and again.numbers == whole.numbers
        assert deviation((again.outputs, numbers(again.stream)), (whole.outputs, numbers(whole.stream))) == 0
    with pytest.raises(ValueError, match="belongs to a run with different settings"):
        last(sr.run_stream(stream_of(window=1), pieces(), checkpoints=sr.Checkpoints(tmp_path / "5")))


def test_three_hundred_pieces_keep_as_many_arrays_as_ten():
    counts = {}
    for number, _ in enumerate(sr.run_stream(stream_of(), itertools.repeat(FIRST, 301), half_life=50.0)):
        if number in (10, 300):
            counts[number] = len(jax.live_arrays())
    assert counts[300] <= counts[10]
