"""SnAp-n: real-time recurrent learning that keeps only the influence within reach of n steps."""

import dataclasses
import warnings
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slax_rules.engine.coloring import ColumnColoring, carry_over, seed_matrices
from slax_rules.engine.influence import ColoredInfluence, StateSpace


@dataclasses.dataclass(frozen=True)
class SnAp(ColoredInfluence):
    """SnAp-n, a sparse n-step approximation of real-time recurrent learning.

        J_t = M (D_t J_{t-1} + F_t)          D_t = dh_t/dh_{t-1},  F_t = dh_t/dtheta    # the direct part
        gradient: sum_t delta_t (dy_t/dtheta + dy_t/dh_{t-1} J_{t-1})

    h [H] is the state of the entire model, delta_t the gradient of the loss w.r.t. its output y_t, and M, entry by entry, is 1
    where a parameter reaches a state within n steps, else 0. One step goes up through all layers, so the states of a layer
    without recurrence and of all layers above it are within reach of one step.

    It equals BPTT as soon as n steps reach every state that can ever be reached, and omits all influence beyond that. Without
    late edges, n = 1 is enough for parameters that reach all states of their neuron in one step, such as weights before LIF,
    CuBaLIF, ALIF or AdLIF. n = 2 is needed where a parameter reaches one state only by way of another, even in one layer:
    weights before BRF, where the gradient of SnAp-1 is off by 40 % of its largest entry for 4 neurons and 20 steps, and the
    parameters of the adaptation of ALIF and AdLIF. n = 2 is also needed where a layer is recurrent and all its units are
    connected, as in Flax's cells. The gradient does not depend on the window.

    Memory per sample is the number of entries within reach: at n = 1, one state for each weight of a recurrent layer (and the
    states of the layers above), not all states of the layer. It takes any cell, one step at a time.

    Args:
        n: number of steps, >= 1.

    Raises:
        ValueError: n below 1.

    References:
        Menick, Elsen, Evci, Osindero, Simonyan, Graves: A practical sparse approximation for real time recurrent learning,
        2020, arXiv 2006.07232.

    Note:
        The reach of a step is found from the program of its reverse pass, once for each model and shape of input, and not
        from numbers: a surrogate that is zero nearly everywhere counts as a path, and so does a weight that happens to be zero
        (the paper's sparse weights are not considered). A cell with a loop or a max pooling inside its step counts as fully
        connected, and a warning says so. The outputs are not part of the state, so their own derivative is complete.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_rules import SnAp, cross_entropy, gradients
        >>> model = nnx.GRUCell(8, 3, rngs=nnx.Rngs(0))
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=SnAp(n=2))
    """

    n: int = 1

    stepwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"SnAp got n={self.n}, expected at least 1. For no approximation at all, use RTRL().")

    @property
    def steps(self) -> int:
        return self.n

    def init_influence(self, space: StateSpace, carry: Any) -> tuple[Array, ...]:
        unknown = space.unknown_primitive(self.n)
        if unknown is not None:
            warnings.warn(
                f"SnAp(n={self.n}) cannot tell what the primitive {unknown!r} of the model's step connects, so each state "
                "counts as connected with all. The rule then omits nothing and costs as much as RTRL. Use RTRL(), or a model "
                "without it, such as avg_pool in place of max_pool.",
                stacklevel=2,
            )
        return super().init_influence(space, carry)

    def advance(
        self, space: StateSpace, carry: Any, inputs: Float[Array, "1 B ..."], influence: tuple[Array, ...]
    ) -> tuple[Array, ...]:
        _, direct, carried = within_reach(space, carry, inputs, influence, self.n)
        return tuple(map(jnp.add, direct, carried))


def within_reach(
    space: StateSpace, carry: Any, inputs: Float[Array, "1 B ..."], influence: tuple[Array, ...], n: int
) -> tuple[Float[Array, "B H H"], tuple[Array, ...], tuple[Array, ...]]:
    """D_t, and for each array of parameters F_t and M D_t J_{t-1}, of which SnAp-n is the sum."""
    colorings = space.coloring(n)
    seeds, which = seed_matrices(colorings)
    *passes, (_, transition) = space.vjp_states(carry, inputs, [*seeds, np.eye(space.states(carry).shape[1])])
    carried = tuple(
        jnp.where(
            coloring.reached[None],
            _carry_over_all(transition.astype(old.dtype), old, coloring),
            jnp.zeros((), old.dtype),
        )
        for old, coloring in zip(influence, colorings, strict=True)
    )
    return transition, tuple(passes[seeds_of][0][index] for index, seeds_of in enumerate(which)), carried


def _carry_over_all(
    transition: Float[Array, "B H H"], influence: Float[Array, "B C *P"], coloring: ColumnColoring
) -> Float[Array, "B C *P"]:
    """The product D J at the state of each color, including for a parameter that reaches none."""
    parameter = list(range(3, 1 + influence.ndim))
    one, several = np.flatnonzero(~coloring.varying), np.flatnonzero(coloring.varying)
    rows = coloring.kept_rows
    blocks = transition[:, rows[several][:, None], rows[None]]
    parts = [
        carry_over(transition[:, coloring.one_row[one]], influence, coloring),
        jnp.einsum(blocks, [0, 1, 2, *coloring.kept], influence, [0, 2, *parameter], [0, 1, *parameter]),
    ]
    return jnp.concatenate(parts, axis=1)[:, np.argsort(np.concatenate([one, several]))]
