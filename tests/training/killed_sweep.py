"""A small sweep: `python killed_sweep.py N DIRECTORY` is ended by SIGKILL when the file of run N has its temporary name."""

import os
import signal
import sys

import jax
import numpy as np
import optax
from flax import nnx

from slax_neurons import LI, LIF, Dropout, connect
from slax_rules import BPTT, RULES, cross_entropy, sweep


def make_model(rngs):
    modules = [nnx.Linear(5, 6, rngs=rngs), LIF(), Dropout(0.2, rngs=rngs), nnx.Linear(6, 3, rngs=rngs), LI()]
    return connect(modules)


def batches(seed, count=4, size=4):
    rng = np.random.default_rng(seed)
    return (((rng.random((7, size, 5)) < 0.4).astype(np.float32), rng.integers(0, 3, size)) for _ in range(count))


def run(directory):
    return sweep(
        make_model, optax.adam, cross_entropy, batches, rules={"bptt": BPTT(), "decolle": RULES["decolle"].make},
        rates=[0.01, 0.1], seeds=2, validation=lambda seed: batches(100 + seed, 1, 20),
        test=lambda seed: batches(200 + seed, 1, 20), evaluate_at=(0, 3), directory=directory,
    )  # fmt: skip


def numbers(found):
    """All numbers of a sweep, as text and bytes."""
    runs = [run for trials in found.trials.values() for of_point in trials for run in of_point]
    arrays = [leaf for run in runs for step in run.steps for leaf in jax.tree.leaves(nnx.state(run.network(step)))]
    arrays = [jax.random.key_data(a) if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key) else a for a in arrays]
    texts = [repr([run.rule, run.point, run.seed, run.not_finite, run.validation, run.test]) for run in runs]
    return [*texts, *(np.asarray(a).tobytes() for a in [*arrays, *(run.losses for run in runs)]), repr(found.rows())]


def die_in(number):
    written, replace = [], os.replace

    def killed(*names):
        written.append(names)
        if len(written) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*names)

    os.replace = killed


if __name__ == "__main__":
    die_in(int(sys.argv[1]))
    run(sys.argv[2])
