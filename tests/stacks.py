"""Pairs of one network: a stack of the packages, and the layers of the oracle with the same numbers."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import oracle
from slax_neurons import LI, LIF, SURROGATES, Connect, Trainable, connect


class Pair(NamedTuple):
    model: Connect
    layers: list[oracle.Layer]


def linear(n_in: int, n_out: int, seed: int, dtype: Any = jnp.float64) -> nnx.Linear:
    """A Linear with numbers large enough for activity in every layer, its bias included."""
    layer = nnx.Linear(n_in, n_out, rngs=nnx.Rngs(seed), param_dtype=dtype)
    layer.kernel[...] = layer.kernel[...] * 2
    layer.bias[...] = jax.random.uniform(jax.random.key(seed), (n_out,), dtype) / 4
    return layer


def pair(sizes: list[int], neurons: list[dict[str, Any]], *, dtype: Any = jnp.float64) -> Pair:
    """A stack of Linear and neuron with all parameters trainable.

    Args:
        sizes: [7, 5, 4] for two layers.
        neurons: for each layer `{"kind": "lif", "decay": .., "threshold": .., "reset": .., "stop_reset_gradient": ..,
            "surrogate": ..}` or `{"kind": "li", "decay": ..}`.
    """
    modules, layers = [], []
    for index, neuron in enumerate(neurons):
        synapse = linear(sizes[index], sizes[index + 1], index, dtype)
        ours, theirs = _NEURONS[neuron["kind"]](**{k: v for k, v in neuron.items() if k != "kind"}, dtype=dtype)
        modules += [synapse, ours]
        layers.append(oracle.Layer(np.asarray(synapse.kernel[...]), np.asarray(synapse.bias[...]), theirs))
    return Pair(connect(modules), layers)


def inputs(n_steps: int, batch: int, n_in: int, seed: int = 0, dtype: Any = jnp.float64) -> jax.Array:
    return jax.random.bernoulli(jax.random.key(seed), 0.4, (n_steps, batch, n_in)).astype(dtype)


def gradients_of(model: Connect, gradients: nnx.State) -> list[dict[str, np.ndarray]]:
    """The gradients of a stack as the oracle gives them: per layer and name, by the decay and not by its logit."""
    result = []
    for index, module in enumerate(model.modules):
        mine = gradients["modules"].get(index, {})
        if isinstance(module, nnx.Linear):
            result.append({name: np.asarray(mine[name][...]) for name in ("kernel", "bias")})
        else:
            result[-1] |= {name: _by_value(getattr(module, name), mine[name]["unconstrained"][...]) for name in mine}
    return result


def _by_value(parameter: Any, gradient: jax.Array) -> np.ndarray:
    slope = jax.grad(lambda x: parameter.domain.constrain(x).sum())(parameter.unconstrained[...])
    return np.asarray(gradient / slope)


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


def _lif(*, dtype, decay=0.9, threshold=1.0, reset="subtract", stop_reset_gradient=False, surrogate="fast_sigmoid"):
    ours = LIF(
        decay=Trainable(decay),
        threshold=Trainable(threshold),
        reset=reset,
        stop_reset_gradient=stop_reset_gradient,
        spike_fn=SURROGATES[surrogate](),
        param_dtype=dtype,
    )
    spike = getattr(oracle, surrogate)()
    return ours, oracle.LIF(decay, threshold, spike=spike, reset=reset, stop_reset_gradient=stop_reset_gradient)


def _li(*, dtype, decay=0.9):
    return LI(decay=Trainable(decay), param_dtype=dtype), oracle.LI(decay)


_NEURONS = {"lif": _lif, "li": _li}
