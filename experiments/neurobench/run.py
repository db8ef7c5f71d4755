"""Train a stack on one task with BPTT and several seeds, and measure it by NeuroBench's metrics.

The metrics are the score on the test set, and `slax_neurons.complexity`.
"""

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import random

from experiments.common.learning import fit_or_stop
from experiments.common.measures import loss_at_the_end, pack, right
from experiments.common.samples import in_parts, seeds_of
from experiments.common.tasks import check_layers, make_model
from slax_data import make_task
from slax_data.sets.mackey_glass import (
    NEUROBENCH_SERIES,
    POINTS_PER_LYAPUNOV_TIME,
    mackey_glass,
    mackey_glass_windows,
    smape,
)
from slax_data.task import held_out
from slax_neurons import LI, LIF, Connect, arctan, complexity, connect
from slax_rules import BPTT, PerSequence, PerStep, accuracy, cross_entropy, predict, squared_error

TEST_STEPS = 10 * POINTS_PER_LYAPUNOV_TIME  # with the same number of training points, as in NeuroBench
# Decays for the forecast, which has to follow the series: with slow decays it lags behind.
HIDDEN_DECAY, READ_OUT_DECAY = 0.5, 0.1
BIAS = 1.0  # standard deviation of the biases, which makes neurons fire at different currents


class Learning(NamedTuple):
    """The learning problem of a model.

    loss_fn: maps the outputs [B, ...] and targets of a step to the loss of each sample.
    score_fn: maps outputs [T, B, ...] and targets to the score.
    kind: whether there is a target for each step or for each sequence.
    sample: maps a key to a batch.
    test_set: inputs [T, B, ...] and targets.
    has_common_test: whether all seeds have this test set.
    baseline: the score without learning, by guessing or by forecasting the last value.
    """

    loss_fn: Callable[..., jax.Array]
    score_fn: Callable[..., jax.Array]
    kind: type[PerStep] | type[PerSequence]
    sample: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    test_set: tuple[jax.Array, jax.Array]
    has_common_test: bool
    baseline: Any


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The loss, score and complexity of the trained networks of all seeds."""
    draw = jax.jit(lambda data_key, series, keys: jax.lax.map(learning_of(config, data_key, series).sample, keys))
    found = []
    for seed in seeds_of(config):
        model, numbers, (inputs, _) = trained(config, seed, draw)
        found.append({"seed": seed, **numbers, **dataclasses.asdict(complexity(model, inputs))})
    return {"metric": METRICS[config["dataset"]], "seeds": found}


def trained(
    config: dict[str, Any], seed: int, draw: Callable
) -> tuple[Connect, dict[str, Any], tuple[jax.Array, jax.Array]]:
    """Train the network of a seed on the batches that `draw` makes of the key of its data, its series and their keys.

    Returns:
        The network; the mean loss of the last tenth of the batches, its score and the baseline's score, and which samples of a
        test set that seeds have in common were right, as `experiments.common.measures.along` has them; and the test set.
    """
    data_key, model_key, batch_key = random.split(random.key(seed), 3)
    series = series_of(config, seed)
    learning, model = learning_of(config, data_key, series), model_of(config, nnx.Rngs(model_key))
    drawn = in_parts(partial(draw, data_key, series), random.split(batch_key, config["batches"]))
    batches = ((inputs, learning.kind(targets)) for inputs, targets in drawn)
    where = f"neurobench of {config['task']}: under bptt, seed {seed}"
    made = optax.adamax(optax.cosine_decay_schedule(config["learning_rate"], config["batches"]))
    losses = fit_or_stop(where, model, BPTT(), made, batches, loss_fn=learning.loss_fn)
    inputs, targets = learning.test_set
    score = float(learning.score_fn(predict(model, inputs), targets))
    numbers = {"loss": loss_at_the_end(losses), "score": score, "baseline": float(learning.baseline)}
    if learning.has_common_test:
        end = {"batches": config["batches"], "accuracy": score, "right": pack(right(model, learning.test_set))}
        numbers |= {"test_size": len(targets), "common_test": True, "lengths": [end]}
    return model, numbers, learning.test_set


def learning_of(config: dict[str, Any], key: jax.Array, series: jax.Array | None) -> Learning:
    return classification(config, key) if series is None else forecast(config, series)


def classification(config: dict[str, Any], key: jax.Array) -> Learning:
    """A classification of spikes: the predicted class has the largest mean output."""
    layers = config["layers"]
    sizes = {"n_units": layers[0], "n_classes": layers[-1]} if config["dataset"] == "randman" else {}
    task_key, test_key = random.split(key)
    task = make_task(config["dataset"], task_key, n_steps=config["n_steps"], code=config["code"], **sizes)
    check_layers(config, task)
    sample = partial(task.sample, batch_size=config["batch_size"])
    test_set, is_common = held_out(task, test_key, config["test_size"]), task.full_split is not None
    return Learning(cross_entropy, accuracy, PerSequence, sample, test_set, is_common, baseline=1 / task.n_classes)


def series_of(config: dict[str, Any], seed: int) -> jax.Array | None:
    """The series of a forecast, which starts half a Lyapunov time later with each seed, as NeuroBench's repetitions do."""
    if config["dataset"] != "mackey_glass":
        return None
    tau, chaotic = config["tau"], NEUROBENCH_SERIES[config["tau"]]
    how = {"history": chaotic.history, "interval": chaotic.interval, "start": tau + seed * chaotic.lyapunov_time / 2}
    return jnp.asarray(mackey_glass(2 * TEST_STEPS + config["horizon"], tau=tau, **how), jnp.float32)


def forecast(config: dict[str, Any], series: jax.Array) -> Learning:
    """A forecast that reads one point of the series per step and predicts a later one; the test set is one sequence."""
    windows = partial(mackey_glass_windows, series, horizon=config["horizon"])
    inputs, targets = windows(n_steps=config["n_steps"], stride=1)

    def sample(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen = random.choice(key, inputs.shape[1], (config["batch_size"],), replace=False)
        return inputs[:, chosen], targets[:, chosen]

    test_set = windows(n_steps=TEST_STEPS, split="test")
    return Learning(squared_error, smape, PerStep, sample, test_set, has_common_test=False, baseline=smape(*test_set))


def model_of(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """A stack of Linear and LIF for each pair of sizes, with LI in place of the last LIF."""
    if config["dataset"] != "mackey_glass":
        return make_model(config, rngs)
    layers = config["layers"]
    modules: list[nnx.Module] = []
    for n_in, n_out in itertools.pairwise(layers[:-1]):
        bias_init = nnx.initializers.normal(BIAS)
        modules += [nnx.Linear(n_in, n_out, bias_init=bias_init, rngs=rngs), LIF(decay=HIDDEN_DECAY, spike_fn=arctan())]
    return connect([*modules, nnx.Linear(layers[-2], layers[-1], rngs=rngs), LI(decay=READ_OUT_DECAY)])


METRICS = {"digits": "accuracy", "randman": "accuracy", "mackey_glass": "smape"}
