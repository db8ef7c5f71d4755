"""A small run that is killed: `python killed_run.py DIRECTORY RESULT WHEN N [DIRECTORY RESULT]`, where WHEN is one of

never         it runs to its end and writes what it has into RESULT
step N        SIGKILL right after step N
writing N     SIGKILL as soon as a file is being written under its temporary name, from step N on
"""

import os
import signal
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from slax_neurons import LI, LIF, Dropout, connect
from slax_rules import (
    TBPTT,
    Checkpoints,
    EarlyStopping,
    Every,
    GradientAgreement,
    Sampler,
    accuracy,
    cross_entropy,
    fit,
)

T, B, N, H, C = 5, 4, 6, 300, 3  # H so that numbers fill most of the files of a checkpoint
ADAMAX = optax.adamax(optax.linear_schedule(0.1, 0.01, 40))


def sample(key):
    return jax.random.bernoulli(key, 0.4, (T, B, N)).astype(jnp.float32), jnp.arange(B) % C


def epoch_of_batches(epoch):
    rng = np.random.default_rng(epoch)
    return ((rng.integers(0, 2, (T, B, N)).astype(np.float32), np.arange(B) % C) for _ in range(7))


def run(directory, die):
    rngs = nnx.Rngs(0)
    model = connect(
        [
            nnx.Linear(N, H, rngs=rngs),
            nnx.BatchNorm(H, rngs=rngs),
            Dropout(0.2, rngs=rngs),
            LIF(threshold=0.5),
            nnx.Linear(H, C, rngs=rngs),
            LI(),
        ]
    )
    optimizer = nnx.Optimizer(model, ADAMAX, wrt=nnx.Param)
    history = fit(
        model,
        optimizer,
        cross_entropy,
        Sampler(sample, jax.random.key(1), 7) if "sampler" in directory.name else epoch_of_batches,
        epochs=4,
        held_out=[sample(jax.random.key(2))],
        metrics={"accuracy": accuracy},
        evaluate_every=6,
        early_stopping=EarlyStopping(patience=100, restore_best=True),
        callbacks=[GradientAgreement(every=5, reference=TBPTT(1)), Every(1, die)],
        checkpoints=Checkpoints(directory, every=4, keep=2, best="accuracy"),
    )
    return model, optimizer, history


def everything(model, optimizer, history):
    """All numbers of a finished run as bytes and text."""
    leaves = jax.tree.leaves(nnx.state((model, optimizer)))
    arrays = [jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in leaves]
    text = [repr([x.dtype.name, x.shape, np.asarray(x).tobytes()]) for x in [*arrays, history.losses]]
    return "\n".join([*text, *map(repr, history.records), repr(history.best_step)])


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def watch(directory):
    while not any(directory.glob(".*.part")):
        pass
    kill()


def main():
    directory, result, when, step = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    started = False

    def die(info):
        nonlocal started
        if info.step >= step and when == "step":
            kill()
        if info.step >= step and when == "writing" and not started:
            started = True
            threading.Thread(target=watch, args=(directory,), daemon=True).start()

    result.write_text(everything(*run(directory, die)))
    if more := list(map(Path, sys.argv[5:])):
        more[1].write_text(everything(*run(more[0], lambda info: None)))


if __name__ == "__main__":
    main()
