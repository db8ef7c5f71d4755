"""e-prop, which filters eligibilities."""

import dataclasses

from slax_rules.rules.otpe import SummedEligibilities


@dataclasses.dataclass(frozen=True)
class EProp(SummedEligibilities):
    """e-prop: eligibilities, filtered as the next layer's membrane filters spikes.

        F_t = kappa F_{t-1} + eps_t        gradient: sum_t delta_t F_t        signal below: delta_t psi_t W^T  # or B^T for W^T

    with the eligibilities eps of `OSTL`, in which the spikes that arrive over late edges, including the layer's own edges, are
    treated as given inputs. The last layer, the read-out, uses OSTL.

    Args:
        output_decay: kappa, the decay of the filter, in [0, 1], for all layers. By default the decay of the next layer's
            membrane, which has to be one number.
        route: the signal that reaches a layer, and the signal that it passes below; see `Route`. As published, `Symmetric()`,
            `Random(rngs=rngs)`, `Adaptive(model, rngs=rngs)` or `Direct(rngs=rngs)` feedback.

    Raises:
        ValueError: an output_decay outside [0, 1].
        TypeError: a next layer whose decay is not one number, if none is given.

    References:
        Bellec et al.: A solution to the learning dilemma for recurrent networks of spiking neurons, 2020,
        doi 10.1038/s41467-020-17236-y.

    Note:
        The paper has one recurrent layer below a read-out, for which this is its rule; it detaches the reset, which is an
        option of the neuron here. In deeper stacks the paper sends the error of the read-out to each neuron, which is
        `route=Direct(rngs=rngs)`; the other three pass signals from layer to layer.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import EProp, Random, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()], {0: [1]}, rngs=rngs)
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=EProp(route=Random(rngs=rngs)))
    """
