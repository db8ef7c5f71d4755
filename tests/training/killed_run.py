"""Small runs: `python killed_run.py N DIRECTORY RESULT [DIRECTORY RESULT]`. Each runs to its end and writes what it has into
RESULT; with an N above 0, SIGKILL comes as soon as a file is being written under its temporary name, from step N on.
"""

import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import optax
from flax import nnx
from small import B, C, N, T, made, numbers

from slax_neurons import Dropout
from slax_rules import TBPTT, Checkpoints, EarlyStopping, Every, GradientAgreement, accuracy, cross_entropy, fit

H = 300  # so that numbers fill most of the files of a checkpoint
ADAMAX = optax.adamax(optax.linear_schedule(0.1, 0.01, 40))


def epoch_of_batches(epoch):
    rng = np.random.default_rng(epoch)
    return ((rng.integers(0, 2, (T, B, N)).astype(np.float32), np.arange(B) % C) for _ in range(7))


def run(directory, result, die):
    """Trains, and writes all numbers of the finished run as bytes and text."""
    rngs = nnx.Rngs(0)
    model, optimizer = made(ADAMAX, hidden=H, modules=[nnx.BatchNorm(H, rngs=rngs), Dropout(0.2, rngs=rngs)])
    history = fit(
        model,
        optimizer,
        cross_entropy,
        epoch_of_batches,
        epochs=4,
        held_out=list(epoch_of_batches(99)),
        metrics={"accuracy": accuracy},
        evaluate_every=6,
        early_stopping=EarlyStopping(patience=100, restore_best=True),
        callbacks=[GradientAgreement(every=5, reference=TBPTT(1)), Every(1, die)],
        checkpoints=Checkpoints(directory, every=4, keep=2),
    )
    text = [repr([x.dtype.name, x.shape, x.tobytes()]) for x in [*numbers(model, optimizer), history.losses]]
    timeless = [{name: one for name, one in record.items() if "comparison" not in name} for record in history.records]
    Path(result).write_text("\n".join([*text, *map(repr, timeless), repr(history.best_step)]))


def kill_in_writing(directory):
    while not any(Path(directory).glob(".*.part")):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    step, *places = sys.argv[1:]
    for directory, result in zip(places[::2], places[1::2], strict=True):

        def die(info, directory=directory):
            if info.step == int(step):
                threading.Thread(target=kill_in_writing, args=(directory,), daemon=True).start()

        run(directory, result, die)
