"""Spike functions: a Heaviside step in the forward pass, a smooth surrogate derivative in the backward pass.

A spike function maps the distance to the threshold, x = v - threshold, to spikes s = H(x) with H(0) = 1. Its derivative is
replaced by the derivative of the surrogate, in forward mode and in reverse mode (Neftci, Mostafa, Zenke: Surrogate
gradient learning in spiking neural networks, 2019, doi 10.1109/MSP.2019.2931595).

`SURROGATES` maps names to the functions that make spike functions; a spike function of your own is
`Surrogate(derivative)`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from slax_neurons.named import Named
from slax_neurons.parameter import positive

SpikeFunction = Callable[[Array], Array]


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """A spike function, s = H(x), whose derivative is `derivative(x, *options)`.

    Two spike functions with the same derivative and options are equal, so that a model built twice is traced only once. The
    second derivative of a spike is the derivative of `derivative`, and so on, also inside loops. (Inside loops, JAX drops the
    rule of a spike function made by `jax.custom_jvp` from the derivative of a gradient.)

    Args:
        derivative: maps x, an array, to the surrogate of ds/dx, an array of the same shape and dtype, element by element.
        options: further arguments of `derivative`, in order; numbers.

    Raises:
        TypeError: where the surrogate is used, a derivative of another shape or dtype.

    Example:
        A custom spike function.

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LIF, Surrogate
        >>> def exponential(x, width):
        ...     return jnp.exp(-jnp.abs(x) / width)
        >>> neuron = LIF(spike_fn=Surrogate(exponential, (0.5,)))
        >>> x = jnp.array([-0.5, 0.0, 0.5])
        >>> neuron.spike_fn(x).tolist()
        [0.0, 1.0, 1.0]
        >>> slopes = jax.vmap(jax.grad(neuron.spike_fn))(x)
        >>> [round(slope, 2) for slope in slopes.tolist()]
        [0.37, 1.0, 0.37]
    """

    derivative: Callable[..., Array]
    options: tuple[float, ...] = ()

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        return spike_p.bind(jnp.asarray(x), surrogate=self)


def _heaviside(x: Array) -> Array:
    return (x >= 0).astype(x.dtype)


# A primitive and not a `jax.custom_jvp`, whose rule JAX (0.10 to 0.12) drops from the derivative of a gradient in loops.
spike_p = Primitive("spike")
_heaviside_now = jax.jit(_heaviside)


def _spike_jvp(primals: tuple[Any], tangents: tuple[Any], *, surrogate: Surrogate) -> tuple[Array, Array]:
    x = jnp.asarray(primals[0])  # JAX may give a literal
    slope = surrogate.derivative(x, *surrogate.options)
    if jnp.shape(slope) != x.shape or jnp.result_type(slope) != x.dtype:
        made = f"{jnp.result_type(slope)}{list(jnp.shape(slope))} of x {x.dtype}{list(x.shape)}"
        raise TypeError(f"{surrogate.derivative} of a Surrogate made {made}, expected the same shape and dtype.")
    return spike_p.bind(x, surrogate=surrogate), slope * tangents[0]


def _spike_batch(arguments: Sequence[Array], axes: Sequence[int], *, surrogate: Surrogate) -> tuple[Array, int]:
    return spike_p.bind(*arguments, surrogate=surrogate), *axes


spike_p.def_impl(lambda x, surrogate: _heaviside_now(x))
spike_p.def_abstract_eval(lambda x, surrogate: x.update(weak_type=False))
mlir.register_lowering(spike_p, mlir.lower_fun(lambda x, surrogate: _heaviside(x), multiple_results=False))
ad.primitive_jvps[spike_p] = _spike_jvp
batching.primitive_batchers[spike_p] = _spike_batch


def fast_sigmoid(slope: float = 25.0) -> Surrogate:
    """The derivative of a fast sigmoid, rescaled to the peak 1. Its integral is 2 / slope.

        ds/dx = 1 / (slope |x| + 1)^2

    Args:
        slope: sharpness, > 0.

    Raises:
        ValueError: a slope that is not positive.

    References:
        Zenke, Ganguli: SuperSpike, 2018, doi 10.1162/neco_a_01086.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LIF, fast_sigmoid
        >>> neuron = LIF(spike_fn=fast_sigmoid(slope=10.0))
        >>> slopes = jax.vmap(jax.grad(neuron.spike_fn))(jnp.array([-0.1, 0.0, 0.1]))
        >>> [round(slope, 2) for slope in slopes.tolist()]
        [0.25, 1.0, 0.25]
    """
    return Surrogate(_fast_sigmoid, (positive("fast_sigmoid", "slope", slope),))


def _fast_sigmoid(x: Array, slope: float) -> Array:
    distance = x * jnp.sign(x)  # |x|, whose derivative at 0 is 0, by symmetry, where that of jnp.abs is 1
    return 1 / jnp.square(slope * distance + 1)


def super_spike(beta: float = 10.0) -> Surrogate:
    """The derivative of a fast sigmoid, not rescaled, of SuperSpike. Its peak is beta, its integral 2.

        ds/dx = beta / (beta |x| + 1)^2

    Args:
        beta: sharpness, > 0.

    Raises:
        ValueError: a beta that is not positive.

    References:
        Zenke, Ganguli: SuperSpike, 2018, doi 10.1162/neco_a_01086.

    Note:
        `fast_sigmoid` divides this by its peak, which keeps gradients through many layers from growing with the sharpness.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LIF, super_spike
        >>> neuron = LIF(spike_fn=super_spike(beta=10.0))
        >>> slopes = jax.vmap(jax.grad(neuron.spike_fn))(jnp.array([-0.1, 0.0, 0.1]))
        >>> [round(slope, 2) for slope in slopes.tolist()]
        [2.5, 10.0, 2.5]
    """
    return Surrogate(_super_spike, (positive("super_spike", "beta", beta),))


def _super_spike(x: Array, beta: float) -> Array:
    return beta * _fast_sigmoid(x, beta)


def sigmoid(beta: float = 4.0) -> Surrogate:
    """The derivative of the logistic function g. Its peak is beta / 4, its integral 1.

        ds/dx = beta g(beta x) (1 - g(beta x)),    g(x) = 1 / (1 + exp(-x))

    Args:
        beta: sharpness, > 0.

    Raises:
        ValueError: a beta that is not positive.

    References:
        Neftci, Mostafa, Zenke: Surrogate gradient learning in spiking neural networks, 2019, doi 10.1109/MSP.2019.2931595.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LIF, sigmoid
        >>> neuron = LIF(spike_fn=sigmoid(beta=4.0))
        >>> slopes = jax.vmap(jax.grad(neuron.spike_fn))(jnp.array([-0.5, 0.0, 0.5]))
        >>> [round(slope, 2) for slope in slopes.tolist()]
        [0.42, 1.0, 0.42]
    """
    return Surrogate(_sigmoid, (positive("sigmoid", "beta", beta),))


def _sigmoid(x: Array, beta: float) -> Array:
    return beta * jax.nn.sigmoid(beta * x) * jax.nn.sigmoid(-beta * x)


def gaussian(width: float = 0.5) -> Surrogate:
    """The normal density of mean 0 and standard deviation width. Its peak is 0.3989 / width, its integral 1.

        ds/dx = N(x; 0, width) = exp(-(x / width)^2 / 2) / (width sqrt(2 pi))

    Args:
        width: standard deviation, > 0.

    Raises:
        ValueError: a width that is not positive.

    References:
        Yin, Corradi, Bohte: Effective and efficient computation with multiple-timescale spiking recurrent neural networks,
        2020, arXiv 2005.11633.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LIF, gaussian
        >>> neuron = LIF(spike_fn=gaussian(width=0.5))
        >>> slopes = jax.vmap(jax.grad(neuron.spike_fn))(jnp.array([-0.5, 0.0, 0.5]))
        >>> [round(slope, 2) for slope in slopes.tolist()]
        [0.48, 0.8, 0.48]
    """
    return Surrogate(_gaussian, (positive("gaussian", "width", width),))


def _gaussian(x: Array, width: float) -> Array:
    return _normal_density(x, 0.0, width)


def triangular(height: float = 0.3, width: float = 1.0) -> Surrogate:
    """A triangle: height at the threshold, and 0 at a distance of width and beyond. Its integral is height * width.

        ds/dx = height max(0, 1 - |x| / width)

    Args:
        height: peak, > 0.
        width: distance at which the surrogate reaches 0, > 0.

    Raises:
        ValueError: a height or a width that is not positive.

    References:
        Bellec et al.: Long short-term memory and learning-to-learn in networks of spiking neurons, 2018, arXiv 1803.09574,
        for a peak below 1, which dampens gradients over many steps.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LIF, triangular
        >>> neuron = LIF(spike_fn=triangular(height=0.3, width=1.0))
        >>> slopes = jax.vmap(jax.grad(neuron.spike_fn))(jnp.array([-1.0, -0.5, 0.0, 0.5, 1.0]))
        >>> [round(slope, 2) for slope in slopes.tolist()]
        [0.0, 0.15, 0.3, 0.15, 0.0]
    """
    return Surrogate(_triangular, (positive("triangular", "height", height), positive("triangular", "width", width)))


def _triangular(x: Array, height: float, width: float) -> Array:
    return height * jnp.maximum(0, 1 - x * jnp.sign(x) / width)  # |x|, as in _fast_sigmoid


def boxcar(width: float = 0.5, height: float = 1.0) -> Surrogate:
    """A box: height up to a distance of width from the threshold, and 0 beyond. Its integral is 2 * height * width.

        ds/dx = height if |x| <= width else 0

    Args:
        width: half the width of the box, > 0.
        height: its height, > 0.

    Raises:
        ValueError: a width or a height that is not positive.

    References:
        Kaiser, Mostafa, Neftci: Synaptic plasticity dynamics for deep continuous local learning (DECOLLE), 2020,
        doi 10.3389/fnins.2020.00424.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LIF, boxcar
        >>> neuron = LIF(spike_fn=boxcar(width=0.5))
        >>> slopes = jax.vmap(jax.grad(neuron.spike_fn))(jnp.array([-0.75, -0.5, 0.0, 0.5, 0.75]))
        >>> slopes.tolist()
        [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    return Surrogate(_boxcar, (positive("boxcar", "width", width), positive("boxcar", "height", height)))


def _boxcar(x: Array, width: float, height: float) -> Array:
    return jnp.where(jnp.abs(x) <= width, jnp.asarray(height, x.dtype), jnp.zeros((), x.dtype))


def arctan(alpha: float = 2.0) -> Surrogate:
    """The derivative of the arctangent. Its peak is alpha / 2, its integral 1.

        ds/dx = (alpha / 2) / (1 + (pi alpha x / 2)^2)

    Args:
        alpha: sharpness, > 0.

    Raises:
        ValueError: an alpha that is not positive.

    References:
        Fang et al.: Incorporating learnable membrane time constant to enhance learning of spiking neural networks, 2021,
        arXiv 2007.05785.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LIF, arctan
        >>> neuron = LIF(spike_fn=arctan(alpha=2.0))
        >>> slopes = jax.vmap(jax.grad(neuron.spike_fn))(jnp.array([-0.5, 0.0, 0.5]))
        >>> [round(slope, 2) for slope in slopes.tolist()]
        [0.29, 1.0, 0.29]
    """
    return Surrogate(_arctan, (positive("arctan", "alpha", alpha),))


def _arctan(x: Array, alpha: float) -> Array:
    return alpha / 2 / (1 + jnp.square(math.pi / 2 * alpha * x))


def multi_gaussian(gamma: float = 0.5, width: float = 0.3, scale: float = 6.0, height: float = 0.15) -> Surrogate:
    """A normal density with two negative flanks. With the default options, the peak is 0.7319 at x = 0.

        ds/dx = gamma ((1 + h) N(x; 0, w) - h N(x; w, s w) - h N(x; -w, s w))    # h = height, w = width, s = scale

    N(x; m, w) is the normal density of mean m and standard deviation w. The integral is gamma (1 - h).

    Args:
        gamma: overall factor, > 0.
        width: standard deviation of the center, > 0.
        scale: standard deviation of the two flanks in units of `width`, > 0.
        height: weight of the flanks, >= 0.

    Raises:
        ValueError: a gamma, a width or a scale that is not positive.

    References:
        Yin, Corradi, Bohte: Accurate and efficient time-domain classification with adaptive spiking recurrent neural
        networks, 2021, doi 10.1038/s42256-021-00397-w.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from slax_neurons import LIF, multi_gaussian
        >>> neuron = LIF(spike_fn=multi_gaussian())
        >>> slopes = jax.vmap(jax.grad(neuron.spike_fn))(jnp.array([-1.0, -0.5, 0.0, 0.5, 1.0]))
        >>> [round(slope, 3) for slope in slopes.tolist()]
        [-0.025, 0.159, 0.732, 0.159, -0.025]
    """
    for name, value in (("gamma", gamma), ("width", width), ("scale", scale)):
        positive("multi_gaussian", name, value)
    return Surrogate(_multi_gaussian, (gamma, width, scale, height))


def _multi_gaussian(x: Array, gamma: float, width: float, scale: float, height: float) -> Array:
    center = (1 + height) * _normal_density(x, 0.0, width)
    flanks = _normal_density(x, width, scale * width) + _normal_density(x, -width, scale * width)
    return gamma * (center - height * flanks)


def _normal_density(x: Array, mean: float, deviation: float) -> Array:
    return jnp.exp(-0.5 * jnp.square((x - mean) / deviation)) / (deviation * math.sqrt(2 * math.pi))


_MAKERS = (arctan, boxcar, fast_sigmoid, gaussian, multi_gaussian, sigmoid, super_spike, triangular)
SURROGATES: Named[Callable[..., Surrogate]] = Named({make.__name__: make for make in _MAKERS})
"""The surrogates by name, each a function of its options, as in `SURROGATES["arctan"]()`."""


def spike_function(owner: str, given: SpikeFunction | str) -> SpikeFunction:
    """The spike function that a neuron is given, itself or by its name in `SURROGATES`.

    Args:
        owner: the neuron's class, for messages.
        given: a name, or a function of v - threshold.

    Raises:
        KeyError: an unknown name.
        TypeError: what is no function, or a class or function that makes spike functions.
    """
    if isinstance(given, str):
        return SURROGATES[given]()
    if not callable(given) or isinstance(given, type) or given in SURROGATES.values():
        name = getattr(given, "__name__", given)
        raise TypeError(f"{owner} got spike_fn={given!r}, expected a spike function. Call it: spike_fn={name}(...).")
    return given
