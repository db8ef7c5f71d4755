"""The networks that several experiments train, and their checkpoints."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_neurons import LI, LIF, Connect, connect
from slax_neurons.initialization import fluctuation_driven
from slax_rules.train.agreement import by_path

Trajectory = Sequence[nnx.State]  # checkpoints of one rule, in order


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


def demo_model(layers: Sequence[int], rngs: nnx.Rngs) -> Connect:
    """The network of slax's demos: LIF after each Linear, including the last, and Flax's default weights."""
    sizes = itertools.pairwise(layers)
    return connect([module for n_in, n_out in sizes for module in (nnx.Linear(n_in, n_out, rngs=rngs), LIF())])


def paths_of(model: nnx.Module, arrays: Mapping[str, np.ndarray], seed: int) -> Trajectory:
    """The checkpoints of one seed as states like the model's. Arrays are matched by path, never by order."""
    params = nnx.state(model, nnx.Param)
    structure = jax.tree.structure(params)
    expected = {path: leaf.shape for path, leaf in by_path(params).items()}
    found = {path: array.shape[2:] for path, array in arrays.items()}
    if found != expected:
        raise SystemExit(
            f"The checkpoints have parameters of shapes {found}, expected {expected}: they were made with another "
            "configuration. Train again."
        )
    of_seed = [arrays[path][seed] for path in expected]
    return [jax.tree.unflatten(structure, [jnp.asarray(array[i]) for array in of_seed]) for i in range(len(of_seed[0]))]
