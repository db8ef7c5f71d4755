"""Pairs of one network: a stack of the packages, and the layers of the oracle with the same numbers."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import oracle
from slax_neurons import ALIF, IF, LI, LIF, SURROGATES, Connect, CuBaLIF, Edge, Neuron, Trainable, connect

# How the oracle calls parameters that have another name in the packages.
ORACLE_NAMES = {"synapse_decay": "current_decay", "beta": "adaptation"}


class Pair(NamedTuple):
    model: Connect
    layers: list[oracle.Layer]


class Conv(NamedTuple):
    """A convolution in the place of a size, as in pair([(4, 4, 2), Conv(3, (3, 3)), 4], ...)."""

    features: int
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: str = "SAME"
    groups: int = 1


def linear(n_in: int, n_out: int, seed: int, dtype: Any = jnp.float64, use_bias: bool = True) -> nnx.Linear:
    """A Linear with numbers large enough for activity in every layer, its bias included."""
    return _enlarged(nnx.Linear(n_in, n_out, use_bias=use_bias, rngs=nnx.Rngs(seed), param_dtype=dtype), seed)


def pair(
    sizes: list[Any],
    neurons: list[dict[str, Any]],
    *,
    edges: list[tuple[int, int, int]] = (),
    use_bias: bool = True,
    dtype: Any = jnp.float64,
) -> Pair:
    """A stack of Linear or convolution and neuron, with all parameters trainable.

    Args:
        sizes: [7, 5, 4] for two layers. The first may be a shape, (4, 4, 2), and the others a `Conv` each; there is a module
            that flattens before the first Linear behind convolutions.
        neurons: for each layer `{"kind": "lif", "decay": .., "threshold": .., "reset": .., "stop_reset_gradient": ..,
            "surrogate": ..}`, or of kind "li", "if", "cuba_lif" or "alif" with the options of the package's neuron, or
            `{"kind": "none"}` for a synapse alone. Numbers may be arrays. With "fixed": True they are not trainable.
        edges: (sender, receiver, delay) by layers, from neuron to synapse. Their gradients are those of the receiver's
            "edge0_kernel" and "edge0_bias", by their order.
        use_bias: whether synapses, those of edges too, have a bias.
    """
    features = sizes[0] if isinstance(sizes[0], tuple) else (sizes[0],)
    modules, layers, places = [], [], []
    for index, (size, options) in enumerate(zip(sizes[1:], neurons, strict=True)):
        if not isinstance(size, Conv) and len(features) > 1:
            modules.append(_flatten)
            features = (int(np.prod(features)),)
        synapse = _synapse(features, size, index, dtype, use_bias)
        convolution = _convolution(synapse, features)
        ours, theirs, fixed = _neuron(dtype=dtype, **options)
        layers.append(oracle.Layer(*_weights(synapse), theirs, (), convolution, fixed))
        features = layers[-1].features
        places.append(len(modules))
        modules += [synapse] if ours is None else [synapse, ours]
    wired = [Edge(places[sender] + 1, places[receiver], delay) for sender, receiver, delay in edges]
    model = connect(modules, wired, rngs=nnx.Rngs(100))
    for number, ((sender, receiver, delay), synapse) in enumerate(zip(edges, model.synapses, strict=True)):
        _enlarged(synapse, 100 + number)
        edge = oracle.Edge(sender, delay, *_weights(synapse), _convolution(synapse, layers[sender].features))
        layers[receiver] = dataclasses.replace(layers[receiver], edges=(*layers[receiver].edges, edge))
    return Pair(model, layers)


def inputs(n_steps: int, batch: int, n_in: int | tuple[int, ...], seed: int = 0, dtype: Any = jnp.float64) -> jax.Array:
    shape = n_in if isinstance(n_in, tuple) else (n_in,)
    return jax.random.bernoulli(jax.random.key(seed), 0.4, (n_steps, batch, *shape)).astype(dtype)


def gradients_of(model: Connect, gradients: nnx.State) -> list[dict[str, np.ndarray]]:
    """The gradients of a stack as the oracle gives them: per layer and name, by the decay and not by its logit."""
    result, layer_of = [], {}
    for index, module in enumerate(model.modules):
        mine = gradients["modules"].get(index, {})
        if isinstance(module, nnx.Linear | nnx.Conv):
            layer_of[index] = len(result)
            result.append({name: np.asarray(mine[name][...]) for name in mine})
        elif isinstance(module, Neuron):
            result[-1] |= {
                ORACLE_NAMES.get(name, name): _by_value(getattr(module, name), mine[name]["unconstrained"][...])
                for name in mine
            }
    numbers = [0] * len(result)
    for number, edge in enumerate(model.edges):
        layer = layer_of[edge.receiver]
        mine = gradients["synapses"][number]
        result[layer] |= {f"edge{numbers[layer]}_{name}": np.asarray(mine[name][...]) for name in mine}
        numbers[layer] += 1
    return result


def deviation(ours: Any, theirs: Any) -> float:
    """max |a - b| / max |b| of two arrays, max |a| where b is 0."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / (np.abs(theirs).max() or 1))


