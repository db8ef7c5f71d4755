"""The task named in a configuration, either drawn for each seed or read from stored spikes, and the network that learns it."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import random

from slax_data import Task, make_task, stored_task
from slax_data.sets.images import stratified_holdout_mask
from slax_data.storage.packed import sets_of_arrays
from slax_data.storage.whole_files import load_arrays
from slax_neurons import LI, LIF, Connect, Edge, connect
from slax_neurons.initialization import fluctuation_driven
from slax_rules.train.agreement import by_path

Trajectory = Sequence[nnx.State]  # checkpoints of one rule, in order


def task_maker(config: dict[str, Any], spikes: Path | None) -> Callable[[jax.Array], Task]:
    """A function that makes a seed's task from a key, with the splits "train", "validation" and "test".

    A task with samples without end has the splits "train" and "test" alone: new samples of the training split are its
    validation. If the configuration names a file of spikes, all seeds share its task.
    """
    if "spikes" in config:
        sets = sets_of_arrays(load_arrays(spikes))
        stored = stored_task(sets, n_classes=config["layers"][-1], padding="silence")
        check_layers(config, stored)
        return for_all_seeds(stored if "validation" in sets else with_validation(stored))
    sizes = (
        {"n_units": config["layers"][0], "n_classes": config["layers"][-1]} if config["dataset"] == "randman" else {}
    )
    made = partial(make_task, config["dataset"], n_steps=config["n_steps"], code=config["code"], **sizes)
    some = made(random.key(0))
    check_layers(config, some)
    return made if some.full_split is None else for_all_seeds(with_validation(some))


def for_all_seeds(task: Task) -> Callable[[jax.Array], Task]:
    """A function that gives each seed the same task, whose splits are unpacked once."""
    same = replace(task, full_split=cache(task.full_split))
    return lambda key: same


def with_validation(task: Task) -> Task:
    """The task with the fifth, tenth, ... training sample of each class in a split "validation", and no longer in "train".

    Its spikes are those of `full_split`, also in a code that draws them.

    The program stops if the inputs are not spikes, zeros and ones.
    """
    train, labels = recordings("train", *task.full_split("train"))
    is_left_out = stratified_holdout_mask(labels)
    splits = {
        "train": (train[~is_left_out], labels[~is_left_out]),
        "validation": (train[is_left_out], labels[is_left_out]),
        "test": recordings("test", *task.full_split("test")),
    }
    return stored_task(splits, n_classes=task.n_classes)


def recordings(split: str, spikes: jax.Array, labels: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """The spikes [T, D, N] of a split as booleans [D, T, N], and its labels [D]."""
    inputs = np.asarray(spikes)
    if ((inputs != 0) & (inputs != 1)).any():
        raise SystemExit(
            f"The split {split!r} of the task has inputs other than 0 and 1, expected spikes: only these are stored with a "
            "split for validation. Choose a code that makes spikes."
        )
    return inputs.astype(bool).swapaxes(0, 1), np.asarray(labels)


def check_layers(config: dict[str, Any], task: Task) -> None:
    """Stop unless the layers and steps of the configuration match the data."""
    got, expected = (config["layers"][0], config["layers"][-1]), (task.n_units, task.n_classes)
    if got != expected or config["n_steps"] != task.n_steps:
        raise SystemExit(
            f"The layers of {config['task']} are {config['layers']}, in {config['n_steps']} steps, but its data have "
            f"{task.n_units} units and {task.n_classes} classes, in {task.n_steps} steps, which they have to match."
        )


def make_model(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """A stack of Linear and LIF for each pair of sizes, with LI in place of the last LIF; its weights make hidden layers fire.

    The configuration provides `layers`, `input_rate` and `initial_rate`, and optionally `decay` and `read_out_decay`, the
    decays of LIF and LI.
    """
    sizes = list(itertools.pairwise(config["layers"]))
    lif = {"decay": config["decay"]} if "decay" in config else {}
    li = {"decay": config["read_out_decay"]} if "read_out_decay" in config else {}
    modules: list[nnx.Module] = []
    for index, (n_in, n_out) in enumerate(sizes[:-1]):
        rate = config["initial_rate"] if index else config["input_rate"]
        kernel_init = fluctuation_driven(LIF(**lif), rate=rate)
        modules += [nnx.Linear(n_in, n_out, kernel_init=kernel_init, rngs=rngs), LIF(**lif)]
    return connect([*modules, nnx.Linear(*sizes[-1], rngs=rngs), LI(**li)])


def with_own_spikes(model: Connect, rngs: nnx.Rngs) -> Connect:
    """The stack of `make_model` whose first layer also gets its own spikes, one step later."""
    size = model.modules[0].out_features
    own = nnx.Linear(size, size, use_bias=False, kernel_init=nnx.initializers.orthogonal(), rngs=rngs)
    return connect([*model.modules], [Edge(1, 0, synapse=own)])


def demo_model(layers: Sequence[int], rngs: nnx.Rngs, **lif: Any) -> Connect:
    """The network of slax's demos: LIF after each Linear, including the last, and Flax's default weights."""
    pairs = ((nnx.Linear(*sizes, rngs=rngs), LIF(**lif)) for sizes in itertools.pairwise(layers))
    return connect(list(itertools.chain.from_iterable(pairs)))


def paths_of(model: nnx.Module, arrays: Mapping[str, np.ndarray], seed: int) -> Trajectory:
    """The checkpoints of one seed as states like the model's. Arrays are matched by path, never by order."""
    params = nnx.state(model, nnx.Param)
    structure = jax.tree.structure(params)
    of_seed = [arrays[path][seed] for path in by_path(params)]
    return [jax.tree.unflatten(structure, [jnp.asarray(array[i]) for array in of_seed]) for i in range(len(of_seed[0]))]
