"""The reading and checking of an experiment's claims.yaml."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from experiments.common.yaml_files import read_yaml
from gallery.quantifiers import expand

SCHEMA = read_yaml(Path(__file__).with_name("claims.schema.yaml"))


class ClaimError(ValueError):
    """Claims that cannot be judged as written, with a line for each mistake."""


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
        content, mistakes = _expanded(content)
        mistakes += _mistakes(content)
    if mistakes:
        raise ClaimError("\n".join(f"{path}: {mistake}" for mistake in dict.fromkeys(mistakes)))
    return content["figures"]


def _expanded(content: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The content with all conditions written out, and the mistakes in variables and defaults."""
    figures, mistakes = [], []
    for figure in content["figures"]:
        claims = []
        for claim in figure["claims"]:
            whole = figure.get("defaults", {}) | claim
            if "source" not in whole:
                mistakes.append(f"{figure['stem']}: {claim['id']}: a source is missing here and in the defaults")
            try:
                claims.append(expand(whole))
            except ValueError as error:
                mistakes.append(f"{figure['stem']}: {claim['id']}: {error}")
        figures.append(figure | {"claims": claims})
    return {"figures": figures}, mistakes


def _mistakes(content: Any) -> Iterator[str]:
    """One line per mistake: its location, the value received, and the value expected."""
    for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(content):
        place = _place(content, list(error.absolute_path))
        if error.validator == "additionalProperties":
            known = error.schema.get("properties", {})
            unknown = ", ".join(repr(key) for key in error.instance if key not in known)
            yield f"{place}unknown key {unknown}; known keys: {', '.join(known)}"
        elif error.validator == "oneOf":
            yield f"{place}got the keys {', '.join(error.instance)}, expected either ours, relation and than, or all"
        elif error.validator == "required" and "then" in error.absolute_schema_path:
            yield f"{place}the relation near needs a tolerance"
        elif error.validator == "not":
            yield f"{place}tolerance and relative belong to the relation near, got {error.instance.get('relation')}"
        else:
            yield f"{place}{error.message}"
    if isinstance(content, dict):
        figures = [figure for figure in content.get("figures") or [] if isinstance(figure, dict)]
        yield from _repeated("stem", [figure.get("stem") for figure in figures])
        claims = [claim for figure in figures for claim in figure.get("claims") or [] if isinstance(claim, dict)]
        yield from _repeated("id", [claim.get("id") for claim in claims])


def _place(content: Any, path: list[str | int]) -> str:
    """The location of a mistake, with the stem and the id in place of indices."""
    names = []
    for key in path:
        content = content[key]
        named = content.get("stem") or content.get("id") if isinstance(content, dict) else None
        names.append(str(named or key))
    return "".join(f"{name}: " for name in names if name not in ("figures", "claims") or name == names[-1])


def _repeated(key: str, values: list[Any]) -> Iterator[str]:
    for value in dict.fromkeys(values):
        if value is not None and values.count(value) > 1:
            yield f"the {key} {value} occurs {values.count(value)} times, expected once"
