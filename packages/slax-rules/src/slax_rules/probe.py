"""How far the gradient of a rule is from another, by default that of BPTT, while `fit` trains."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, PyTree

from slax_rules.callbacks import Numbers, View
from slax_rules.gradients import gradients
from slax_rules.losses import sum_dtype
from slax_rules.paths import by_path

Group = Callable[[str], str]


class Agreement(NamedTuple):
    """How a gradient g agrees with a reference r.

    cosine: g . r / (|g| |r|), in [-1, 1]; 0 where it is not defined.
    norm_ratio: |g| / |r|; 0 where the reference is zero.
    sign_agreement: share of the entries of r that are not zero where g has the same sign; 0 where there are none.
    defined: whether both are finite and not zero, as the cosine needs.
    has_reference: whether both are finite and r is not zero, as the other two need.
    """

    cosine: Float[Array, ""]
    norm_ratio: Float[Array, ""]
    sign_agreement: Float[Array, ""]
    defined: Bool[Array, ""]
    has_reference: Bool[Array, ""]


def agreement(gradient: PyTree, reference: PyTree, *, group: Group | None = None) -> dict[str, Agreement]:
    """Cosine, norm ratio and sign agreement of each leaf, or of each group of leaves as one long vector.

    Args:
        gradient: tree of floating-point arrays, as `gradients` returns it.
        reference: tree with the same paths and shapes.
        group: maps a path like "modules/0/kernel" to the name of its group. By default each path stands alone, and "all" is
            the whole gradient.

    Raises:
        ValueError: trees with other paths.
    """
    left, right = by_path(gradient), by_path(reference)
    if left.keys() != right.keys():
        raise ValueError(
            f"agreement got paths {sorted(left.keys() - right.keys())} in the gradient alone and "
            f"{sorted(right.keys() - left.keys())} in the reference alone, expected the same. Take both gradients by the "
            "parameters of one model."
        )
    groups = defaultdict(list)
    for path in left:
        for name in (path, "all") if group is None else (group(path),):
            groups[name].append((left[path], right[path]))
    return {name: _agreement(pairs) for name, pairs in groups.items()}


@dataclasses.dataclass(frozen=True)
class GradientBias:
    """A callback of `fit`: agreement of the trained model's gradient with that of a plain model, same numbers, same batch.

    The records are named "cosine/modules/0/kernel", "norm_ratio/...", "sign_agreement/...", and None where they are not
    defined: a zero gradient has no cosine.

    Args:
        model: the plain model that the rule was put around, as in `fit(ostl(model), ...)`. What counts of it is its structure:
            its parameters, statistics and random streams are taken, path by path, from the model that is trained.
        every: steps between measurements, >= 1.
        window: of the plain model's gradient; None, the whole sequence, is BPTT.
        group: see `agreement`.

    Raises:
        ValueError: a plain model with a path that the trained one does not have.
    """

    model: nnx.RNNCellBase
    every: int = 100
    window: int | None = None
    group: Group | None = None

    def __call__(self, view: View) -> Numbers:
        graphdef, state = nnx.split(self.model)
        trained, numbers = nnx.split(view.model)
        state = _same_numbers(state, numbers)
        compared = _compare(
            (graphdef, trained, view.loss_fn, self.window, view.window, self.group), state, numbers, view.batch
        )
        return {
            f"{field}/{name}": float(getattr(measured, field)) if getattr(measured, needs) else None
            for name, measured in compared.items()
            for field, needs in _NEEDS.items()
        }


_NEEDS = {"cosine": "defined", "norm_ratio": "has_reference", "sign_agreement": "has_reference"}


@partial(jax.jit, static_argnums=0)
def _compare(what: Any, state: nnx.State, numbers: nnx.State, batch: tuple[Array, ...]) -> dict[str, Agreement]:
    plain, trained, loss_fn, plain_window, window, group = what
    inputs, targets, *mask = batch
    options = {"mask": mask[0]} if mask else {}
    model = nnx.merge(plain, state)
    _, reference = gradients(model, loss_fn, inputs, targets, window=plain_window, **options)
    _, gradient = gradients(nnx.merge(trained, numbers), loss_fn, inputs, targets, window=window, **options)
    shared = by_path(reference)
    return agreement({path: leaf for path, leaf in by_path(gradient).items() if path in shared}, shared, group=group)


def _same_numbers(state: nnx.State, numbers: nnx.State) -> nnx.State:
    """The state with the numbers that another one has at the same paths."""
    mine, other = by_path(state), by_path(numbers)
    missing = sorted(path for path in mine if path not in other or other[path].shape != mine[path].shape)
    if missing:
        raise ValueError(
            f"GradientBias got a plain model with {', '.join(missing)}, which the trained model does not have in this shape, "
            "expected the model that the rule was put around: fit(ostl(model), ..., callbacks=[GradientBias(model)])."
        )
    return jax.tree.unflatten(jax.tree.structure(state), [other[path] for path in mine])


def _agreement(pairs: list[tuple[Array, Array]]) -> Agreement:
    dtype = jnp.result_type(*(sum_dtype(leaf.dtype) for pair in pairs for leaf in pair))
    left, right = (jnp.concatenate([leaf.astype(dtype).ravel() for leaf in side]) for side in zip(*pairs, strict=True))
    (g, g_scale), (r, r_scale) = _scaled(left), _scaled(right)
    g_norm, r_norm = jnp.sqrt(jnp.sum(g**2)), jnp.sqrt(jnp.sum(r**2))
    finite = jnp.isfinite(g_norm) & jnp.isfinite(r_norm)
    has_reference = finite & (r_norm > 0)
    defined = has_reference & (g_norm > 0)
    cosine = jnp.sum(g * r) / jnp.where(defined, g_norm * r_norm, 1)
    ratio = g_norm / jnp.where(has_reference, r_norm, 1) * (g_scale / r_scale)
    same_sign = jnp.mean(jnp.sign(g) == jnp.sign(r), where=r != 0, dtype=dtype)
    return Agreement(
        cosine=jnp.where(defined, jnp.clip(cosine, -1, 1), 0),  # only what rounding adds, as in 1 + 1e-7
        norm_ratio=jnp.where(has_reference, ratio, 0),
        sign_agreement=jnp.where(has_reference, same_sign, 0),
        defined=defined,
        has_reference=has_reference,
    )


def _scaled(vector: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    """A vector divided by its largest magnitude, so that very small and very large ones keep their direction, and this
    magnitude; zeros and 1 if it is zero or below the smallest normal number."""
    largest = jnp.max(jnp.abs(vector), initial=0)
    is_zero = largest < jnp.finfo(vector.dtype).tiny
    scale = jnp.where(is_zero, 1, largest)
    return jnp.where(is_zero, 0, vector / scale), scale
