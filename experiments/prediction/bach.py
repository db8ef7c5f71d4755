"""Learn from pieces by Bach which of the 88 keys of a piano sound in the next step, and measure the error in nats per step.

The error is the sum over keys of the binary cross entropy, on test pieces that run from their first step to their last.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.scipy.special import logit

from experiments.common.learning import Update, finite_runs, online_window, trials_of
from experiments.common.samples import seeds_of
from experiments.common.tasks import make_model
from slax_data import SpikeTrains
from slax_data.storage.packed import sets_of_arrays
from slax_data.storage.whole_files import load_arrays
from slax_neurons import LRU, Connect, connect, unroll
from slax_rules import RULES, sweep

RULE_OF = {"lru": "ostl"}  # of each way with another network, except for BPTT
Pieces = tuple[np.ndarray, np.ndarray, np.ndarray]  # inputs and targets [T, D, 88], and which steps count [T, D]


def compute(config: dict[str, Any], spikes: Path) -> dict[str, Any]:
    """ "errors": way, way of updating, "nats", and the error of each seed in each test piece, whose mean is per step; and the
    "trials" of the learning rate and the number of "parameters", where there are any."""
    sets = {name: whole(one, config["pieces"]) for name, one in sets_of_arrays(load_arrays(spikes)).items()}
    way = config["way"]
    if way == "counted":
        found = counted(sets["train"], sets["test"])
        return {"errors": [(name, "offline", "nats", [of.tolist()] * config["seeds"]) for name, of in found.items()]}
    rule = RULE_OF.get(way, way)
    updates = RULES[rule].updates if rule in RULES else ("offline",)
    learned = {update: learn(config, update, sets) for update in updates}
    sizes = map(jnp.size, jax.tree.leaves(nnx.state(network(config, nnx.Rngs(0)), nnx.Param)))
    return {
        "trials": {update: trials for update, (trials, _) in learned.items()},
        "errors": [(way, update, "nats", errors) for update, (_, errors) in learned.items()],
        "parameters": sum(sizes),
    }


def whole(trains: SpikeTrains, most: int | None = None) -> Pieces:
    """Some of the pieces, or all of them: the targets of a step are the keys of the next one."""
    keys = np.asarray(trains.values(trains.packed[:most]), np.float32).swapaxes(0, 1)
    return keys[:-1], keys[1:], np.arange(1, len(keys))[:, None] < np.asarray(trains.lengths[:most])


def cut(pieces: Pieces, n_steps: int) -> Pieces:
    """The pieces in samples of a number of steps, the last one of a piece with steps that do not count."""

    def parts(array: np.ndarray) -> np.ndarray:
        padded = np.pad(array, [(0, -len(array) % n_steps)] + [(0, 0)] * (array.ndim - 1))
        return np.concatenate(padded.reshape(-1, n_steps, *array.shape[1:]), axis=1)

    counts = parts(pieces[2]).any(axis=0)
    inputs, targets, mask = (parts(array)[:, counts] for array in pieces)
    return inputs, targets, mask


def nats(outputs: Any, keys: Any) -> jax.Array:
    """The error of a step: the sum over keys of the binary cross entropy of the outputs, log odds."""
    return optax.sigmoid_binary_cross_entropy(outputs, keys).sum(axis=-1)


def by_piece(outputs: Any, keys: Any, mask: Any) -> jax.Array:
    """The errors of the steps of each piece, divided by the steps of a mean piece: their mean is the error per step."""
    return jnp.sum(nats(outputs, keys), axis=0, where=mask) * mask.shape[1] / mask.sum()


@nnx.jit
def errors_of(model: Connect, pieces: Pieces) -> jax.Array:
    inputs, *others = pieces
    return by_piece(unroll(model, model.initialize_carry(inputs.shape[1:]), inputs)[1], *others)


def counted(train: Pieces, test: Pieces) -> dict[str, jax.Array]:
    """The errors of two predictions that are counted in the training pieces: how often a key sounds, whatever came before, and
    how often any key sounds that sounded in the step before, or that did not."""
    inputs, keys, mask = train
    before, after = inputs[mask] > 0, keys[mask]
    stays, comes = (np.mean(after, where=where) for where in (before, ~before))
    least = 0.5 / len(after)  # for a key that never sounds
    shares = {
        "frequencies": np.broadcast_to(after.mean(axis=0), test[0].shape),
        "persistence": np.where(test[0] > 0, stays, comes),
    }
    return {name: by_piece(logit(of.clip(least, 1 - least)), *test[1:]) for name, of in shares.items()}


def network(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """Layers of LIF and a read-out of LI; or a GRU, or LRU and tanh, and a linear read-out; or a linear map of the present
    keys."""
    (n_keys, *_), units = config["layers"], config["gru_units"]
    if config["way"] == "lru":
        units = config["lru_units"]
        memory = LRU.on_ring(units, r_max=0.99, rngs=rngs)
        ends = nnx.Linear(n_keys, 2 * units, rngs=rngs), nnx.Linear(2 * units, n_keys, rngs=rngs)
        return connect([ends[0], memory, jnp.tanh, ends[1]])
    if config["way"] == "bigram":
        return connect([nnx.Linear(n_keys, n_keys, rngs=rngs)])
    if config["way"] == "gru":
        return connect([nnx.GRUCell(n_keys, units, rngs=rngs), nnx.Linear(units, n_keys, rngs=rngs)])
    return make_model(config, rngs)


def learn(config: dict[str, Any], update: Update, sets: dict[str, Pieces]) -> tuple[dict[str, Any], list[Any]]:
    """The trials of the learning rate, and the error of the network of each seed at its end in each test piece."""
    train, way = cut(sets["train"], config["n_steps"]), config["way"]
    name = RULE_OF.get(way, way if way in RULES else "bptt")
    make = RULES[name].make

    def batches(seed: int) -> Iterator[Pieces]:
        draws = np.random.default_rng(seed)
        for _ in range(config["steps"]):
            rows = draws.choice(train[0].shape[1], config["batch_size"], replace=False)
            inputs, keys, mask = (array[:, rows] for array in train)
            yield inputs, keys, mask

    found = sweep(
        partial(network, config), optax.adam, nats, batches,
        rules={f"prediction, bach, {way} {update}": make}, rates=config["learning_rates"],
        seeds=seeds_of(config), trial_seeds=config["rate_seeds"], validation=[sets["validation"]],
        metric=lambda *batch: by_piece(*batch).mean(), mode="min", update=update,
        window=online_window({"rule": name} | config, make(rngs=nnx.Rngs(0))) if update == "online" else None,
    )  # fmt: skip
    runs = finite_runs(found)
    return trials_of(found, runs[0].rate), [errors_of(run.network()[0], sets["test"]).tolist() for run in runs]
