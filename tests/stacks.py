"""Pairs of one network: a stack of the packages, and the layers of the oracle with the same numbers, which NumPy draws."""

import dataclasses
import functools
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import oracle
import slax_neurons as sn
from slax_neurons import SURROGATES, Connect, Delay, Edge, Neuron, Trainable, connect

# How the oracle calls parameters that have another name in the packages.
ORACLE_NAMES = {"synapse_decay": "current_decay", "beta": "adaptation"}

# Options of a program whose memory is that of users: conftest.py may turn XLA's fusions for a CPU off, which hides copies.
FUSED = {"xla_cpu_use_fusion_emitters": True} if "fusion_emitters=false" in os.environ.get("XLA_FLAGS", "") else {}


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


def linear(
    n_in: int, n_out: int, seed: int, dtype: Any = jnp.float64, use_bias: bool = True, gain: float = 2.0
) -> nnx.Linear:
    """A Linear with numbers large enough for activity in every layer, its bias included."""
    return nnx.Linear(n_in, n_out, use_bias=use_bias, rngs=nnx.Rngs(0), param_dtype=dtype, **_inits(n_in, seed, gain))


def dense(kernel: Any, bias: Any = None) -> nnx.Linear:
    """A Linear with these weights in float64."""
    layer = nnx.Linear(*kernel.shape, use_bias=bias is not None, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    layer.kernel[...] = jnp.asarray(kernel)
    if bias is not None:
        layer.bias[...] = jnp.asarray(bias)
    return layer


def pair(
    sizes: list[Any],
    neurons: list[dict[str, Any]],
    *,
    edges: Any = (),
    use_bias: bool = True,
    dtype: Any = jnp.float64,
    delays: dict[int, Any] | None = None,
    ends: Any = (),
    gain: float = 2.0,
) -> Pair:
    """A stack of Linear or convolution and neuron, with all parameters trainable.

    Args:
        sizes: [7, 5, 4] for two layers. The first may be a shape, (4, 4, 2), and the others a `Conv` each; there is a module
            that flattens before the first Linear behind convolutions.
        neurons: for each layer `{"kind": "lif", "decay": .., "threshold": .., "reset": .., "stop_reset_gradient": ..,
            "surrogate": ..}`, or another kind with the options of the package's neuron, or `{"kind": "none"}` for a synapse
            alone. Numbers may be arrays. With "fixed": True they are not trainable.
        edges: (sender, receiver, delay) by layers, from neuron to Linear. Their gradients are those of the receiver's
            "edge0_kernel" and "edge0_bias", by their order.
        use_bias: whether synapses, those of edges too, have a bias.
        delays: learned ones before the synapses of some layers, by layer, of inputs as many as they are, at most 5 steps.
        ends: modules behind the last neuron.
        gain: the size of the weights.
    """
    features = sizes[0] if isinstance(sizes[0], tuple) else (sizes[0],)
    modules, layers, places = [], [], []
    for index, (size, options) in enumerate(zip(sizes[1:], neurons, strict=True)):
        if not isinstance(size, Conv) and len(features) > 1:
            modules.append(_flatten)
            features = (int(np.prod(features)),)
        synapse = _synapse(features, size, index, dtype, use_bias, gain)
        ours, theirs, fixed = _neuron(dtype=dtype, **options)
        late = (delays or {}).get(index)
        if late is not None:
            modules.append(Delay(len(late), 5, delays=Trainable(late), param_dtype=dtype))
        convolution = _convolution(synapse, features)
        layers.append(oracle.Layer(*_weights(synapse), theirs, (), convolution, fixed, delays=late))
        features = layers[-1].features
        places.append(len(modules))
        modules += [synapse] if ours is None else [synapse, ours]
    wired = []
    for number, (sender, receiver, delay) in enumerate(edges):
        synapse = linear(layers[sender].size, layers[receiver].size, 100 + number, dtype, use_bias, gain / 2)
        wired.append(Edge(places[sender] + 1, places[receiver], delay, synapse))
        edge = oracle.Edge(sender, delay, *_weights(synapse))
        layers[receiver] = dataclasses.replace(layers[receiver], edges=(*layers[receiver].edges, edge))
    return Pair(connect([*modules, *ends], wired), layers)


def inputs(n_steps: int, batch: int, n_in: int | tuple[int, ...], seed: int = 0, dtype: Any = jnp.float64) -> jax.Array:
    shape = n_in if isinstance(n_in, tuple) else (n_in,)
    return jnp.asarray(np.random.default_rng(seed).uniform(size=(n_steps, batch, *shape)) < 0.4, dtype)


def gradients_of(model: Connect, gradients: nnx.State) -> list[dict[str, np.ndarray]]:
    """The gradients of a stack as the oracle gives them: per layer and name, by the decay and not by its logit."""
    result, layer_of, late = [], {}, {}
    for index, module in enumerate(model.modules):
        mine = gradients["modules"].get(index, {})
        if isinstance(module, nnx.Linear | nnx.Conv):
            layer_of[index] = len(result)
            result.append({name: np.asarray(mine[name][...]) for name in mine} | late)
            late = {}
        elif isinstance(module, Delay):
            late = {"delays": np.asarray(mine["delays"]["unconstrained"][...])[0]} if "delays" in mine else {}
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


def furthest(ours: Any, theirs: Any) -> float:
    """The largest deviation over the leaves of two trees."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(deviation(a, b) for a, b in pairs)


def close(ours: Any, theirs: Any, bound: float = 1e-12) -> None:
    """Asserts that the leaves of two trees are equal up to `bound`, relative and of the largest number or one."""
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound * max(1.0, float(np.abs(b).max())))


def _by_value(parameter: Any, gradient: Any) -> np.ndarray:
    """From the gradient by the number that is trained, x, that by the value v = low + (high - low) sigmoid(x), and so on."""
    value, domain = np.asarray(parameter.value), parameter.domain
    if domain.high < np.inf:
        slope = (value - domain.low) * (domain.high - value) / (domain.high - domain.low)
    else:
        slope = 1 - np.exp(domain.low - value) if domain.low > -np.inf else 1.0
    return np.asarray(gradient) / slope


def _flatten(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def _inits(fan_in: int, seed: int, gain: float) -> dict[str, Any]:
    """Kernels with a standard deviation of gain / sqrt(fan_in), and biases in [0, gain / 8]."""
    rng, width = np.random.default_rng(seed), gain * (3 / fan_in) ** 0.5
    return {
        "kernel_init": lambda key, shape, dtype: jnp.asarray(rng.uniform(-width, width, shape), dtype),
        "bias_init": lambda key, shape, dtype: jnp.asarray(rng.uniform(0, gain / 8, shape), dtype),
    }


def _synapse(features: tuple[int, ...], size: Any, seed: int, dtype: Any, use_bias: bool, gain: float) -> nnx.Module:
    if not isinstance(size, Conv):
        return linear(*features, size, seed, dtype, use_bias, gain)
    return nnx.Conv(
        features[-1],
        size.features,
        size.kernel_size,
        size.strides or (1,) * len(size.kernel_size),
        padding=size.padding,
        feature_group_count=size.groups,
        use_bias=use_bias,
        rngs=nnx.Rngs(0),
        param_dtype=dtype,
        **_inits(int(np.prod(size.kernel_size)) * features[-1] // size.groups, seed, gain),
    )


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
    spikes = kind not in ("li", "leaky_rate")
    form = {"form": "symplectic"} if "q" in options else {}
    form |= {"spike_fn": SURROGATES[surrogate]()} if spikes else {}
    ours = ours(**trainable, **options, **form, param_dtype=dtype)
    theirs = theirs(**renamed, **options, **({"spike": getattr(oracle, surrogate)()} if spikes else {}))
    return ours, theirs, tuple(name for name in theirs.parameters if fixed or name not in renamed)


_ADAPTIVE = {"decay": 0.8, "adaptation_decay": 0.9, "a": 0.2, "b": 0.4, "threshold": 0.9}
_EXPONENTIAL = {"tau": 9.4, "tau_w": 144.0, "a": 0.1, "b": 2.7}
_EXPONENTIAL |= {"v_onset": -50.4, "slope_factor": 2.0, "v_reset": -70.6, "threshold": 20.0}
_NEURONS = {
    "if": (sn.IF, functools.partial(oracle.LIF, 1.0), {"threshold": 1.0}),
    "lif": (sn.LIF, oracle.LIF, {"decay": 0.9, "threshold": 1.0}),
    "li": (sn.LI, oracle.LI, {"decay": 0.9}),
    "leaky_rate": (sn.LeakyRate, oracle.LeakyRate, {"decay": 0.9}),
    "cuba_lif": (sn.CuBaLIF, oracle.CuBaLIF, {"synapse_decay": 0.6, "decay": 0.9, "threshold": 1.0}),
    "alif": (sn.ALIF, oracle.ALIF, {"decay": 0.9, "adaptation_decay": 0.8, "beta": 0.3, "threshold": 1.0}),
    "adlif": (sn.AdLIF, oracle.AdLIF, _ADAPTIVE),
    "izhikevich": (sn.Izhikevich, oracle.Izhikevich, {"a": 0.02, "b": 0.2, "c": -65.0, "d": 8.0, "threshold": 30.0}),
    "adex": (sn.AdEx, oracle.AdEx, _EXPONENTIAL),
    "brf": (sn.BRF, oracle.BRF, {"omega": 30.0, "b_offset": 2.0, "threshold": 0.7, "refractory_decay": 0.8}),
}
