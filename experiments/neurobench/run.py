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

from experiments.common.training import check_losses, loss_at_the_end, make_model, training_step
from slax_data import make_task
from slax_data.sets.mackey_glass import (
    NEUROBENCH_SERIES,
    POINTS_PER_LYAPUNOV_TIME,
    mackey_glass,
    mackey_glass_windows,
    smape,
)
from slax_data.task import held_out
from slax_neurons import LI, LIF, Connect, arctan, complexity, connect, unroll
from slax_rules import PerSequence, PerStep, accuracy, cross_entropy, squared_error, train_offline

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
    baseline: the score without learning, by guessing or by forecasting the last value.
    """

    loss_fn: Callable[..., jax.Array]
    score_fn: Callable[..., jax.Array]
    kind: type[PerStep] | type[PerSequence]
    sample: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    test_set: tuple[jax.Array, jax.Array]
    baseline: Any


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The loss, score and complexity of the trained networks of the seeds 0, 1, ...."""
    program = program_of(config)
    found = []
    for seed in range(config["seeds"]):
        model, numbers, (inputs, _) = trained(program, config, seed)
        found.append({"seed": seed, **numbers, **dataclasses.asdict(complexity(model, inputs))})
    return {"metric": METRICS[config["dataset"]], "seeds": found}


def program_of(config: dict[str, Any]) -> Callable[..., Any]:
    """The function `learned`, compiled once for all seeds."""
    return jax.jit(partial(learned, config))


def trained(
    program: Callable[..., Any], config: dict[str, Any], seed: int
) -> tuple[Connect, dict[str, float], tuple[jax.Array, jax.Array]]:
    """The network of a seed after training, the numbers of `learned`, and its test set."""
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: model_of(config, nnx.Rngs(0))))
    state, numbers, test_set, losses = program(random.key(seed), series_of(config, seed))
    check_losses(f"neurobench of {config['task']}: under bptt", seed, losses)
    return nnx.merge(graphdef, state), {name: float(number) for name, number in numbers.items()}, test_set


def learned(
    config: dict[str, Any], key: jax.Array, series: jax.Array | None
) -> tuple[nnx.State, dict[str, jax.Array], tuple[jax.Array, jax.Array], jax.Array]:
    """Train a network on a task; the key determines all random draws.

    Returns:
        The state of the network; the mean loss of the last tenth of the batches, its score and the baseline's score; the test
        set; and the losses of all batches.
    """
    data_key, model_key, batch_key = random.split(key, 3)
    learning = classification(config, data_key) if series is None else forecast(config, series)
    model = model_of(config, nnx.Rngs(model_key))
    rate = optax.cosine_decay_schedule(config["learning_rate"], config["batches"])
    objects = (model, nnx.Optimizer(model, optax.adamax(rate), wrt=nnx.Param))

    def train_on(model: Connect, optimizer: nnx.Optimizer, key: jax.Array) -> jax.Array:
        inputs, targets = learning.sample(key)
        return train_offline(model, optimizer, learning.loss_fn, inputs, learning.kind(targets))

    step, state = training_step(objects, train_on)
    state, losses = jax.lax.scan(step, state, random.split(batch_key, config["batches"]))
    nnx.update(objects, state)
    inputs, targets = learning.test_set
    _, outputs = unroll(model, model.initialize_carry(inputs.shape[1:]), inputs)
    numbers = {
        "loss": loss_at_the_end(losses),
        "score": learning.score_fn(outputs, targets),
        "baseline": learning.baseline,
    }
    return nnx.state(model), numbers, learning.test_set, losses


def classification(config: dict[str, Any], key: jax.Array) -> Learning:
    """A classification of spikes: the predicted class has the largest mean output."""
    layers = config["layers"]
    sizes = {"n_units": layers[0], "n_classes": layers[-1]} if config["dataset"] == "randman" else {}
    task_key, test_key = random.split(key)
    task = make_task(config["dataset"], task_key, n_steps=config["n_steps"], code=config["code"], **sizes)
    _check_ends(config, (task.n_units, task.n_classes))
    return Learning(
        loss_fn=cross_entropy,
        score_fn=accuracy,
        kind=PerSequence,
        sample=partial(task.sample, batch_size=config["batch_size"]),
        test_set=held_out(task, test_key, config["test_size"]),
        baseline=1 / task.n_classes,
    )


def series_of(config: dict[str, Any], seed: int) -> jax.Array | None:
    """The series of a forecast, which starts half a Lyapunov time later with each seed, as NeuroBench's repetitions do."""
    if config["dataset"] != "mackey_glass":
        return None
    tau, chaotic = config["tau"], NEUROBENCH_SERIES[config["tau"]]
    points = mackey_glass(
        2 * TEST_STEPS + config["horizon"],
        tau=tau,
        history=chaotic.history,
        interval=chaotic.interval,
        start=tau + seed * chaotic.lyapunov_time / 2,
    )
    return jnp.asarray(points, jnp.float32)


def forecast(config: dict[str, Any], series: jax.Array) -> Learning:
    """A forecast that reads one point of the series per step and predicts a later one; the test set is one sequence."""
    _check_ends(config, (1, 1))
    windows = partial(mackey_glass_windows, series, horizon=config["horizon"])
    inputs, targets = windows(n_steps=config["n_steps"], stride=1)

    def sample(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen = random.choice(key, inputs.shape[1], (config["batch_size"],), replace=False)
        return inputs[:, chosen], targets[:, chosen]

    test_set = windows(n_steps=TEST_STEPS, split="test")
    return Learning(squared_error, smape, PerStep, sample, test_set, baseline=smape(*test_set))


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


def _check_ends(config: dict[str, Any], ends: tuple[int, int]) -> None:
    layers = config["layers"]
    if (layers[0], layers[-1]) != ends:
        raise SystemExit(
            f"The layers of {config['task']} are {layers}, but its data have {ends[0]} inputs and {ends[1]} outputs, which the "
            "first and the last layer have to match."
        )


METRICS = {"digits": "accuracy", "randman": "accuracy", "mackey_glass": "smape"}
