"""Backpropagation through time, full and truncated."""

import dataclasses
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import unroll
from slax_neurons.building_blocks import mutates_state, reverse_pass_of_jax, scan_chunks, scan_with_sums
from slax_rules.engine.stack import run_with_layers
from slax_rules.rules.base import Rule, RuleState, WindowGradient, check_cell
from slax_rules.windows import Outputs


class Autodiff(Rule):
    """The base class of rules that differentiate a window in reverse mode, without traces."""

    def check(self, model: nnx.RNNCellBase, inputs: jax.ShapeDtypeStruct) -> None:
        check_cell(self.title, model)

    def unroll(self, model: nnx.RNNCellBase, carry: Any, inputs: Float[Array, "K B ..."]) -> tuple[Any, Any]:
        """Return the carry and the outputs as functions to differentiate."""
        return unroll(model, carry, inputs)

    def window(
        self, model: nnx.RNNCellBase, state: RuleState, inputs: Float[Array, "K B ..."], loss: Any
    ) -> WindowGradient:
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def run(params: nnx.State) -> tuple[Array, tuple[Outputs, Any, nnx.State]]:
            copy = nnx.merge(graphdef, params, rest, copy=True)
            carry, outputs = run_with_layers(self.unroll, copy, state.carry, inputs, loss.layers)
            return loss(outputs), (outputs, carry, nnx.state(copy, nnx.Not(nnx.Param)))

        (value, (outputs, carry, rest)), gradient = jax.value_and_grad(run, has_aux=True)(params)
        nnx.update(model, rest)
        return WindowGradient(value, gradient, nnx.State({}), RuleState(carry, ()), outputs.final)


@dataclasses.dataclass(frozen=True)
class BPTT(Autodiff):
    """Backpropagation through time (BPTT): the exact gradient, by reverse-mode differentiation of the entire sequence.

        dL/dtheta = sum_t delta_t F_t        delta_t = dl_t/dh_t + delta_{t+1} D_{t+1}

    for a loss L = sum_t l_t, where h_t is the state of the model, D_t = dh_t/dh_{t-1} and F_t = dh_t/dtheta, the direct part.

    It takes any cell. Memory grows with the length of the sequence. The gradient flows through all time steps, regardless of
    the `window` of `gradients`; with online updates, in `train_online`, it flows through the steps of a window.

    Args:
        remat: keep only the carries between chunks for the reverse pass, and recompute each chunk there; see `unroll`.

    References:
        Werbos: Backpropagation through time: what it does and how to do it, 1990, doi 10.1109/5.58337.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import BPTT, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=BPTT())
    """

    remat: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.remat, bool):
            raise TypeError(f"BPTT got remat={self.remat!r}, expected True or False. For windows of K steps: TBPTT(K).")

    def offline_window(self, window: int | None, model: Any, inputs: Any) -> int:
        return int(inputs.shape[0])

    def unroll(self, model: nnx.RNNCellBase, carry: Any, inputs: Float[Array, "K B ..."]) -> tuple[Any, Any]:
        return unroll(model, carry, inputs, remat=self.remat)


@dataclasses.dataclass(frozen=True)
class TBPTT(Autodiff):
    """Truncated backpropagation through time (TBPTT): the gradient flows through pieces of `steps` steps.

        sum_t delta_t F_t        delta_t = dl_t/dh_t + delta_{t+1} D_{t+1}    # only dl_t/dh_t at the last step of a piece

    in the symbols of `BPTT`.

    It takes any cell. It omits the paths from one piece to the next; with steps=1 it is `SLTT`. It equals BPTT for a sequence
    that is no longer than a piece.

    Args:
        steps: length of a piece, >= 1.

    Raises:
        ValueError: steps below 1.

    References:
        Williams, Peng: An efficient gradient-based algorithm for on-line training of recurrent network trajectories, 1990,
        doi 10.1162/neco.1990.2.4.490.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import TBPTT, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=TBPTT(steps=5))
    """

    steps: int = 10

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"TBPTT got steps={self.steps}, expected at least 1.")

    def offline_window(self, window: int | None, model: Any, inputs: Any) -> int:
        return self.steps

    def unroll(self, model: nnx.RNNCellBase, carry: Any, inputs: Float[Array, "K B ..."]) -> tuple[Any, Any]:
        if inputs.shape[0] <= self.steps:
            return unroll(model, carry, inputs)
        if mutates_state(model):
            raise ValueError(f"TBPTT got a longer window for a model that changes variables. Use window={self.steps}.")

        def piece(model: Any, carry: Any, inputs: Array) -> tuple[Any, Any]:
            # The loop that `unroll` takes for several chunks: the loop over pieces is not known to it.
            with reverse_pass_of_jax(False):
                return unroll(model, jax.lax.stop_gradient(carry), inputs)

        def scan(step: Any, carry: Any, inputs: Array) -> tuple[Any, Any]:
            return scan_chunks(step, carry, inputs, self.steps)

        return scan_with_sums(scan, piece, model, carry, inputs)
