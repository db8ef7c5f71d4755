"""Runs of other libraries' rules: what was written, as the oracle takes it, and the same net made of the packages."""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

import oracle
from slax_neurons import LI, LIF, SURROGATES, Connect, Edge, connect
from slax_rules import RULES, Direct, Target, cross_entropy, gradients
from stacks import gradients_of

DATA = Path(__file__).parent / "data"


class Foreign(NamedTuple):
    """A run of another library.

    Args:
        data: all that it wrote.
        layers: its net.
        inputs: [T, B, I].
        signal: its loss, as the oracle takes it.
        theirs: its gradients, divided by the number of steps: here the loss is the mean over them.
    """

    data: dict[str, np.ndarray]
    layers: list[oracle.Layer]
    inputs: np.ndarray
    signal: Any
    theirs: oracle.Gradients


def foreign(name: str) -> Foreign:
    with np.load(DATA / f"{name}.npz") as file:
        data = dict(file)
    layers = []
    for index, gain in enumerate(data["gain"]):
        bias = data.get(f"bias_{index}")
        neuron = _neuron(data, index)
        edges = (oracle.Edge(0, 1, data["recurrent"]),) if "recurrent" in data and index == 0 else ()
        layers.append(
            oracle.Layer(
                data[f"kernel_{index}"] * gain,
                None if bias is None else bias * gain,
                neuron,
                edges=edges,
                fixed=neuron.parameters,
            )
        )
    inputs, signal = data["inputs"].astype(np.float64), oracle.softmax_cross_entropy(data["labels"])
    return Foreign(data, layers, inputs, signal, their_gradients(data, "gradient"))


def their_gradients(data: dict[str, np.ndarray], prefix: str) -> oracle.Gradients:
    """Those that are there, by layer and by the oracle's names."""
    n_steps = len(data["inputs"])
    layers = []
    for index in range(len(data["decay"])):
        keys = {name: f"{prefix}_{name}_{index}" for name in ("kernel", "bias")}
        if index == 0:
            keys["edge0_kernel"] = f"{prefix}_recurrent"
        layers.append({name: data[key] / n_steps for name, key in keys.items() if key in data})
    return layers


def step_by_step(run: Foreign) -> oracle.Gradients:
    """Their gradients; where there are some for several lengths of a chunk, those of chunks of one step."""
    if "chunks" not in run.data:
        return run.theirs
    one = list(run.data["chunks"]).index(1)
    return [{name: array[one] for name, array in layer.items()} for layer in run.theirs]


def model(run: Foreign) -> Connect:
    """The net made of the packages; a read-out without memory is a Linear with no neuron behind it."""
    modules: list[Any] = []
    for index, layer in enumerate(run.layers):
        modules.append(_linear(layer.kernel, layer.bias))
        decay = float(layer.neuron.decay)
        if run.data["spiking"][index]:
            options = {
                "threshold": float(run.data["threshold"]),
                "reset": str(run.data["reset"]),
                "stop_reset_gradient": bool(run.data["stop_reset_gradient"]),
                "spike_fn": SURROGATES["arctan"](float(run.data["arctan"])),
            }
            modules.append(LIF(decay=decay, param_dtype=jnp.float64, **options))
        elif decay:
            modules.append(LI(decay=decay, param_dtype=jnp.float64))
    edges = [Edge(1, 0, synapse=_linear(edge.kernel, edge.bias)) for edge in run.layers[0].edges]
    return connect(modules, edges)


def by_rule(rule: str, run: Foreign, *, window: int | None = None, **options: Any) -> oracle.Gradients:
    """The gradients of a rule of the packages, by layer and name as `Foreign.theirs`; `options` are the rule's.

    Three windows at least show all that a local rule does: a trace grows, fades and is read.
    """
    net, inputs, labels = model(run), jnp.asarray(run.inputs), jnp.asarray(run.data["labels"])
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


def _neuron(data, index):
    decay = data["decay"][index]
    if not data["spiking"][index]:
        return oracle.LI(decay) if decay else oracle.Dense()
    spike = oracle.arctan(float(data["arctan"]))
    return oracle.LIF(decay, data["threshold"], spike, str(data["reset"]), bool(data["stop_reset_gradient"]))


def _linear(kernel, bias):
    layer = nnx.Linear(*kernel.shape, use_bias=bias is not None, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    layer.kernel[...] = jnp.asarray(kernel)
    if bias is not None:
        layer.bias[...] = jnp.asarray(bias)
    return layer