def worst(ours: list[dict[str, np.ndarray]], theirs: list[dict[str, np.ndarray]]) -> float:
    """The largest deviation over all layers and parameters."""
    assert [set(layer) for layer in ours] == [set(layer) for layer in theirs]
    pairs = zip(ours, theirs, strict=True)
    return max(deviation(a[name], b[name]) for a, b in pairs for name in b)


def _by_value(parameter: Any, gradient: jax.Array) -> np.ndarray:
    slope = jax.grad(lambda x: parameter.domain.constrain(x).sum())(parameter.unconstrained[...])
    return np.asarray(gradient / slope)


def _flatten(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def _synapse(features: tuple[int, ...], size: Any, seed: int, dtype: Any, use_bias: bool) -> nnx.Module:
    if not isinstance(size, Conv):
        return linear(*features, size, seed, dtype, use_bias)
    synapse = nnx.Conv(
        features[-1],
        size.features,
        size.kernel_size,
        size.strides or (1,) * len(size.kernel_size),
        padding=size.padding,
        feature_group_count=size.groups,
        use_bias=use_bias,
        rngs=nnx.Rngs(seed),
        param_dtype=dtype,
    )
    return _enlarged(synapse, seed)


def _enlarged(synapse: Any, seed: int) -> Any:
    synapse.kernel[...] = synapse.kernel[...] * 2
    if synapse.bias is not None:
        bias = synapse.bias[...]
        synapse.bias[...] = jax.random.uniform(jax.random.key(seed), bias.shape, bias.dtype) / 4
    return synapse


def _weights(synapse: Any) -> tuple[np.ndarray, np.ndarray | None]:
    return np.asarray(synapse.kernel[...]), None if synapse.bias is None else np.asarray(synapse.bias[...])


def _convolution(synapse: Any, features: tuple[int, ...]) -> oracle.Convolution | None:
    """The oracle's geometry of a convolution of inputs [*features]."""
    if isinstance(synapse, nnx.Linear):
        return None
    return oracle.Convolution(features, tuple(synapse.strides), synapse.padding, synapse.feature_group_count)


def _neuron(
    *, kind: str, dtype: Any, fixed: bool = False, surrogate: str = "fast_sigmoid", **options: Any
) -> tuple[Any, oracle.Neuron, tuple[str, ...]]:
    """The package's neuron, the oracle's, and which of the latter's parameters are not trainable."""
    if kind == "none":
        return None, oracle.Dense(), ()
    ours, theirs, defaults = _NEURONS[kind]
    values = defaults | {name: options.pop(name) for name in list(options) if name in defaults}
    trainable = {name: value if fixed else Trainable(value) for name, value in values.items()}
    renamed = {ORACLE_NAMES.get(name, name): value for name, value in values.items()}
    spikes = kind != "li"
    ours = ours(**trainable, **options, **({"spike_fn": SURROGATES[surrogate]()} if spikes else {}), param_dtype=dtype)
    theirs = theirs(**renamed, **options, **({"spike": getattr(oracle, surrogate)()} if spikes else {}))
    return ours, theirs, tuple(name for name in theirs.parameters if fixed or name not in renamed)


_NEURONS = {
    "if": (IF, functools.partial(oracle.LIF, 1.0), {"threshold": 1.0}),
    "lif": (LIF, oracle.LIF, {"decay": 0.9, "threshold": 1.0}),
    "li": (LI, oracle.LI, {"decay": 0.9}),
    "cuba_lif": (CuBaLIF, oracle.CuBaLIF, {"synapse_decay": 0.6, "decay": 0.9, "threshold": 1.0}),
    "alif": (ALIF, oracle.ALIF, {"decay": 0.9, "adaptation_decay": 0.8, "beta": 0.3, "threshold": 1.0}),
}
