"""DECOLLE, which is OTTT with local losses."""

import dataclasses

from flax import nnx

from slax_rules.rules.base import Route
from slax_rules.rules.ottt import OTTT
from slax_rules.rules.routes import Local


@dataclasses.dataclass(frozen=True, init=False)
class DECOLLE(OTTT):
    """Deep continuous local learning (DECOLLE): `OTTT` with a separate loss for each layer, `Local`.

        y^l_t = s^l_t Q^l        signal of layer l: dl^l_t/dy^l_t (Q^l)^T      gradient: sum_t delta_t psi_t a_t

    with a fixed random read-out Q of each hidden layer and the traces a of `OTTT`. No hidden layer takes a learning signal from
    above, so the gradient of a hidden layer does not depend on the layers above. The last layer has the loss of the model's
    output, which is the loss that `gradients` returns. Other traces can be used with these losses, as in
    `OSTL(route=Local(rngs=rngs))`.

    Args:
        bias_trace: whether a bias has a trace; see `OTTT`.
        rngs: random streams for the read-outs, Q ~ N(0, 1 / N).
        route: the read-outs themselves, `Local(rngs=rngs)` by default.

    Raises:
        TypeError: a neuron that is not linear except for its spikes, or that has parameters per unit; neither rngs nor route.

    References:
        Kaiser, Mostafa, Neftci: Synaptic plasticity dynamics for deep continuous local learning (DECOLLE), 2020,
        doi 10.3389/fnins.2020.00424.

    Note:
        In the paper, the last layer also has a fixed read-out: for that, end the stack with one, a function after the last
        neuron. The paper's neuron has a synapse and a refractory trace through which no gradient passes: `CuBaLIF` with
        stop_reset_gradient is close to it. Its regularizers are not part of the rule.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import DECOLLE, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=DECOLLE(rngs=rngs))
    """

    def __init__(self, *, bias_trace: bool = True, rngs: nnx.Rngs | None = None, route: Route | None = None):
        if route is None:
            if rngs is None:
                raise TypeError("DECOLLE got no rngs, expected random streams: DECOLLE(rngs=nnx.Rngs(0)).")
            route = Local(rngs=rngs)
        super().__init__(bias_trace, route=route)
