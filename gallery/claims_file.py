"""The reading and checking of an experiment's claims.yaml."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from experiments.pipeline.config import read_yaml
from gallery.quantifiers import expand

SCHEMA = read_yaml(Path(__file__).with_name("claims.schema.yaml"))


class ClaimError(ValueError):
    """Claims that cannot be judged as written, with a line for each mistake."""


def read_checked(path: Path, schema: dict[str, Any]) -> Any:
    """The content of a YAML file that fits a schema.

    Raises:
        ClaimError: it does not fit.
    """
    content = read_yaml(path)
    errors = jsonschema.Draft202012Validator(schema).iter_errors(content)
    mistakes = [f"{path.name}: {'.'.join(map(str, error.path))}: {error.message}" for error in errors]
    if mistakes:
        raise ClaimError("\n".join(mistakes))
    return content


def read_claims(path: Path) -> list[dict[str, Any]]:
    """The figures of a claims.yaml, checked. Each claim has the keys that its figure's `defaults` give it, and its conditions,
    without variables, in a list under `all`.

    Raises:
        ClaimError: the file is not valid.
    """
    try:
        content = read_yaml(path)
    except yaml.YAMLError as error:
        raise ClaimError(str(error)) from None
    mistakes = list(_mistakes(content))
    if not mistakes:
        for figure in content["figures"]:
            for index, claim in enumerate(figure["claims"]):
                whole = figure.get("defaults", {}) | claim
                try:
                    for key in ("kind", "source", *(() if whole.get("kind") == "check" else ("written",))):
                        if key not in whole:
                            raise ValueError(f"{key} is missing here and in the defaults")
                    figure["claims"][index] = expanded = expand(whole)
                    if _has_a_margin(expanded) and "why" not in whole:
                        raise ValueError("a margin has a reason: say `why`")
                except ValueError as error:
                    mistakes.append(f"{figure['stem']}: {claim['id']}: {error}")
        mistakes += _mistakes(content)
    if mistakes:
        raise ClaimError("\n".join(f"{path}: {mistake}" for mistake in dict.fromkeys(mistakes)))
    return content["figures"]


def _has_a_margin(claim: dict[str, Any]) -> bool:
    """True if how near is near enough is a matter of choice. What a check leaves to rounding is not."""
    margins = [one["relation"] == "near" or "error_times" in str(one["than"]) for one in claim["all"]]
    return claim["kind"] != "check" and any(margins)


def _mistakes(content: Any) -> Iterator[str]:
    """One line per mistake: its location, the value received, and the value expected."""
    for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(content):
        message = error.message
        if error.validator == "additionalProperties":
            message = f"{message}; known keys: {', '.join(error.schema.get('properties', {}))}"
        elif error.validator == "oneOf":
            message = f"got the keys {', '.join(error.instance)}, expected either ours, relation and than, or all"
        elif error.validator == "not":
            message = f"tolerance and relative belong to the relation near, got {error.instance.get('relation')}"
        yield _place(content, list(error.absolute_path)) + message
    if isinstance(content, dict):
        figures = [figure for figure in content.get("figures") or [] if isinstance(figure, dict)]
        claims = [claim for figure in figures for claim in figure.get("claims") or [] if isinstance(claim, dict)]
        for key, of in (("stem", figures), ("id", claims)):
            values = [one[key] for one in of if key in one]
            for value in dict.fromkeys(value for value in values if values.count(value) > 1):
                yield f"the {key} {value} occurs {values.count(value)} times, expected once"


def _place(content: Any, path: list[str | int]) -> str:
    """The location of a mistake, with the stem and the id in place of indices."""
    names = []
    for key in path:
        content = content[key]
        named = content.get("stem") or content.get("id") if isinstance(content, dict) else None
        names.append(str(named or key))
    return "".join(f"{name}: " for name in names if name not in ("figures", "claims") or name == names[-1])
