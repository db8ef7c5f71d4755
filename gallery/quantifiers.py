"""`for` in a claims.yaml: conditions with variables stand for one condition for each combination of their values.

    for: {layer: [1, 2], other: [ostl, ottt]}
    ours: {where: {rule: otpe, layer: $layer}, column: cosine}
    relation: above
    than: {where: {rule: $other, layer: $layer}, column: cosine}

stands for four conditions. A list of mappings gives the combinations one by one: `for: [{layer: 1, other: ostl}, ...]`.
"""

import itertools
import re
from collections.abc import Iterator
from typing import Any

VARIABLE = re.compile(r"\$(\w+)")
PARTS = ("ours", "relation", "than", "tolerance", "relative", "published")  # of a condition

Values = dict[str, Any]  # of the variables by name


def expand(claim: dict[str, Any]) -> dict[str, Any]:
    """The same claim with a list of conditions under `all`, without variables.

    Raises:
        ValueError: a variable is unknown or not used, or combinations have different variables.
    """
    rest = {key: value for key, value in claim.items() if key not in ("all", "for", *PARTS)}
    alone = {key: claim[key] for key in PARTS if key in claim}
    published = alone.get("published")
    if "all" in claim or (isinstance(published, str) and not VARIABLE.search(published)):
        rest |= {"published": alone.pop("published")} if "published" in alone else {}
    return rest | {"all": list(_conditions(claim.get("all", [alone]), claim.get("for", {}), {}))}


def _conditions(parts: list[dict[str, Any]], quantifier: Any, outer: Values) -> Iterator[dict[str, Any]]:
    """The conditions of parts, each of which may have a `for` of its own, for all combinations of values."""
    first, *others = mappings = quantifier if isinstance(quantifier, list) else [quantifier]
    for other in others:
        if other.keys() != first.keys():
            told = " and ".join(f"{{{', '.join(names)}}}" for names in (first, other))
            raise ValueError(f"the combinations of `for` have different variables, {told}: give all of them the same")
    used = VARIABLE.findall(str(parts))
    for name in first:
        if name not in used:
            raise ValueError(f"the variable {name} of `for` is not used: write ${name} in a condition, or leave it out")
    for mapping in mappings:
        for values in itertools.product(*(value if isinstance(value, list) else [value] for value in mapping.values())):
            known = outer | dict(zip(mapping, values, strict=True))
            for part in parts:
                if "for" in part:
                    inner = {key: value for key, value in part.items() if key != "for"}
                    yield from _conditions([inner], part["for"], known)
                else:
                    yield replaced(part, known)


def replaced(part: Any, values: Values) -> Any:
    """A condition with the values of its variables; a text that is a variable alone becomes the value itself."""
    if isinstance(part, dict):
        return {key: replaced(value, values) for key, value in part.items()}
    if not isinstance(part, str):
        return part
    for name in VARIABLE.findall(part):
        if name not in values:
            known = ", ".join(f"${name}" for name in values) or "none, since there is no `for`"
            raise ValueError(f"unknown variable ${name}; known variables: {known}")
    alone = VARIABLE.fullmatch(part)
    return values[alone[1]] if alone else VARIABLE.sub(lambda found: str(values[found[1]]), part)
