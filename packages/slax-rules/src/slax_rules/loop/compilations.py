"""A warning of programs that are compiled again and again, with what differs between them and the cure."""

import itertools
import sys
import traceback
import warnings
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import optax

from slax_rules.loop.programs import Recent, functions_of
from slax_rules.loop.split import Graph
from slax_rules.loop.structure import Place, Structure, structure

KEPT_STRUCTURES = 256
COMPILATIONS = 3  # with this compilation of one structure, there is a warning

_compiled: Recent[list[dict[str, Structure]]] = Recent(KEPT_STRUCTURES)
CURES = {
    "optimizer": "Make such a number part of the optimizer's state: optax.inject_hyperparams(optax.adam)(rate, b1=b1).",
    "schedule": "Keep one schedule, and multiply what it gives: optax.chain(optax.adam(schedule), optax.scale(rate)).",
    "numbers": "Pass such a number or array with the targets.",
    "unknown": "Make the function once, before the loop.",
}


def warn_of_compilations(name: str, graph: Graph, parts: Mapping[str, Any], options: Hashable) -> None:
    """Warn of the third compilation of programs that differ only in what their functions hold.

    Args:
        name: the function that the user has called.
        graph: the graph of model, rule and optimizer.
        parts: other functions of the program, by the name of their argument.
        options: everything else.
    """
    graphdef, functions = graph.graphdef, functions_of(graph.graphdef)
    optimizers = [value for value in functions.values() if isinstance(value, optax.GradientTransformation)]
    others = [value for value in functions.values() if not isinstance(value, optax.GradientTransformation)]
    named = {"the optimizer": tuple(optimizers), **parts, "the model": tuple(others)}
    found = {part: structure(held) for part, held in named.items()}
    rest = tuple(None if index in functions else entry for index, entry in enumerate(graphdef.attributes))
    key = tuple((part, one.outline) for part, one in found.items()), rest, tuple(graphdef.nodes), options
    all_found = _compiled.get(key) or []
    if len(all_found) == COMPILATIONS:
        return
    _compiled.put(key, [*all_found, found])
    differing = list(_differing([*all_found, found], {(("item", 0), *place) for place in graph.places}))
    if len(all_found) + 1 == COMPILATIONS and differing:
        # The warning is shown at the code of the user, also where types are checked.
        callers = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_stack(sys._getframe())]
        own = itertools.takewhile(lambda name: name.startswith(("slax_rules.", "jaxtyping.")), callers)
        texts, cures = zip(*differing, strict=True)
        warnings.warn(
            f"{name} compiles a training step for the {COMPILATIONS}rd time, since {'; '.join(texts)}. Each compilation takes "
            f"seconds. {' '.join(CURES[cure] for cure in dict.fromkeys(cures))}",
            UserWarning,
            stacklevel=1 + sum(1 for _ in own),
        )


def _differing(all_found: list[dict[str, Structure]], data: set[Place]) -> Iterator[tuple[str, str]]:
    """What differs between programs, in words, and the name of the cure. Numbers that are data do not count."""
    for part in all_found[0]:
        same = [found[part] for found in all_found]
        for held in zip(*(one.values for one in same), strict=True):
            contents = dict.fromkeys(one.content for one in held)
            is_data = part == "the optimizer" and held[0].place in data
            if len(contents) > 1 and not is_data:
                shown = ", ".join(f"{one.value:.4g}" if one.is_number else "an array" for one in held)
                yield f"{held[0].name} in {part} is {shown}", _cure(part, held[0].name)
        for what in same[0].unknown if len({one.key for one in same}) == 1 else ():
            yield f"{part} holds {what}, which cannot be compared", "unknown"


def _cure(part: str, name: str) -> str:
    """The cure for a number of a part, by its name: those of schedules of Optax end with the schedule."""
    is_scheduled = name.endswith(("schedule", "schedules", "exponential_decay"))
    return "numbers" if part != "the optimizer" else "schedule" if is_scheduled else "optimizer"
