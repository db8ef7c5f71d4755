"""A warning about a training step that is compiled again and again, with what differs and what to do."""

from collections.abc import Hashable, Mapping
from typing import Any

from slax_rules.loop.programs import LRU, is_function
from slax_rules.loop.split import Graph
from slax_rules.loop.structure import structure

COMPILATIONS = 3  # with this program of one structure, there is a warning
CURES = {
    "the optimizer": "Make such a number part of the optimizer's state, optax.inject_hyperparams(optax.adam)(rate, b1=b1), or "
    "scale one schedule: optax.chain(optax.adam(schedule), optax.scale(rate)).",
    "loss_fn": "Pass such a number or array with the targets.",
}
_programs: LRU[list[tuple[Hashable, ...]]] = LRU(256)  # what the functions of each hold, by structure


def third_compilation(name: str, graph: Graph, parts: Mapping[str, Any], options: Hashable) -> str | None:
    """The warning for the third program of the function `name` that differs from the others only in what its functions hold.

    Integers are taken as part of the structure: most are sizes, with which shapes differ as well.
    """
    attributes = [(one, getattr(one[1], "value", None)) for one in graph.graphdef.attributes]
    others = [value for _, value in attributes if is_function(value) and value is not graph.transformation]
    parts = {"the optimizer": getattr(graph.transformation, "update", None), **parts, "the model or the rule": others}
    key: list[Hashable] = [name, options, *graph.graphdef.nodes]
    key += [None if is_function(value) else attribute for attribute, value in attributes]
    items: list[tuple[str, Hashable, str]] = []  # in words, the content, and the cure
    for part, found in ((part, structure(value)) for part, value in parts.items()):
        key += [found.code, *(held.value for held in found.values if isinstance(held.value, int))]
        cure = CURES.get(part, "Such a number is compiled in: try few.")
        numbers = (one for one in found.values if not isinstance(one.value, int) and one.place not in graph.places)
        items += [(f"{held.name} in {part}", held.content, cure) for held in numbers]
        items.append((f"an object in {part}", found.itself, "Make the function once, before the loop."))
    known, new = _programs.get(tuple(key)) or [], tuple(content for _, content, _ in items)
    if new in known or len(known) == COMPILATIONS:
        return None
    known = _programs.put(tuple(key), [*known, new])
    if len(known) < COMPILATIONS:
        return None
    columns = zip(items, *known, strict=True)
    differing = {text: cure for (text, _, cure), *contents in columns if len({*contents}) > 1}
    return (
        f"{name} got a third version of one training step, and compiles again, which takes seconds. The three differ in "
        f"{'; '.join(differing)}. {' '.join(dict.fromkeys(differing.values()))}"
    )
