"""The lock files and the pyproject.toml files say the same, and so do pages and files that others' machines read."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MEMBERS = [tomllib.loads(path.read_text()) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]
GROUPS = {"dev": "", "cuda": "-cuda", "docs": "-docs", "release": "-release"}


def locked(suffix=""):
    text = (ROOT / f"requirements{suffix}.lock").read_text()
    assert "://" not in text  # no host is named
    pins = map(Requirement, re.findall(r"^([^\s#][^\\]*)", text, re.MULTILINE))
    return {(pin.name, next(iter(pin.specifier)).version) for pin in pins}


def declared():
    """What the workspace asks for: of each member with the extras that it names, without the members themselves."""
    own = {requirement.name: requirement.extras for requirement in map(Requirement, PROJECT["project"]["dependencies"])}
    yield from PROJECT["project"]["dependencies"]
    for member in MEMBERS:
        table = member["project"]
        yield from [*table["dependencies"], *member["build-system"]["requires"]]
        for extra in own.get(table["name"], ()):
            yield from table["optional-dependencies"][extra]


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_declared_is_locked_at_a_version_that_is_allowed(group):
    asked = [*PROJECT["dependency-groups"][group], *(declared() if group == "dev" else ())]
    members = {member["project"]["name"] for member in MEMBERS}
    pins = locked(GROUPS[group])
    for requirement in map(Requirement, asked):
        name = requirement.name.replace("_", "-")
        versions = [version for pin, version in pins if pin == name]
        assert name in members or (versions and all(map(requirement.specifier.contains, versions))), name


def test_the_page_has_the_bounds_that_the_packages_have():
    rows = re.findall(r"^\| (\w+) \| `([^`]+)` \|", (ROOT / "docs/upgrading.md").read_text(), re.MULTILINE)
    stated = {(name.lower(), SpecifierSet(bounds)) for name, bounds in rows}
    projects = [member["project"] for member in MEMBERS]
    required = [Requirement(text) for project in projects for text in project["dependencies"]]
    found = {(one.name, one.specifier) for one in required if one.name in dict(stated)}
    assert found | {("python", SpecifierSet(project["requires-python"])) for project in projects} == stated
