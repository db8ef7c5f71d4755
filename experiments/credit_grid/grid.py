"""The cells of the grid: a rule for layers, which says how a layer's past enters its gradient, with a route for its signal.

A cell is named TEMPORAL/SPATIAL, such as "ostl/direct": a rule of `RULES`, and a route of `ROUTES`. The two references are not
cells: "bptt" is BPTT, and "fixed" trains the read-out alone, with its exact gradient, so the hidden layers stay as drawn.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from slax_neurons import Connect, Neuron
from slax_rules import BPTT, DECOLLE, OPZO, OSTL, OTTT, RULES, SLTT, LayerRule, PerLayer, Route, Symmetric, cost
from slax_rules.rules import routes
from slax_rules.rules.base import FeedbackSignals
from slax_rules.rules.opzo import LearnedMatrices

REFERENCE, FIXED = REFERENCES = "bptt", "fixed"
WITH_EDGES = "ostl_with_recurrence"  # OSTL where there are no edges
ROUTES: dict[str, type[Route]] = {
    "symmetric": Symmetric,
    "random": routes.Random,
    "adaptive": routes.Adaptive,
    "direct": routes.Direct,
    "noise": LearnedMatrices,
    "target": routes.Target,
    "local": routes.Local,
    "fixed_bases": routes.FixedBases,
}


@dataclasses.dataclass(frozen=True)
class NoSignal(Route):
    """Hidden layers get no signal, so they stay as they are."""

    skips_layers = True

    def signal(self, layer: Any, outputs: jax.Array, feedback: FeedbackSignals) -> jax.Array:
        return jnp.zeros_like(outputs)


def cells(config: dict[str, Any]) -> list[str]:
    """The names of the cells of a configuration, row by row."""
    return [f"{temporal}/{spatial}" for temporal in config["temporal"] for spatial in config["spatial"]]


def make_cell(name: str, *, rngs: nnx.Rngs, model: Connect) -> Any:
    """The rule of a cell or of a reference; `rngs` are for its random matrices."""
    if name == REFERENCE:
        return RULES[name].make()
    if name == FIXED:
        hidden = sum(module.spikes for module in model.modules if isinstance(module, Neuron))
        return PerLayer([*[SLTT(route=NoSignal())] * hidden, OSTL()])
    temporal, spatial = name.split("/")
    if spatial == "noise":
        return OPZO(model, RULES[temporal].make(), rngs=rngs)
    drawn = {} if spatial in ("symmetric", "fixed_bases") else {"rngs": rngs}
    return RULES[temporal].make(route=ROUTES[spatial](*([model] if spatial == "adaptive" else []), **drawn))


def cell_of(name: str) -> str | None:
    """The cell that a rule of `RULES` is, up to its options; None if it is not a rule for layers in a stack without edges."""
    if name == WITH_EDGES:
        return None
    entry = RULES[name]
    # DECOLLE and OPZO are names for OTTT with a route.
    with_route: dict[Any, Any] = {DECOLLE: (OTTT, routes.Local), OPZO: (OTTT, LearnedMatrices)}
    rule, route = with_route.get(entry.rule, (entry.rule, entry.route or Symmetric))
    plain = [other for other, row in RULES.items() if row.rule is rule and row.route is None and not row.options]
    columns = [other for other, column in ROUTES.items() if column is route]
    return f"{plain[0]}/{columns[0]}" if plain and columns and issubclass(rule, LayerRule) else None


def published(cell: str) -> list[str]:
    """The names in `RULES` of the rules that a cell is, up to their options."""
    return [name for name in RULES if cell_of(name) == cell]


def kept_numbers(model: Connect, shape: tuple[int, ...]) -> int:
    """The numbers that BPTT keeps of one sample of a batch in this shape [T, B, N], which are float32."""
    return cost(model, BPTT(), shape, measure=False).counted_bytes // 4


def carried_numbers(cell: str, model: Connect, inputs: int) -> int:
    """The numbers in the traces of a cell or of "fixed" for one sample: the part that grows with the batch, from the shapes."""
    rule = make_cell(cell, rngs=nnx.Rngs(0), model=model)
    graphdef, state = nnx.split((model, rule))

    def size(batch: int) -> int:
        x = jax.ShapeDtypeStruct((batch, inputs), "float32")

        def traces(state: nnx.State) -> Any:
            model, rule = nnx.merge(graphdef, state)
            return rule.init(model, model.initialize_carry(x.shape), x)

        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(traces, state)))

    return size(2) - size(1)
