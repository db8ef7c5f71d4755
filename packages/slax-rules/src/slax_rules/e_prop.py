"""e-prop: filtered eligibilities, and signals that may come down through other matrices than they went up."""

import dataclasses
from typing import ClassVar, Literal

import jax
from flax import nnx
from jaxtyping import Array, Float

from slax_neurons import Neuron
from slax_rules.blocks import States
from slax_rules.eligibility import Eligibility, follow_sums, zero_sums
from slax_rules.engine import Ruled
from slax_rules.ostl import OSTL
from slax_rules.synapse import is_synapse
from slax_rules.window import Block, Pullback, Window, check_decay_above, decay_above

FEEDBACKS = ("symmetric", "random", "adaptive")


class Feedback(nnx.Variable):
    """A matrix that signals come down through, of the shape of the kernel in whose place it is."""


def e_prop(
    model: nnx.RNNCellBase,
    *,
    kappa: float | None = None,
    feedback: Literal["symmetric", "random", "adaptive"] = "symmetric",
    rngs: nnx.Rngs | None = None,
) -> Ruled:
    """Puts a stack under e-prop.

        F_t = kappa F_{t-1} + eps_t        gradient  sum_t delta_t F_t        signal below  delta_t psi_t W^T, or B^T for W^T

    with the eligibilities eps of `ostl`, in which the spikes that come over late edges, the layer's own among them, are given
    inputs. The last layer, the read-out, is under OSTL.

    Args:
        model: a stack of layers, each a Linear or Conv and an element-wise neuron, made by `connect`.
        kappa: decay of the filter, in [0, 1], for all layers. By default the decay of the next layer's membrane, which has to
            be one number.
        feedback: "symmetric" sends signals down through the weights themselves; "random" through fixed matrices B, drawn as
            weights are; "adaptive" through matrices that are parameters and get the gradient of the weights. The cell then
            has one more parameter, `feedback`: make the optimiser with it.
        rngs: for B.

    Returns:
        A cell with the same parameters and forward pass. Its gradient does not depend on the window.

    Raises:
        TypeError: a model that e-prop cannot treat, no `rngs` where matrices have to be drawn.
        ValueError: an unknown feedback.

    References:
        Bellec et al.: A solution to the learning dilemma for recurrent networks of spiking neurons, 2020,
        doi 10.1038/s41467-020-17236-y.

    Note:
        The paper has one recurrent layer below a read-out, where this is its rule; it detaches the reset, which is an option of
        the neuron here. In deeper stacks signals come down layer by layer, not from the read-out to each of them.
    """
    if feedback not in FEEDBACKS:
        raise ValueError(f"e_prop got feedback={feedback!r}, expected one of {', '.join(map(repr, FEEDBACKS))}.")
    ruled = Ruled(model, EProp(kappa))
    if feedback == "symmetric":
        return ruled
    if rngs is None:
        raise TypeError(f"e_prop needs rngs to draw the matrices of feedback={feedback!r}: rngs=nnx.Rngs(...).")
    kind = nnx.Param if feedback == "adaptive" else Feedback
    return Ruled(model, EProp(kappa), feedback=[_drawn(block, kind, rngs) for block in ruled.blocks()])


def _drawn(block: Block, kind: type[nnx.Variable], rngs: nnx.Rngs) -> list[nnx.Variable]:
    draw = jax.nn.initializers.lecun_normal()
    matrices = []
    for synapse in block.synapses:
        if not is_synapse(synapse):
            raise TypeError(
                f"e_prop draws a matrix in the place of each kernel, got an edge with a {type(synapse).__name__}, which has "
                'none. Give the edge a Linear or Conv, or use feedback="symmetric".'
            )
        (kernel,) = (leaf for path, leaf in nnx.to_flat_state(nnx.state(synapse, nnx.Param)) if path[-1] == "kernel")
        matrices.append(kind(draw(rngs.params(), kernel[...].shape, kernel[...].dtype)))
    return matrices


@dataclasses.dataclass(frozen=True)
class EProp:
    """The rule of `e_prop`, a window at a time."""

    kappa: float | None = None

    default_window: ClassVar[int] = 128

    def check(self, block: Block, above: Neuron | None) -> None:
        check_decay_above("EProp", above, self.kappa, "kappa")

    def initialize_traces(self, block: Block, inputs: tuple[Array, ...], states: tuple[Array, ...]) -> Eligibility:
        return (OSTL().initialize_traces if block.is_last else zero_sums)(block, inputs, states)

    def follow(
        self,
        block: Block,
        window: Window,
        traces: Eligibility,
        signal: Float[Array, "K B *N"],
        end: States,
    ) -> tuple[Pullback, Eligibility]:
        if block.is_last:
            return OSTL().follow(block, window, traces, signal, end)
        return follow_sums(block, window, traces, signal, end, decay_above(window, self.kappa, signal.dtype))
