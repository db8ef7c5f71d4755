"""The directional agreement of two gradients of the same parameters.

    cosine(g, r) = g . r / (|g| |r|)

where g is a gradient, r the reference, and the product runs over all entries of one leaf, of one group of leaves, or of
the entire tree. Leaves are matched by path, never by order.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from slax_viz.trees import check_alike, leaves_by_path


class Cosine(NamedTuple):
    """The agreement of a gradient with a reference.

    value: the cosine, in [-1, 1]; 0 where it is not defined.
    norm_ratio: |gradient| / |reference|; 0 where the reference is zero.
    defined: True if both are finite and nonzero. A magnitude below the smallest normal number counts as zero.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_viz import cosine_similarity
        >>> cosine = cosine_similarity({"w": jnp.array([0.0, 0.0])}, {"w": jnp.array([1.0, 0.0])})["w"]
        >>> float(cosine.value), float(cosine.norm_ratio), bool(cosine.defined)  # a zero gradient has no direction
        (0.0, 0.0, False)
    """

    value: Float[Array, ""]
    norm_ratio: Float[Array, ""]
    defined: Bool[Array, ""]


def cosine_similarity(
    gradients: PyTree, reference: PyTree, *, group: Callable[[str], str] | None = None
) -> dict[str, Cosine]:
    """The cosine similarity of each leaf, or of each group of leaves, to the leaf with the same path in `reference`.

    The computation is in float32, or in float64 where a leaf has that dtype. Both sides are divided by their largest magnitude
    first, so that neither very small nor very large gradients lose their direction.

    Args:
        gradients: tree of floating-point arrays: nested dicts, lists or an `nnx.State`.
        reference: tree with the same paths and shapes.
        group: maps a path to the label of its group; the leaves of one group are compared as one long vector. For a
            path like "modules/0/kernel", `lambda path: path.rpartition("/")[0]` puts kernel and bias together.

    Returns:
        The cosine by path like "modules/0/kernel", or by label. The order is the order of the leaves, except under
        `jax.jit`, which sorts the keys of a dict.

    Note:
        A zero gradient has no direction: its value is 0 with `defined` False. A gradient with NaN or infinite entries
        gives NaN with `defined` False, so that it is not hidden.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_viz import cosine_similarity
        >>> gradients = {"kernel": jnp.array([3.0, 4.0]), "bias": jnp.array([1.0])}
        >>> reference = {"kernel": jnp.array([6.0, 0.0]), "bias": jnp.array([2.0])}
        >>> {path: round(float(cosine.value), 3) for path, cosine in cosine_similarity(gradients, reference).items()}
        {'bias': 1.0, 'kernel': 0.6}
    """
    pairs = defaultdict(list)
    for path, pair in _matched_leaves(gradients, reference).items():
        pairs[path if group is None else group(path)].append(pair)
    return {label: _cosine(members) for label, members in pairs.items()}


def global_cosine_similarity(gradients: PyTree, reference: PyTree) -> Cosine:
    """The cosine similarity of two entire trees, each taken as one long vector; see `cosine_similarity`.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_viz import global_cosine_similarity
        >>> gradients = {"kernel": jnp.array([3.0, 0.0]), "bias": jnp.array([4.0])}
        >>> reference = {"kernel": jnp.array([6.0, 0.0]), "bias": jnp.array([0.0])}
        >>> cosine = global_cosine_similarity(gradients, reference)
        >>> round(float(cosine.value), 3)
        0.6
    """
    return _cosine(list(_matched_leaves(gradients, reference).values()))


def _matched_leaves(gradients: PyTree, reference: PyTree) -> dict[str, tuple[Array, Array]]:
    left, right = leaves_by_path(gradients, "gradients"), leaves_by_path(reference, "reference")
    check_alike(
        left,
        right,
        names=("gradients", "reference"),
        advice="Take both gradients with respect to the parameters of the same model.",
    )
    return {path: (left[path], right[path]) for path in left}


def _cosine(pairs: list[tuple[Array, Array]]) -> Cosine:
    has_double = any(leaf.dtype == jnp.float64 for pair in pairs for leaf in pair)
    dtype = jnp.float64 if has_double else jnp.float32
    left, left_scale = _scaled([leaf.astype(dtype) for leaf, _ in pairs])
    right, right_scale = _scaled([leaf.astype(dtype) for _, leaf in pairs])
    left_norm, right_norm = jnp.sqrt(_dot(left, left)), jnp.sqrt(_dot(right, right))
    both_nonzero = (left_norm != 0) & (right_norm != 0)
    value = _dot(left, right) / jnp.where(both_nonzero, left_norm * right_norm, 1)
    ratio = left_norm / jnp.where(right_norm != 0, right_norm, 1) * (left_scale / right_scale)
    return Cosine(
        value=jnp.clip(value, -1, 1),  # clips only rounding errors, as in cosine(g, g) = 1 + 1e-7
        norm_ratio=jnp.where(right_norm != 0, ratio, 0),
        defined=both_nonzero & jnp.isfinite(left_norm) & jnp.isfinite(right_norm),
    )


def _scaled(leaves: list[Array]) -> tuple[list[Array], Float[Array, ""]]:
    """The leaves divided by their largest magnitude, and this magnitude; zeros and 1 if it is zero or subnormal."""
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves]))
    is_zero = largest < jnp.finfo(largest.dtype).tiny
    scale = jnp.where(is_zero, 1, largest)
    return [jnp.where(is_zero, 0, leaf / scale) for leaf in leaves], scale


def _dot(left: list[Array], right: list[Array]) -> Float[Array, ""]:
    # Products and sums, not `jnp.vdot`: a matrix product may use less than float32 precision on accelerators.
    return jnp.sum(jnp.stack([jnp.sum(a * b) for a, b in zip(left, right, strict=True)]))
