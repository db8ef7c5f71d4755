"""The reading of an experiment's claims.yaml.

A claim compares a number at the left with one at the right. Each is a cell of a table, found by values of columns; the one at
the right is in the row of the one at the left, except for the columns that it names. A list of values stands for each of them:

    left: {task: randman, rule: otpe, layer: [1, 2], column: cosine}
    relation: above
    right: {rule: [ottt, ostl]}

stands for four comparisons.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from experiments.pipeline.config import read_yaml
from experiments.pipeline.results import digest_of

SCHEMA = read_yaml(Path(__file__).with_name("claims.schema.yaml"))


class ClaimError(ValueError):
    """Claims that cannot be judged as written, with a line for each mistake."""


def read_checked(path: Path, schema: dict[str, Any]) -> Any:
    """The content of a YAML file that fits a schema.

    Raises:
        ClaimError: it does not fit.
    """
    try:
        content = read_yaml(path)
    except yaml.YAMLError as error:
        raise ClaimError(str(error)) from None
    errors = jsonschema.Draft202012Validator(schema).iter_errors(content)
    if mistakes := [f"{path}: {_place(content, error.absolute_path)}{error.message}" for error in errors]:
        raise ClaimError("\n".join(mistakes))
    return content


def read_claims(path: Path) -> list[dict[str, Any]]:
    """The figures of a claims.yaml. Each claim has what the `defaults` of its figure say, and its `comparisons`.

    Raises:
        ClaimError: the file is not valid.
    """
    figures: list[dict[str, Any]] = read_checked(path, SCHEMA)["figures"]
    complete = jsonschema.Draft202012Validator(SCHEMA["$defs"]["complete"])
    mistakes = []
    for figure in figures:
        figure["claims"] = [figure.get("defaults", {}) | claim for claim in figure["claims"]]
        for claim in figure["claims"]:
            parts = [claim | part for part in claim.get("all", [{}])]
            lacking = dict.fromkeys(error.message for part in parts for error in complete.iter_errors(part))
            mistakes += [f"{path}: {figure['stem']}: {claim['id']}: {one}" for one in lacking]
            claim["comparisons"] = [] if lacking else list(comparisons(claim))
    if mistakes:
        raise ClaimError("\n".join(mistakes))
    return figures


def comparisons(claim: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The comparisons of a claim, each between two cells, or a cell and a number. Those under `all` change the claim's own."""
    for part in claim.get("all", [{}]):
        whole = claim | part
        right = whole["right"]
        for left in _cells(claim.get("left", {}) | part.get("left", {})):
            for other in _cells(right) if isinstance(right, dict) else [right]:
                than = left | other if isinstance(right, dict) else right
                yield {"left": left, "relation": whole["relation"], "right": than, "margin": whole.get("margin")}


def form_of(claim: dict[str, Any], stem: str) -> str:
    """A digest of what a claim compares, without its words."""
    scale = claim.get("scale")
    scales = [scale] if isinstance(scale, str) else scale
    return digest_of([claim["kind"], scales, stem, claim["comparisons"]])[:12]


def _cells(place: dict[str, Any]) -> list[dict[str, Any]]:
    """One place for each combination of the values that stand in lists."""
    values = [value if isinstance(value, list) else [value] for value in place.values()]
    return [dict(zip(place, chosen, strict=True)) for chosen in itertools.product(*values)]


def _place(content: Any, path: Any) -> str:
    """Where a mistake is, with the stem and the id in place of numbers."""
    names = []
    for key in path:
        content = content[key]
        names.append(str((content.get("stem") or content.get("id") if isinstance(content, dict) else None) or key))
    return "".join(f"{name}: " for name in names)
