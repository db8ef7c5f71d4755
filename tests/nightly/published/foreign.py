"""Runs of other libraries' rules: what was written, and the same net made of the packages."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_neurons import LI, LIF, SURROGATES, Connect, Edge, connect
from slax_rules import RULES, Direct, Target, cross_entropy, gradients
from stacks import dense, gradients_of

DATA = Path(__file__).parent / "data"
DTYPE = {"param_dtype": jnp.float64}
Run = dict[str, np.ndarray]
Gradients = list[dict[str, np.ndarray]]  # by layer and by the names of the oracle


def foreign(name: str) -> Run:
    with np.load(DATA / f"{name}.npz") as file:
        return dict(file)


def their_gradients(run: Run, prefix: str = "gradient") -> Gradients:
    """Those that are there, divided by the number of steps, since our loss is the mean over them.

    Where there are some for several lengths of a chunk, those of chunks of one step.
    """
    layers = []
    for index in range(len(run["decay"])):
        keys = {name: f"{prefix}_{name}_{index}" for name in ("kernel", "bias")}
        if index == 0:
            keys["edge0_kernel"] = f"{prefix}_recurrent"
        layers.append({name: run[key] / len(run["inputs"]) for name, key in keys.items() if key in run})
    if "chunks" in run:
        one = list(run["chunks"]).index(1)
        return [{name: array[one] for name, array in layer.items()} for layer in layers]
    return layers


def model(run: Run) -> Connect:
    """The net made of the packages; a read-out without memory is a Linear with no neuron behind it."""
    modules: list[Any] = []
    for index, (gain, decay) in enumerate(zip(run["gain"], map(float, run["decay"]), strict=True)):
        bias = run.get(f"bias_{index}")
        modules.append(dense(gain * run[f"kernel_{index}"], None if bias is None else gain * bias))
        if run["spiking"][index]:
            options = {"threshold": float(run["threshold"]), "reset": str(run["reset"])}
            options |= {"stop_reset_gradient": bool(run["stop_reset_gradient"])}
            modules.append(LIF(decay=decay, spike_fn=SURROGATES["arctan"](float(run["arctan"])), **options, **DTYPE))
        elif decay:
            modules.append(LI(decay=decay, **DTYPE))
    return connect(modules, [Edge(1, 0, synapse=dense(run["recurrent"]))] if "recurrent" in run else [])


def by_rule(rule: str, run: Run, *, window: int | None = None, **options: Any) -> Gradients:
    """The gradients of a rule of the packages, by layer and name as theirs; `options` are the rule's.

    Three windows at least show all that a local rule does: a trace grows, fades and is read.
    """
    net, inputs, labels = model(run), jnp.asarray(run["inputs"], jnp.float64), jnp.asarray(run["labels"])
    _, found = gradients(net, cross_entropy, inputs, labels, rule=RULES[rule].make(**options), window=window)
    return gradients_of(net, found)


class Given:
    """The matrices [N, C] of a route, by hidden layer."""

    def __init__(self, *matrices: Any):
        self.given = nnx.List([nnx.Variable(jnp.asarray(matrix)) for matrix in matrices])

    def matrix(self, layer, units, size, dtype):
        return self.given[layer.number][...].astype(dtype)


class GivenDirect(Given, Direct):
    pass


class GivenTarget(Given, Target):
    pass
