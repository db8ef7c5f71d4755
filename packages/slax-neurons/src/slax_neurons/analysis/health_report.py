"""The report of `health`: numbers per spiking layer, a table of them, and remedies for unhealthy layers."""

import dataclasses

from slax_neurons.analysis.tables import aligned

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
COLUMNS = ("layer", "units", "rate", "min", "25 %", "50 %", "75 %", "max", "dead", "saturated", "support")

# A layer beyond these limits is unhealthy. They find layers that can hardly learn, and do not grade the others.
MOST_DEAD = 0.5
MOST_SATURATED = 0.5
LEAST_SUPPORT = 0.05

HINTS = {
    "dead": "most units never fire. Raise the weights into the first of these layers, as with "
    "kernel_init=fluctuation_driven(...), or lower its threshold; often those after it then fire too.",
    "saturated": "most units fire at nearly every step. Lower the weights into the first of these layers, or raise its "
    "threshold.",
    "no support": "the surrogate gradient is negligible at nearly all steps. Lower the spike function's slope, as "
    "spike_fn=fast_sigmoid(5.0), or bring the membranes nearer to the threshold, as fluctuation_driven does.",
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
        sick = {
            "dead": self.dead > MOST_DEAD,
            "saturated": self.saturated > MOST_SATURATED,
            "no support": self.support < LEAST_SUPPORT,
        }
        return tuple(problem for problem in HINTS if sick[problem])


@dataclasses.dataclass(frozen=True)
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

    def __str__(self) -> str:
        rows = [COLUMNS, *map(_row, self.layers)]
        lines = aligned(rows, left=1)
        for problem, hint in HINTS.items():
            sick = [layer.name for layer in self.layers if problem in layer.problems]
            if sick:
                lines.append(f"{problem}, in {', '.join(sick)}: {hint}")
        return "\n".join(lines)


def _row(layer: LayerHealth) -> tuple[str, ...]:
    rates = (f"{rate:.3f}" for rate in (layer.rate, *layer.quantiles))
    shares = (f"{share:.0%}".replace("%", " %") for share in (layer.dead, layer.saturated, layer.support))
    return layer.name, str(layer.units), *rates, *shares
