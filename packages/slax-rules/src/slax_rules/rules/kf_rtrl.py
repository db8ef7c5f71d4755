"""Kronecker factored real-time recurrent learning."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from slax_rules.engine.influence import StateSpace
from slax_rules.engine.noise import noise
from slax_rules.engine.passes import zero_copy
from slax_rules.rules.uoro import RandomInfluence, one_product, scaled


class KroneckerInfluence(NamedTuple):
    """The state of KF-RTRL: the key of the sequence, the index of the next step, and for each Linear the factors u and A."""

    key: Key[Array, ""]
    step: Int[Array, ""]
    inputs: tuple[Float[Array, "B I"], ...]
    outputs: tuple[Float[Array, "B H N"], ...]


class KFRTRL(RandomInfluence):
    """Kronecker factored RTRL (KF-RTRL): the influence of each Linear as one product of a vector and a matrix.

        u_t = rho0 u_{t-1} + c_t rho1 x_t                  A_t = D_t A_{t-1} / rho0 + c_t G_t / rho1
        rho0 = sqrt(|D_t A_{t-1}| / |u_{t-1}|)             rho1 = sqrt(|G_t| / |x_t|)
        gradient: sum_t delta_t dy_t/dtheta + u_{t-1} (a_t A_{t-1})    a_t = delta_t dy_t/dh_{t-1}

    per sample and Linear, where h [H] is the state of the entire model, delta_t the gradient of the loss w.r.t. its output y_t,
    D_t = dh_t/dh_{t-1}, x_t [I] are the inputs of the Linear, with a 1 if it has a bias, G_t [H, N] is the derivative of h_t
    w.r.t. its outputs, so that the direct part of the influence is x_t G_t, and c_t is a random sign. The mean of u_t A_t over
    the signs is the influence of the weights on the state, as in RTRL.

    It equals BPTT in the mean, and without noise for a sequence of two steps. It omits nothing; the noise is far below
    that of UORO. Its gradient does not depend on the window, since the signs belong to the step. Memory per sample is I + H N
    for a Linear of I inputs and N outputs. Time is H times that of a step, and H^2 N for the product. It takes any cell all
    of whose parameters are in `nnx.Linear` modules, such as Flax's recurrent cells and stacks of spiking layers without
    trained neurons, one step at a time.

    Args:
        rngs: random streams, whose stream `noise` is forked. Each call of `gradients` draws the key of a sequence.

    Raises:
        TypeError: for a model with other parameters, or one that calls a Linear several times in a step, or never.

    References:
        Mujika, Meier, Steger: Approximating real-time recurrent learning with random Kronecker factors, 2018, arXiv 1805.10842.

    Note:
        A rho is 1 where one of its norms is 0; the paper adds nothing there. The paper has two signs per step, of which only
        the product matters, and one vector u for all inputs of a layer; here each Linear has its own, as in Flax's cells the
        inputs and the states have.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_rules import KFRTRL, cross_entropy, gradients
        >>> model = nnx.GRUCell(8, 3, rngs=nnx.Rngs(0))
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> rule = KFRTRL(rngs=nnx.Rngs(2))
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=rule)
    """

    def check(self, model: nnx.RNNCellBase, inputs: jax.ShapeDtypeStruct) -> None:
        super().check(model, inputs)
        found = [path for path, module in nnx.iter_modules(model) if isinstance(module, nnx.Linear)]
        known = {(*path, name) for path in found for name in ("kernel", "bias")}
        other = [path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param)) if path not in known]
        if other:
            raise TypeError(
                f"KFRTRL got the parameter {'/'.join(map(str, other[0]))}, expected a model all of whose parameters are in "
                "nnx.Linear modules. Use SketchedRTRL(rank=8) or UORO(rngs=rngs), which take any cell."
            )

    def init_influence(self, space: StateSpace, carry: Any) -> KroneckerInfluence:
        states, linears = space.states(carry), _linears(space.cell)
        u = [jnp.zeros((len(states), one.in_features + one.use_bias), states.dtype) for one in linears]
        A = [jnp.zeros((*states.shape, one.out_features), states.dtype) for one in linears]
        return KroneckerInfluence(self.stream(), jnp.zeros((), jnp.int32), tuple(u), tuple(A))

    def advance(
        self, space: StateSpace, carry: Any, inputs: Float[Array, "1 B ..."], influence: KroneckerInfluence
    ) -> KroneckerInfluence:
        key, step, us, As = influence
        D, xs, Gs = _factors(space, carry, inputs)
        c = noise(key, step, (len(D),), D.dtype)
        factors = zip(us, As, xs, Gs, strict=True)
        us, As = zip(*(one_product(u, D @ A, scaled(c, x), scaled(c, G)) for u, A, x, G in factors), strict=True)
        return KroneckerInfluence(key, step + 1, us, As)

    def contract(
        self, space: StateSpace, adjoint: Float[Array, "B H"], influence: KroneckerInfluence
    ) -> tuple[Array, ...]:
        cell = zero_copy(space.cell)
        for linear, u, A in zip(_linears(cell), influence.inputs, influence.outputs, strict=True):
            gradient = jnp.einsum("bi,bh,bhn->in", u, adjoint, A)
            linear.kernel[...] += gradient[: linear.in_features]  # which another Linear may share
            if linear.bias is not None:
                linear.bias[...] += gradient[-1]
        return tuple(jax.tree.leaves(nnx.state(cell, nnx.Param)))


def _linears(cell: nnx.RNNCellBase) -> list[nnx.Linear]:
    return [module for _, module in nnx.iter_modules(cell) if isinstance(module, nnx.Linear)]


def _factors(
    space: StateSpace, carry: Any, inputs: Float[Array, "1 B ..."]
) -> tuple[Float[Array, "B H H"], Sequence[Float[Array, "B I"]], Sequence[Float[Array, "B H N"]]]:
    """D_t, and for each Linear its inputs in a step, with a 1 if it has a bias, and the derivative of h_t by its outputs.

    Raises:
        TypeError: a Linear that a step does not call exactly once, on one row.
    """
    leaves, structure = jax.tree.flatten(carry)

    def sample(leaves: list[Array], x: Array) -> tuple[Array, list[Array], list[Array]]:
        alone = space.alone(leaves, structure)
        states = space.states(alone)

        def end(states: Array, probes: list[Array]) -> tuple[Array, list[list[Array]]]:
            cell = space.cell
            seen = [_tap(linear, probe) for linear, probe in zip(_linears(cell), probes, strict=True)]
            return space.states(cell(space.with_states(alone, states), x[None])[0])[0], seen

        linears = _linears(space.cell)
        probes = [jnp.zeros(one.out_features, states.dtype) for one in linears]
        _, back, seen = jax.vjp(end, states, probes, has_aux=True)
        for linear, rows in zip(linears, seen, strict=True):
            if [row.size for row in rows] != [linear.in_features]:
                raise TypeError(
                    f"KFRTRL got a Linear of {linear.in_features} inputs that a step calls with {len(rows)} inputs of "
                    f"shapes {[list(row.shape) for row in rows]}, expected one call with one row per sample. Use "
                    "SketchedRTRL(rank=8) or UORO(rngs=rngs)."
                )
        D, Gs = jax.vmap(back)(jnp.eye(states.shape[1], dtype=states.dtype))
        ones = jnp.ones(1, states.dtype)
        pairs = zip(linears, seen, strict=True)
        xs = [jnp.concatenate([row.ravel(), ones]) if one.use_bias else row.ravel() for one, (row,) in pairs]
        return D[:, 0], xs, Gs

    return jax.vmap(sample, in_axes=(list(space.axes), 0))(leaves, inputs[0])


def _tap(linear: nnx.Linear, probe: Float[Array, " N"]) -> list[Array]:
    """Make a Linear add a probe to its outputs, and return the list in which it keeps the inputs of its calls."""
    dot, seen = linear.dot_general, []

    def tapped(inputs: Array, *arguments: Any, **options: Any) -> Array:
        seen.append(inputs)
        outputs = dot(inputs, *arguments, **options)
        return outputs + jnp.broadcast_to(probe, outputs.shape)

    linear.dot_general = tapped
    return seen
