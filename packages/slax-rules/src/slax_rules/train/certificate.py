"""A gradient with a bound of its own error."""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from slax_rules.api import call_step
from slax_rules.losses import LossFn, SequenceLoss
from slax_rules.penalties import Penalty
from slax_rules.rules.sketched_rtrl import SketchedRTRL


class CertifiedGradient(NamedTuple):
    """A gradient that differs from BPTT's by at most a bound, in the Euclidean norm.

    Args:
        loss, gradient: as `gradients` returns them.
        bound: at least the norm of the difference to the gradient of BPTT.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules.train.certificate import CertifiedGradient
        >>> CertifiedGradient(jnp.array(0.7), {"kernel": jnp.array([4.0, 3.0])}, bound=jnp.array(3.0)).cosine
        Array(0.8, dtype=float32)
    """

    loss: Float[Array, ""]
    gradient: nnx.State
    bound: Float[Array, ""]

    @property
    def cosine(self) -> Float[Array, ""]:
        """The cosine with BPTT is at least this number; it is -1, which says nothing, where the bound exceeds the norm."""
        norm = optax.tree.norm(self.gradient)
        below = (self.bound < norm) & jnp.isfinite(norm)
        return jnp.where(below, jnp.sqrt(1 - (self.bound / jnp.where(below, norm, jnp.inf)) ** 2), -1)


def certified_gradient(
    model: nnx.RNNCellBase,
    loss_fn: LossFn | SequenceLoss,
    inputs: Any,
    targets: Any,
    mask: Any = None,
    *,
    rule: SketchedRTRL,
    window: int | None = None,
    carry: Any = None,
    penalties: Iterable[Penalty] = (),
) -> CertifiedGradient:
    """Compute the loss of a sequence, its gradient under `SketchedRTRL`, and a bound of the error, without BPTT.

    The bound holds at fixed parameters, as in `gradients`. In training, `GradientAgreement` measures the error of any rule,
    which costs a gradient of BPTT.

    Args:
        model, loss_fn, inputs, targets, mask, window, carry, penalties: see `gradients`.
        rule: the rule; its rank says how much is kept.

    Raises:
        TypeError, ValueError: see `gradients`; a model that holds numbers in half precision, or computes in it: no bound covers
            its rounding.

    Note:
        The bound covers what the rule omits, and the rounding of its eigenvalues, but not that of the gradients themselves:
        where the rule omits nothing, they differ in the last places. On a GPU, which has TF32 by default, all products are
        computed in float32 here. An influence above about 1e19 has a square beyond float32: in a network whose influence grows
        so far, the bound is infinite or NaN, and so may the gradient be. Use float64, or a shorter sequence.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_rules import SketchedRTRL, certified_gradient, cross_entropy
        >>> model = nnx.SimpleCell(8, 16, rngs=nnx.Rngs(0))
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> for rank in (0, 4, 16):
        ...     found = certified_gradient(model, cross_entropy, inputs, labels, rule=SketchedRTRL(rank))
        ...     print(f"cosine with BPTT: at least {found.cosine:.2f}")
        cosine with BPTT: at least 0.80
        cosine with BPTT: at least 0.97
        cosine with BPTT: at least 1.00
    """
    if not isinstance(rule, SketchedRTRL):
        raise TypeError(f"certified_gradient got {type(rule).__name__}, which has no bound: give SketchedRTRL(rank=8).")
    rule = dataclasses.replace(rule, bound=nnx.Param(jnp.zeros(())))
    with jax.default_matmul_precision("highest"):
        given = model, None, loss_fn, inputs, targets, mask, rule, window, carry, penalties
        loss, found = call_step("certify", *given)
    return CertifiedGradient(loss, found.model, found.rule["bound"][...])
