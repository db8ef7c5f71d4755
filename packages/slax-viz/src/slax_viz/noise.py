"""Bias and variance of a gradient that differs from batch to batch.

Of M batches i, with g_i the gradient of one and r_i the reference on the same batch, products of two batches

    <g, r> = mean over i != j of g_i . r_j = g . r - C(g, r) / M
    C(g, r) = sum_i (g_i - g) . (r_i - r) / (M - 1)                with g, r the means over batches

estimate that of the expected gradients, E[g] . E[r], without what the noise adds to g . r. With them

    bias^2 / |E r|^2       <g - r, g - r> / <r, r>
    variance / |E r|^2     C(g, g) / <r, r>
    projection             <g, r> / <r, r>                     of the expected gradient on the expected reference
    cosine                 <g, r> / sqrt(<g, g> <r, r>)        between the two

The mean squared distance of one batch's gradient from the expected reference is the sum of the first two.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from slax_viz.trees import check_alike, leaves_by_path


class GradientNoise(NamedTuple):
    """How the gradients of batches lie about an expected reference; all but the cosine in units of its squared norm.

    bias_squared: squared distance between the two expected gradients. For a gradient without bias it scatters about 0, and is
        negative as often as not.
    variance: mean squared distance of a batch's gradient from its own expectation.
    reference_variance: the same of the reference.
    projection: length of the expected gradient along the expected reference, 1 for a gradient without bias.
    cosine: between the two expected gradients; an estimate, and so not bounded by 1.
    defined: whether <r, r> is finite, and above the C(r, r) / M that noise adds to r . r. Elsewhere the batches are too few,
        and all numbers are 0.
    cosine_defined: whether the same is true of the gradient besides. Elsewhere the cosine is 0.
    """

    bias_squared: Float[Array, ""]
    variance: Float[Array, ""]
    reference_variance: Float[Array, ""]
    projection: Float[Array, ""]
    cosine: Float[Array, ""]
    defined: Bool[Array, ""]
    cosine_defined: Bool[Array, ""]


def gradient_noise(
    gradients: PyTree, reference: PyTree, *, group: Callable[[str], str] | None = None
) -> dict[str, GradientNoise]:
    """Bias and variance of each leaf, or of each group of leaves, over batches.

    Args:
        gradients: tree of floating-point arrays [M, ...], the gradients of M >= 2 independent batches.
        reference: tree with the same paths and shapes, on the same batches.
        group: maps a path to the label of its group, as in `cosine_similarity`.

    Returns:
        The noise by path like "modules/0/kernel", or by label.

    Raises:
        ValueError: trees with other paths or shapes, or fewer than two batches.

    Note:
        Numerators and denominators are unbiased, their ratios are not quite: they are near to it where `reference_variance` is
        small against M. Where <r, r> is below C(r, r) / M nothing is defined, so that a `reference_variance` is never above M.
        This cut-off depends on the batches that were drawn: of several draws, or seeds, those whose <r, r> happens to be large
        pass it, and a mean over them alone has a variance too small. Take the mean if all pass, or else more batches.
    """
    left, right = leaves_by_path(gradients, "gradients"), leaves_by_path(reference, "reference")
    advice = "Take both gradients on the same batches, by the parameters of the same model."
    check_alike(left, right, names=("gradients", "reference"), advice=advice)
    sizes = {path: leaf.shape[:1] for path, leaf in left.items()}
    batches = next(iter(sizes.values()))
    if set(sizes.values()) != {batches} or batches < (2,):
        raise ValueError(
            f"gradient_noise got leaves whose first axes are {sizes}, expected the same number of batches in each, at least 2. "
            "Stack the gradients of the batches: jax.lax.map(gradient, batches)."
        )
    groups = defaultdict(list)
    for path in left:
        groups[path if group is None else group(path)].append((left[path], right[path]))
    return {label: _noise(pairs) for label, pairs in groups.items()}


def _noise(pairs: list[tuple[Array, Array]]) -> GradientNoise:
    wide = jnp.float64 if any(leaf.dtype == jnp.float64 for pair in pairs for leaf in pair) else jnp.float32
    g, r = (
        jnp.concatenate([leaf.reshape(leaf.shape[0], -1).astype(wide) for leaf in side], axis=1)
        for side in zip(*pairs, strict=True)
    )
    largest = jnp.max(jnp.abs(r), initial=0)
    scale = jnp.where(largest < jnp.finfo(wide).tiny, 1, largest)  # so that squares of small gradients are not lost
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
    """<g, r>."""
    return jnp.sum(jnp.mean(g, axis=0) * jnp.mean(r, axis=0)) - _covariance(g, r) / g.shape[0]


def _covariance(g: Float[Array, "M P"], r: Float[Array, "M P"]) -> Float[Array, ""]:
    """C(g, r)."""
    centred = (g - jnp.mean(g, axis=0, keepdims=True)) * (r - jnp.mean(r, axis=0, keepdims=True))
    return jnp.sum(centred) / (g.shape[0] - 1)
