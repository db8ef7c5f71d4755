"""A check that the layers of a stack fire and that gradients pass through them, with a table and remedies."""

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Shaped

from slax_neurons.analysis.activity import measured
from slax_neurons.analysis.model_summary import aligned
from slax_neurons.neurons.neuron import NeuronCell
from slax_neurons.surrogates import Surrogate
from slax_neurons.synapses.synapse import with_effective_weights
from slax_neurons.unrolling import check_sequence
from slax_neurons.wiring import check_stack, parts_of

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
COLUMNS = ("layer", "units", "rate", "min", "25 %", "50 %", "75 %", "max", "dead", "saturated", "support")

SATURATED = 0.95  # of the steps at which a saturated unit fires
SUPPORT = 0.01  # of the surrogate gradient at the threshold, from which on it is not negligible

# A layer beyond these limits is unhealthy. They find layers that can hardly learn, and do not grade the others.
MOST_DEAD = 0.5
MOST_SATURATED = 0.5
LEAST_SUPPORT = 0.05

HINTS = {
    "dead": "most units never fire. Raise the weights into the first of these layers, as with "
    "kernel_init=fluctuation_driven(...), or lower its threshold; often those after it then fire too.",
    "saturated": "most units fire at nearly every step. Lower the weights into the first of these layers, or raise its "
    "threshold.",
    "no support": "the surrogate gradient is negligible at nearly all steps. Use a wider spike function, as "
    "spike_fn=fast_sigmoid(5.0) for thresholds near 1, or super_spike(0.05) for potentials in mV, or bring the membranes "
    "nearer to the threshold, as fluctuation_driven does.",
}


