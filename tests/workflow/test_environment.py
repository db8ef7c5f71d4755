"""The lock files and the pyproject.toml files say the same, and so do pages and files that others' machines read."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from release import version

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


def test_wheels_for_a_gpu_are_those_of_the_locked_jax():
    plain, cuda = set(locked()), set(locked("-cuda"))  # of several Pythons
    names = {name for name, _ in plain}
    assert {pin for pin in cuda if pin[0] in names} <= plain
    for name in ("jax", "jax-cuda12-plugin", "jax-cuda12-pjrt"):
        assert {version for pin, version in cuda if pin == name} == {version for pin, version in plain if pin == "jax"}


def test_all_packages_have_one_version_and_slax_all_asks_for_each_in_it():
    present = version.version_of()
    for package in version.PACKAGES:
        text = (package / "pyproject.toml").read_text()
        assert text == version.with_version(text, present), "python -m release.version"
    asked = {Requirement(text).name: str(Requirement(text).specifier) for text in project("slax-all")["dependencies"]}
    assert asked == {package.name: f"=={present}" for package in version.PACKAGES if package.name != "slax-all"}


def project(package):
    return tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]


def read(name):
    return (ROOT / name).read_text()


def test_the_page_has_the_bounds_that_the_packages_have():
    rows = re.findall(r"^\| (\w+) \| `([^`]+)` \|", read("docs/upgrading.md"), re.MULTILINE)
    stated = {(name.lower(), SpecifierSet(bounds)) for name, bounds in rows}
    projects = [member["project"] for member in MEMBERS]
    required = [Requirement(text) for project in projects for text in project["dependencies"]]
    found = {(one.name, one.specifier) for one in required if one.name in dict(stated)}
    assert found | {("python", SpecifierSet(project["requires-python"])) for project in projects} == stated


def test_the_package_to_copy_asks_for_the_present_slax_rules():
    """And has its own version after a release, which writes the next series into it."""
    text, present = version.TEMPLATE.read_text(), version.version_of()
    assert text == version.asking_for(text, present), "python -m release.version"
    (required,) = map(Requirement, tomllib.loads(text)["project"]["dependencies"])
    assert required.name == "slax-rules" and required.specifier.contains(present)
    later = tomllib.loads(version.asking_for(text, "0.10.2"))["project"]
    assert (later["dependencies"], later["version"]) == (["slax-rules>=0.10"], "0.1.0")
