"""Online spatio-temporal learning."""

import dataclasses
from functools import partial
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array, Float

from slax_rules.blocks import States, linearise
from slax_rules.eligibility import Eligibility, follow, zero_eligibility
from slax_rules.engine import Ruled
from slax_rules.window import Block, Pullback, Window


def ostl(model: nnx.RNNCellBase) -> Ruled:
    """Puts a stack under online spatio-temporal learning (OSTL), with one trace per weight and unit.

        eps_t = o_t E_{t-1} + psi_t x_t        E_t = D_t E_{t-1} + d_t x_t        gradient  sum_t delta_t eps_t

    with the blocks D, d, o, psi of `linearise` and x the input of the weight (1 for a bias; pS and pO in the place of d x
    and psi x for a parameter of the neuron). The signal below is delta_t psi_t W^T, within the step.

    What comes over an edge is one more input of the layer that receives it, and a late one is a number: the recurrence of a
    layer is not part of its trace (see `ostl_with_recurrence`). Then it is what others call e-prop without a filter, or
    D-RTRL.

    Args:
        model: a stack of layers, each a Linear or Conv and an element-wise neuron, made by `connect`.

    Returns:
        A cell with the same parameters and forward pass. Its gradient does not depend on the window.

    Raises:
        TypeError: a model that OSTL cannot treat.

    References:
        Bohnstingl, Wozniak, Pantazi, Eleftheriou: Online spatio-temporal learning in deep neural networks, 2022,
        doi 10.1109/TNNLS.2022.3153985.

    Note:
        The paper's unit resets its membrane to zero one step later, which gives the same eligibilities as reset="zero".
        Its bias is part of the threshold; here the bias is the weight of a constant input, with a trace of its own.
    """
    return Ruled(model, OSTL())


@dataclasses.dataclass(frozen=True)
class OSTL:
    """The rule of `ostl`, a window at a time."""

    default_window: ClassVar[int] = 128

    def check(self, block: Block, above: Any) -> None:
        """Takes every block."""

    def initialize_traces(self, block: Block, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> Eligibility:
        return zero_eligibility(block, inputs, states)

    def follow(
        self,
        block: Block,
        window: Window,
        traces: Eligibility,
        signal: Float[Array, "K B *N"],
        end: States,
    ) -> tuple[Pullback, Eligibility]:
        return follow(block, window, traces, signal, end, partial(linearise, block.neuron))