@dataclasses.dataclass(frozen=True)
class LayerHealth:
    """One spiking layer on one batch.

    Args:
        name: index in the stack and class, such as "1 LIF"; "3.1 LIF" is in a stack that is module 3.
        units: number of units.
        rate: spikes per step and unit.
        quantiles: minimum, quartiles and maximum of the units' rates.
        dead: share of the units that never fire.
        saturated: share of the units that fire at nearly every step (see `health`).
        support: share of unit-steps at which the surrogate gradient is not negligible (see `health`).

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons import IF, connect, health
        >>> currents = jnp.tile(jnp.array([0.0, 0.0, 0.0, 0.5]), (20, 1, 1))  # 20 steps of 1 sample for 4 units
        >>> layer = health(connect([IF()]), currents).layers[0]
        >>> layer.name, layer.rate, layer.dead, layer.problems
        ('0 IF', 0.125, 0.75, ('dead',))
    """

    name: str
    units: int
    rate: float
    quantiles: tuple[float, ...]
    dead: float
    saturated: float
    support: float

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems among `HINTS` that this layer has; none if it is healthy."""
        sick = (self.dead > MOST_DEAD, self.saturated > MOST_SATURATED, self.support < LEAST_SUPPORT)
        return tuple(itertools.compress(HINTS, sick))


@dataclasses.dataclass(frozen=True, repr=False)
class Health:
    """All spiking layers of a stack on one batch, in order. It prints as a table, with a hint for each problem found.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons import IF, connect, health
        >>> report = health(connect([IF()]), jnp.full((20, 1, 4), 0.5))
        >>> report.healthy, [layer.name for layer in report.layers]
        (True, ['0 IF'])
    """

    layers: tuple[LayerHealth, ...]

    @property
    def healthy(self) -> bool:
        """True if, in each layer, at most half of the units are dead, at most half are saturated, and at least 5 % of the
        unit-steps have support."""
        return not any(layer.problems for layer in self.layers)

    def _hints(self) -> list[str]:
        """A line for each problem that some layer has."""
        sick = {problem: [layer.name for layer in self.layers if problem in layer.problems] for problem in HINTS}
        return [f"{problem}, in {', '.join(layers)}: {HINTS[problem]}" for problem, layers in sick.items() if layers]

    def __repr__(self) -> str:
        return "\n".join([*aligned([COLUMNS, *map(_row, self.layers)], left=1), *self._hints()])


def _row(layer: LayerHealth) -> tuple[str, ...]:
    rates = (f"{rate:.3f}" for rate in (layer.rate, *layer.quantiles))
    shares = (f"{share:.0%}".replace("%", " %") for share in (layer.dead, layer.saturated, layer.support))
    return layer.name, str(layer.units), *rates, *shares


def health(
    model: Any,
    inputs: Shaped[Array, "T B ..."],
    *,
    mask: Bool[Array, "T B"] | Bool[np.ndarray, "T B"] | None = None,
    chunk: int = 32,
) -> Health:
    """Measure rates, dead and saturated units, and the reach of the surrogate gradient for each spiking layer on a batch.

    A layer spikes if its neuron declares `spikes = True`; others, such as a read-out, are left out. A unit is one of a layer's
    features. It is saturated if it fires at 95 % of the steps or more. The surrogate gradient has support where |ds_t / dI_t|,
    at the state before the step, is at least 1 % of its value at the threshold. Both are found by forward-mode differentiation
    of the neuron itself; for the second, the derivative of its `spike_fn` is taken at 0 instead.

    Args:
        model: a stack made by `connect`; stacks inside it are reported layer by layer.
        inputs: a batch of inputs to the model, [T, B, features...].
        mask: bool [T, B], true where a step counts; by default all do. Padding after the end of a sequence lowers all rates
            if it counts.
        chunk: steps whose activity is kept in memory together; it never changes the result. A model with modules that
            change their own variables gets the entire sequence in one chunk, and is itself left unchanged.

    Returns:
        A `Health`, which prints as a table; `.healthy` is the verdict.

    Raises:
        TypeError: a model that is not a `Connect`, or neurons that spike and have no `spike_fn`.
        ValueError: inputs without time, batch and features, currents that are NaN or infinite, a stack without a spiking layer,
            a mask of another shape or type or without a true entry, an option out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from slax_neurons import IF, connect, health
        >>> currents = jnp.tile(jnp.array([0.0, 0.0, 0.0, 0.5]), (20, 1, 1))  # 20 steps of 1 sample for 4 units
        >>> print(health(connect([IF()]), currents))
        layer  units   rate    min   25 %   50 %   75 %    max  dead  saturated  support
        0 IF       4  0.125  0.000  0.000  0.000  0.125  0.500  75 %        0 %     12 %
        dead, in 0 IF: most units never fire. Raise the weights into the first of these layers, ...
    """
    check_stack(model, "health")
    check_sequence(inputs)
    if mask is not None and (mask.dtype != bool or mask.shape != inputs.shape[:2] or not mask.any()):
        expected = f"bool{list(inputs.shape[:2])} with a true entry"
        raise ValueError(f"health got a mask of {mask.dtype}{list(mask.shape)}, expected {expected}.")
    names = [f"{place} {type(part).__name__}" for place, part in parts_of(model) if _is_spiking(part)]
    if not names:
        raise ValueError("health got a stack without a spiking layer, expected a neuron that spikes, such as LIF.")
    model = with_effective_weights(model)
    found = measured(_steps_of_units, model, inputs, mask, chunk=chunk)
    steps = math.prod(inputs.shape[:2]) if mask is None else int(mask.sum())
    layers = list(zip(names, (counts for counts in found if counts is not None), strict=True))
    for name, (*_, not_finite) in layers:
        if count := int(np.sum(not_finite)):
            cure = "Look at the inputs first, then at the weights before this layer."
            raise ValueError(f"health got currents into {name} of which {count} are NaN or infinite. {cure}")
    return Health(tuple(_layer(name, *(np.sum(count, 0) / steps for count in counts[:2])) for name, counts in layers))


def _layer(name: str, rates: np.ndarray, support: np.ndarray) -> LayerHealth:
    return LayerHealth(
        name=name,
        units=rates.size,
        rate=float(rates.mean()),
        quantiles=tuple(float(rate) for rate in np.quantile(rates, QUANTILES)),
        dead=float(np.mean(rates == 0)),
        saturated=float(np.mean(rates >= SATURATED)),
        support=float(np.mean(support)),
    )


def _is_spiking(module: nnx.Module) -> bool:
    return isinstance(module, NeuronCell) and module.spikes


def _steps_of_units(module: Any, carry: Any, inputs: Array, outputs: Any, mask: Any) -> list[Array] | None:
    """The number of samples, step by step, in which each unit of a spiking layer fires, has support, and gets a current that is
    not finite."""
    if not _is_spiking(module):
        return None
    happens = [outputs != 0, _supported(module, carry, inputs), ~jnp.isfinite(inputs)]
    if mask is not None:
        happens = [events & mask.reshape(*mask.shape, *[1] * (events.ndim - 2)) for events in happens]
    return [jnp.sum(events, 1, dtype=jnp.int32) for events in happens]


def _supported(neuron: Any, carry: Any, currents: Array) -> Bool[Array, "T B ..."]:
    """Whether each unit's surrogate gradient is at least `SUPPORT` times its value at the threshold."""
    at_threshold = neuron.replace(spike_fn=Surrogate(jnp.ones_like))
    origin = jnp.zeros((), currents.dtype)
    _, peak = jax.jvp(neuron.spike_fn, (origin,), (jnp.ones_like(origin),))

    def step(carry: Any, current: Array) -> tuple[Any, Array]:
        along = (current,), (jnp.ones_like(current),)
        _, slope, after = jax.jvp(lambda current: neuron(carry, current)[::-1], *along, has_aux=True)
        _, gain = jax.jvp(lambda current: at_threshold(carry, current)[1], *along)
        return after, (jnp.abs(slope) >= SUPPORT * jnp.abs(peak * gain)) & (slope != 0)

    return jax.lax.scan(step, carry, currents)[1]
