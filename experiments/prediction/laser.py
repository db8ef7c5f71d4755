"""Predict the next value of a laser in one pass over its series, each value before it is learned, and measure the NMSE.

The NMSE is the squared error divided by the variance of the values. Settings are chosen on the first part of the series; the
numbers come from the rest, on which each network begins anew.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import random

from experiments.common.learning import RATE
from experiments.common.samples import key_of, seeds_of
from slax_data.storage.packed import sets_of_arrays
from slax_data.storage.whole_files import load_arrays
from slax_neurons import LI, LIF, LRU, RTU, Connect, Edge, LeakyRate, connect, fast_sigmoid
from slax_rules import RULES, extend_stream, squared_error, start_stream
from slax_rules.train.sweep_training import COMPILER_OPTIONS

# The rule of each way with another network: a layer of LRU, of RTU, or of rate units.
OTHER_UNITS = {"lru": "ostl", "lru_sltt": "sltt", "rtu": "ostl", "rate_rtrl": "rtrl", "rate_rflo": "rflo"}
ADAM = optax.inject_hyperparams(optax.adam)(learning_rate=1.0)  # one program for all rates


def compute(config: dict[str, Any], spikes: Path) -> dict[str, Any]:
    """ "errors": way, "online", "nmse" or "late", which is that of the last points, and the error of each seed; and the
    "trials" of the learning rate, where there is one."""
    points = np.asarray(sets_of_arrays(load_arrays(spikes))["series"].packed, float).reshape(-1)
    at, way, rates = config["choosing_points"], config["way"], sorted(config["learning_rates"])
    scaled = (points[: config["points"]] - points[:at].mean()) / points[:at].std()
    chooses, follows = scaled[:at], scaled[at:]
    if way == "counted":
        by = partial(ridge, lags=config["lags"])
        best = min(config["penalties"], key=lambda one: measure(config, chooses, by(chooses, penalty=one))["nmse"])
        found = {"persistence": follows[:-1], "ridge": by(follows, penalty=best)}
        return {"errors": errors(config, follows, {name: [of] * config["seeds"] for name, of in found.items()})}
    tried, seeds = (np.array(seeds_of(config, config[name])) for name in ("rate_seeds", "seeds"))
    outputs = predictions(config, chooses, np.repeat(tried, len(rates)), np.tile(rates, len(tried)))
    scores = np.reshape([measure(config, chooses, one)["nmse"] for one in outputs], (len(tried), len(rates)))
    if not np.isfinite(scores).all(axis=0).any():
        raise SystemExit(f"prediction, laser, {way}: no learning rate keeps all predictions finite.")
    best = rates[int(np.nanargmin(scores.mean(axis=0)))]
    outputs = predictions(config, follows, seeds, np.full(len(seeds), best))
    if not np.isfinite(outputs).all():
        raise SystemExit(f"prediction, laser, {way}: a prediction at the rate {best} is not finite.")
    trials = {"learning_rates": rates, "validation": np.nan_to_num(scores).tolist(), "chosen": {RATE: best}}
    return {"trials": trials | {"second": None}, "errors": errors(config, follows, {way: outputs})}


def errors(config: dict[str, Any], series: np.ndarray, predicted: dict[str, Any]) -> list[Any]:
    """The numbers of each way and seed."""
    found = {way: [measure(config, series, one) for one in of_seeds] for way, of_seeds in predicted.items()}
    return [(way, "online", name, [of[name] for of in found[way]]) for way in found for name in ("nmse", "late")]


def measure(config: dict[str, Any], series: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """The NMSE of predictions of all points but the first, without the first `washout` of them, and of the last ones."""

    def nmse(part: slice) -> float:
        target = series[1:][part]
        return float(np.mean((predicted[part] - target) ** 2) / np.var(target))

    return {"nmse": nmse(slice(config["washout"], None)), "late": nmse(slice(-config["late"], None))}


def predictions(config: dict[str, Any], series: np.ndarray, seeds: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """What the network of each seed and rate predicts at each point but the last, with the parameters before the update of its
    window: [S, P - 1]."""
    inputs, targets = (jnp.asarray(part, jnp.float32)[:, None, None] for part in (series[:-1], series[1:]))
    way, window = config["way"], config["online_window"]

    def follow(key: jax.Array, rate: jax.Array) -> jax.Array:
        network_key, rule_key = random.split(key)
        model = network(config, nnx.Rngs(network_key))
        options = {"steps": window} if way == "tbptt" else {}
        rule = RULES[OTHER_UNITS.get(way, way)].make(rngs=nnx.Rngs(rule_key), model=model, **options)
        optimizer = nnx.Optimizer(model, ADAM, wrt=nnx.Param)
        optimizer.opt_state.hyperparams["learning_rate"][...] = rate
        stream = start_stream(model, optimizer, squared_error, (1, 1), rule=rule, window=window)
        return extend_stream(stream, inputs, targets).outputs[:, 0, 0]

    program = jax.jit(jax.vmap(follow), compiler_options=COMPILER_OPTIONS)
    keys = jnp.stack([key_of(int(seed), "start") for seed in seeds])
    return np.asarray(program(keys, jnp.asarray(rates, jnp.float32)))


def network(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """A recurrent layer of LIF, each with its own range of values, and a read-out of LI, as in the tutorial on regression; the
    same of rate units, with a read-out without memory; or, with such a read-out, a layer of LRU and tanh, or of RTU."""
    normal, units, way = nnx.initializers.normal, config["units"], config["way"]
    if way.startswith(("lru", "rtu")):
        kind, behind = (RTU, []) if way == "rtu" else (LRU, [jnp.tanh])
        memory = kind.on_ring(units, r_max=0.99, rngs=rngs)
        return connect([nnx.Linear(1, 2 * units, rngs=rngs), memory, *behind, nnx.Linear(2 * units, 1, rngs=rngs)])
    hidden = nnx.Linear(1, units, kernel_init=normal(1.0), bias_init=normal(0.5), rngs=rngs)
    back = nnx.Linear(units, units, kernel_init=normal(units**-0.5), use_bias=False, rngs=rngs)
    read_out, edges = nnx.Linear(units, 1, rngs=rngs), [Edge(1, 0, synapse=back)]
    if way in OTHER_UNITS:
        return connect([hidden, LeakyRate(decay=config["decay"]), read_out], edges)
    neuron = LIF(decay=config["decay"], spike_fn=fast_sigmoid(config["slope"]))
    return connect([hidden, neuron, read_out, LI(decay=config["read_out_decay"])], edges)


def ridge(series: np.ndarray, lags: int, penalty: float) -> np.ndarray:
    """What ridge regression on the last values, and a constant, predicts of each point from all points before it: recursive
    least squares, with zeros before the first point."""
    past = np.lib.stride_tricks.sliding_window_view(np.pad(series[:-1], (lags - 1, 0)), lags)
    weights, inverse, found = np.zeros(lags + 1), np.eye(lags + 1) / penalty, np.empty(len(past))
    for step, features in enumerate(np.append(past, np.ones((len(past), 1)), axis=1)):
        found[step] = weights @ features
        gain = inverse @ features / (1 + features @ inverse @ features)
        weights += gain * (series[step + 1] - found[step])
        inverse -= np.outer(gain, features @ inverse)
    return found
