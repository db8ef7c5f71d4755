"""Penalties: losses on the outputs of hidden layers, such as a target for firing rates."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from slax_neurons import Connect, Neuron


@dataclasses.dataclass(frozen=True)
class Penalty:
    """A loss on hidden layers, in addition to the loss of the model's outputs: `gradients(..., penalties=[Penalty(...)])`.

        loss += weight mean_{t,b} p(z_t)        # of each step and sample
        loss += weight p(mean_{t,b} z_t)        # with of_mean=True

    where z are the outputs of a layer, and the mean is over all steps and samples whose loss counts: with a mask,
    it excludes padding; without one, padding counts, and its silence lowers a mean rate. Under BPTT and every other rule
    for any cell, the gradient is exact for this sum. Under a rule for layers, dp/dz joins the learning signal of its layer
    within the step, and passes to the layers below along the rule's route.

    Args:
        function: maps values [B, ...] of one step to losses [B], or, with of_mean, the mean [...] to a number. A class
            with options should be a frozen dataclass, so that it does not compile again each time it is made.
        weight: factor of the loss; may be negative, which makes the penalty a bonus.
        layers: numbers of the layers of neurons, from 0 for the first; all layers whose outputs are spikes by default.
        of_mean: whether the function is applied to the mean over time and batch. With several windows and updates offline, the
            mean is computed in a first forward pass; online it is the mean over the window.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import OSTL, Penalty, cross_entropy, gradients
        >>> rngs = nnx.Rngs(0)
        >>> model = connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 3, rngs=rngs), LI()])
        >>> inputs, labels = jnp.ones((20, 2, 8)), jnp.array([0, 2])
        >>> def spikes_squared(outputs):
        ...     return jnp.square(outputs.sum(axis=-1))
        >>> penalty = Penalty(spikes_squared, weight=0.01)
        >>> loss, gradient = gradients(model, cross_entropy, inputs, labels, rule=OSTL(), penalties=[penalty])
        >>> bool(loss > gradients(model, cross_entropy, inputs, labels, rule=OSTL())[0])
        True
    """

    function: Callable[[Array], Array]
    weight: float = 1.0
    layers: Sequence[int] | None = None
    of_mean: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.layers, int):
            raise TypeError(f"Penalty got layers={self.layers}, expected numbers of layers: layers=({self.layers},).")
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(self.layers))


@dataclasses.dataclass(frozen=True)
class RateError:
    """The function of `firing_rate`: 1/2 sum_j (f_j - target)^2 of rates f [...], the mean outputs of a layer's units."""

    target: float

    def __call__(self, rates: Array) -> Float[Array, ""]:
        return jnp.sum(jnp.square(rates - self.target)) / 2


def _total(outputs: Float[Array, "B ..."]) -> Float[Array, " B"]:
    return jnp.sum(jnp.abs(outputs), axis=tuple(range(1, outputs.ndim)))


def firing_rate(target: float, weight: float = 1.0, layers: Sequence[int] | None = None) -> Penalty:
    """A target for the firing rate of each unit: (weight / 2) sum_j (f_j - target)^2, with the mean f_j over time and batch.

    Args:
        target: spikes per step, in [0, 1].
        weight: factor of the loss; may be negative, which makes the penalty a bonus.
        layers: see `Penalty`.

    Raises:
        ValueError: a target outside [0, 1].

    References:
        Bellec et al.: A solution to the learning dilemma for recurrent networks of spiking neurons, 2020,
        doi 10.1038/s41467-020-17236-y, Methods, "Firing rate regularization".

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules import firing_rate
        >>> round(float(firing_rate(0.1).function(jnp.array([0.1, 0.3]))), 3)
        0.02
    """
    if not 0 <= target <= 1:
        raise ValueError(f"firing_rate got target={target}, expected spikes per step, a number in [0, 1].")
    return Penalty(RateError(target), weight, layers=layers, of_mean=True)


def sparsity(weight: float, layers: Sequence[int] | None = None) -> Penalty:
    """A cost of each spike: weight times the mean number of spikes per step and sample, the l1 norm of the outputs.

    The derivative with respect to an output is the weight, even where there is no spike, so that a silent unit is pushed away
    from its threshold.

    Args:
        weight: cost of a spike, any number; below 0 it is a reward.
        layers: see `Penalty`.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_rules import sparsity
        >>> sparsity(0.1).function(jnp.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
        Array([2., 0.], dtype=float32)
    """
    return Penalty(_total, weight, layers=layers)


def neurons_of(model: Any) -> list[Neuron]:
    """The neurons of each layer of a stack, from the first to the last; none for a cell that is not a stack."""
    found: list[Neuron] = []
    for module in model.modules if isinstance(model, Connect) else ():
        if isinstance(module, Connect):
            found += neurons_of(module)
        elif isinstance(module, Neuron):
            found.append(module)
    return found


def checked_penalties(penalties: Iterable[Penalty], model: Any) -> tuple[Penalty, ...]:
    """The penalties as a tuple.

    Raises:
        TypeError: anything other than several penalties, or penalties for a model without layers of neurons.
        ValueError: a layer that the model does not have.
    """
    found = tuple(penalties) if isinstance(penalties, Iterable) else (penalties,)
    if not isinstance(penalties, Iterable) or not all(isinstance(one, Penalty) for one in found):
        raise TypeError(f"Got penalties={penalties!r}, expected a list of them: [firing_rate(0.05, weight=1.0)].")
    if found:
        penalties_by_layer(found, model)
    return found


def penalties_by_layer(
    penalties: tuple[Penalty, ...], model: Any
) -> tuple[tuple[int, ...], tuple[tuple[int, Penalty], ...]]:
    """The numbers of the layers that penalties read; and each penalty of each layer, with the layer's index among these."""
    neurons = neurons_of(model)
    spiking = tuple(number for number, neuron in enumerate(neurons) if neuron.spikes)
    found: list[tuple[int, Penalty]] = []
    for penalty in penalties:
        layers = spiking if penalty.layers is None else penalty.layers
        if not layers:
            raise TypeError("Got a penalty for a model without spiking neurons. Name layers: layers=(0,).")
        for number in layers:
            if not 0 <= number < len(neurons):
                raise ValueError(f"Got a penalty for layer {number}, expected numbers from 0 to {len(neurons) - 1}.")
            found.append((number, penalty))
    read = tuple(dict.fromkeys(number for number, _ in found))
    return read, tuple((read.index(number), penalty) for number, penalty in found)
