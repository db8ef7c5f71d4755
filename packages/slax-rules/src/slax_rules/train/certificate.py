"""A gradient with a bound of its own error."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons.building_blocks import cast_inputs
from slax_rules.api import check_loss
from slax_rules.arrays import as_array, as_arrays
from slax_rules.loop import initial_state
from slax_rules.losses import LossFn
from slax_rules.masks import with_finite_padding
from slax_rules.rules.sketched_rtrl import SketchedRTRL
from slax_rules.step import jitted
from slax_rules.windows import Batch, WindowLoss, count_losses


class CertifiedGradient(NamedTuple):
    """A gradient that differs from BPTT's by at most a bound, in the Euclidean norm.

    Args:
        loss, gradient: as `gradients` returns them.
        bound: at least the norm of the difference to the gradient of BPTT.
        norm: the norm of the gradient.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules.train.certificate import CertifiedGradient
        >>> round(CertifiedGradient(jnp.array(0.7), None, bound=jnp.array(3.0), norm=jnp.array(5.0)).cosine, 3)
        0.8
    """

    loss: Float[Array, ""]
    gradient: nnx.State
    bound: Float[Array, ""]
    norm: Float[Array, ""]

    @property
    def cosine(self) -> float:
        """The cosine with BPTT is at least this number; it is -1, which says nothing, where the bound exceeds the norm."""
        return math.sqrt(1 - float(self.bound / self.norm) ** 2) if self.bound < self.norm else -1.0


def certified_gradient(
    model: nnx.RNNCellBase,
    loss_fn: LossFn,
    inputs: Any,
    targets: Any,
    mask: Any = None,
    *,
    rule: SketchedRTRL,
) -> CertifiedGradient:
    """Compute the loss of a sequence, its gradient under `SketchedRTRL`, and a bound of the error, without BPTT.

    The bound holds at fixed parameters, as in `gradients`. Its memory does not grow with the sequence, except for the outputs
    of all steps. In training, `GradientAgreement` measures the error of any rule, which costs a gradient of BPTT.

    Args:
        model, loss_fn, inputs, targets, mask: see `gradients`; the loss is that of a step.
        rule: the rule; its rank says how much is kept.

    Raises:
        TypeError, ValueError: see `gradients`; a `SequenceLoss`.

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
    check_loss("certified_gradient", loss_fn, online=True)
    graphdef, state = nnx.split((model, rule))
    arrays = as_array(inputs, "inputs"), as_arrays(targets, "targets"), mask
    return CertifiedGradient(*jitted(_certified, graphdef, loss_fn)(state, *arrays))


def _certified(graphdef: Any, loss_fn: Any, state: nnx.State, inputs: Any, targets: Any, mask: Any) -> tuple[Any, ...]:
    model, rule = nnx.merge(graphdef, state, copy=True)
    inputs = cast_inputs(model, inputs if mask is None else with_finite_padding(inputs, mask))
    batch = Batch.read(inputs, targets, mask)
    one_step = jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype)
    rule.check(model, one_step)
    loss = WindowLoss(loss_fn, batch, count_losses(batch))
    found = rule.window(model, initial_state(rule, model, one_step), inputs, loss)
    norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(found.model)))
    return found.loss, found.model, jnp.sum(found.state.traces.gradient_bound), norm
