"""`LogTo` passes what is in the history to a logger, at the same steps and under names that say what it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_rules import LogTo
from training.small import BATCHES, Killed, batch, killed_at, made

RATE = optax.inject_hyperparams(optax.sgd)(learning_rate=optax.linear_schedule(0.1, 0.0, 10))


class Weights_and_Biases:
    """A run of wandb, whose steps must not decrease."""

    def __init__(self):
        self.logged = []

    def log(self, data, step=None, commit=None, sync=None):
        assert not self.logged or step >= self.logged[-1][0]
        self.logged += [(step, name, value) for name, value in data.items()]


class SummaryWriter:
    """The writer of torch.utils.tensorboard and tensorboardX."""

    def __init__(self):
        self.logged = []

    def add_scalar(self, tag, scalar_value, global_step=None, walltime=None):
        self.logged.append((global_step, tag, scalar_value))


def confusion(outputs, labels):
    return jnp.zeros((3, 3))


def fitted(logger, **options):
    model, _ = made()
    norm = sr.Every(3, lambda info: {"norm": optax.tree.norm(nnx.state(info.model, nnx.Param)), "none": None})
    given = {"epochs": 2, "held_out": [batch(2)], "metrics": {"accuracy": sr.accuracy, "confusion": confusion}}
    given |= {"evaluate_every": 4, "callbacks": [LogTo(logger, every=2), norm]}
    return sr.fit(model, nnx.Optimizer(model, RATE, wrt=nnx.Param), sr.cross_entropy, BATCHES, **given | options)


@pytest.mark.parametrize("kind", [Weights_and_Biases, SummaryWriter])
def test_a_logger_has_the_losses_and_the_records_of_the_history(kind):
    logger = kind()
    history = fitted(logger.log if kind is Weights_and_Biases else logger)
    logged = {(step, name): value for step, name, value in logger.logged}
    assert len(logged) == len(logger.logged) and all(type(value) is float for value in logged.values())
    steps = range(2, len(history.losses) + 1, 2)
    expected = {(step, "training/loss"): history.losses[step - 1] for step in steps}
    expected |= {(step, "training/learning_rate"): 0.1 * (1 - (step - 1) / 10) for step in steps}
    for name, logs_as in {"loss": "held_out/loss", "accuracy": "held_out/accuracy", "norm": "norm"}.items():
        expected |= {(step, logs_as): value for step, value in zip(*history.series(name), strict=True)}
    assert {where: of for where, of in logged.items() if where[1] != "training/seconds"} == pytest.approx(expected)
    assert [step for step, name in logged if name == "training/seconds"] == list(steps)


def test_a_run_that_resumes_logs_what_comes_after_the_checkpoint(tmp_path):
    logger, again = SummaryWriter(), SummaryWriter()
    where = {"checkpoints": sr.Checkpoints(tmp_path, every=3)}
    with pytest.raises(Killed):
        fitted(logger, **where, callbacks=[LogTo(logger, every=1), killed_at(5)])
    history = fitted(again, **where, callbacks=[LogTo(again, every=1)])
    losses = [(step, value) for step, name, value in again.logged if name == "training/loss"]
    np.testing.assert_array_equal(losses, list(enumerate(history.losses, start=1))[3:])
    assert len({step for step, *_ in logger.logged}) == 5


def test_of_several_processes_the_first_logs(monkeypatch):
    logger = SummaryWriter()
    for process in (0, 1):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        LogTo(logger).write({"loss": 0.5}, 1 + process)
    assert logger.logged == [(1, "loss", 0.5)]
