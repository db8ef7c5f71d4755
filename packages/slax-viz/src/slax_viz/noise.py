"""The bias and variance of a gradient that differs from batch to batch."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from slax_viz.arrays import check_alike, leaves_by_path


class GradientNoise(NamedTuple):
    """Bias and variance of batch gradients relative to an expected reference, in units of its squared norm, except the cosine.

    bias_squared: squared distance between the two expected gradients. For an unbiased gradient it scatters about 0 and is
        often negative.
    variance: mean squared distance of a batch's gradient from its own expectation.
    reference_variance: the same quantity for the reference.
    projection: length of the expected gradient along the expected reference, 1 for an unbiased gradient.
    cosine: cosine between the two expected gradients; as an estimate it is not bounded by 1.
    defined: True if <r, r> is finite and above C(r, r) / M, the contribution of noise to r . r. Otherwise there are too few
        batches, and all numbers are 0.
    cosine_defined: True if the same also holds for the gradient. Otherwise the cosine is 0.

    Example:
        The noise of a gradient with half the length of the reference, on batches that do not differ.

        >>> import jax.numpy as jnp
        >>> from slax_viz import gradient_noise
        >>> reference = {"w": jnp.full((4, 2), 2.0)}  # of 4 batches
        >>> noise = gradient_noise({"w": reference["w"] / 2}, reference)["w"]
        >>> float(noise.bias_squared), float(noise.variance), float(noise.projection), float(noise.cosine)
        (0.25, 0.0, 0.5, 1.0)
    """

    bias_squared: Float[Array, ""]
    variance: Float[Array, ""]
    reference_variance: Float[Array, ""]
    projection: Float[Array, ""]
    cosine: Float[Array, ""]
    defined: Bool[Array, ""]
    cosine_defined: Bool[Array, ""]


def gradient_noise(gradients: PyTree, reference: PyTree) -> dict[str, GradientNoise]:
    """The bias and variance of each leaf over batches. For a layer as a whole, make one leaf of it: concatenate its leaves.

    For M batches i, with the gradient g_i and the reference r_i on the same batch, products across pairs of batches

        <g, r> = mean_{i != j}(g_i . r_j) = g . r - C(g, r) / M
        C(g, r) = (sum_i (g_i - g) . (r_i - r)) / (M - 1)    # with g, r the means over batches

    estimate the product of the expected gradients, E[g] . E[r], without the contribution of noise to g . r. They give

        bias_squared = <g - r, g - r> / <r, r>
        variance = C(g, g) / <r, r>
        projection = <g, r> / <r, r>
        cosine = <g, r> / sqrt(<g, g> <r, r>)

    The mean squared distance of one batch's gradient from the expected reference is the sum of the first two.

    Args:
        gradients: tree of floating-point arrays [M, ...], the gradients of M >= 2 independent batches.
        reference: tree with the same paths and shapes, on the same batches.

    Returns:
        The noise by path like "modules/0/kernel".

    Raises:
        ValueError: trees with other paths or shapes, or fewer than two batches.

    Note:
        Numerators and denominators are unbiased, but their ratios are only nearly so, where `reference_variance` is
        small compared with M. If <r, r> is below C(r, r) / M, nothing is defined, so a `reference_variance` is never above M.
        This cutoff depends on the drawn batches: among several draws, or seeds, the ones whose <r, r> happens to be large
        pass it, and a mean over these alone underestimates the variance. Take the mean only if all pass; otherwise use more
        batches.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_viz import gradient_noise
        >>> bias = jnp.ones((2, 1))  # the gradient of a bias on two batches
        >>> gradients = {"kernel": jnp.array([[1.0, 1.0], [3.0, 3.0]]), "bias": bias}
        >>> reference = {"kernel": jnp.array([[2.0, 2.0], [2.0, 2.0]]), "bias": bias}
        >>> noise = gradient_noise(gradients, reference)
        >>> {path: float(of_leaf.variance) for path, of_leaf in noise.items()}
        {'bias': 0.0, 'kernel': 0.5}
    """
    left, right = leaves_by_path(gradients, "gradients"), leaves_by_path(reference, "reference")
    advice = "Take both gradients on the same batches, by the parameters of the same model."
    check_alike(left, right, names=("gradients", "reference"), advice=advice)
    sizes = {path: leaf.shape[:1] for path, leaf in left.items()}
    batches = next(iter(sizes.values()))
    if set(sizes.values()) != {batches} or batches < (2,):
        cure = "Stack the gradients of the batches: jax.lax.map(gradient, batches)."
        raise ValueError(f"gradient_noise got first axes {sizes}, expected as many batches in each, at least 2. {cure}")
    return {path: _noise(left[path], right[path]) for path in left}


def _noise(*gradients: Array) -> GradientNoise:
    wide = jnp.result_type(jnp.float32, *gradients)
    g, r = (leaf.reshape(leaf.shape[0], -1).astype(wide) for leaf in gradients)
    largest = jnp.max(jnp.abs(r), initial=0)
    scale = jnp.where(largest < jnp.finfo(wide).tiny, 1, largest)  # so that squares of small gradients do not underflow
    g, r = g / scale, r / scale
    batches = g.shape[0]
    of_gradient, of_reference = _unpaired(g, g), _unpaired(r, r)
    of_difference = _unpaired(g - r, g - r)
    defined = (of_reference > _covariance(r, r) / batches) & jnp.isfinite(of_reference) & jnp.isfinite(of_difference)
    cosine_defined = defined & (of_gradient > _covariance(g, g) / batches)
    squared_norm = jnp.where(defined, of_reference, 1)

    def in_units(number: Array) -> Array:
        return jnp.where(defined, number / squared_norm, 0)

    norms = jnp.sqrt(jnp.where(cosine_defined, of_gradient * of_reference, 1))
    return GradientNoise(
        bias_squared=in_units(of_difference),
        variance=in_units(_covariance(g, g)),
        reference_variance=in_units(_covariance(r, r)),
        projection=in_units(_unpaired(g, r)),
        cosine=jnp.where(cosine_defined, _unpaired(g, r) / norms, 0),
        defined=defined,
        cosine_defined=cosine_defined,
    )


def _unpaired(g: Float[Array, "M P"], r: Float[Array, "M P"]) -> Float[Array, ""]:
    """The product <g, r>."""
    return jnp.sum(jnp.mean(g, axis=0) * jnp.mean(r, axis=0)) - _covariance(g, r) / g.shape[0]


def _covariance(g: Float[Array, "M P"], r: Float[Array, "M P"]) -> Float[Array, ""]:
    """The covariance C(g, r)."""
    centered = (g - jnp.mean(g, axis=0, keepdims=True)) * (r - jnp.mean(r, axis=0, keepdims=True))
    return jnp.sum(centered) / (g.shape[0] - 1)
