"""environment.yml, requirements.lock and the pyproject.toml files say the same."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MEMBERS = [tomllib.loads(path.read_text()) for path in sorted(ROOT.glob("packages/*/pyproject.toml"))]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
LOCK = (ROOT / "requirements.lock").read_text()
CUDA_LOCK = (ROOT / "requirements-cuda.lock").read_text()
LOCKED, CUDA_LOCKED = (
    [Requirement(line) for line in re.findall(r"^([^\s#][^\\]*)", lock, re.MULTILINE)] for lock in (LOCK, CUDA_LOCK)
)


def declared():
    """What the workspace or a member asks for, without the members themselves and the extras that the workspace leaves out."""
    tables = [PROJECT["project"], *(member["project"] for member in MEMBERS)]
    lists = [table["dependencies"] for table in tables]
    own = {requirement.name: requirement.extras for requirement in map(Requirement, PROJECT["project"]["dependencies"])}
    for table in tables:
        extras = table.get("optional-dependencies", {})
        lists += [extras[name] for name in own.get(table["name"], ())]
    groups = PROJECT["dependency-groups"]
    lists += [groups["dev"], groups["cuda"], *(member["build-system"]["requires"] for member in MEMBERS)]
    names = {member["project"]["name"] for member in MEMBERS}
    requirements = map(Requirement, sorted({text for listed in lists for text in listed}))
    return [requirement for requirement in requirements if requirement.name not in names]


def test_conda_python_is_one_that_the_project_allows():
    python = next(re.sub("=+", "", item[len("python") :]) for item in CONDA if str(item).startswith("python"))
    for table in [PROJECT, *MEMBERS]:
        assert SpecifierSet(table["project"]["requires-python"]).contains(python)


def test_conda_installs_the_lock_by_pip():
    assert "pip" in CONDA
    assert {"pip": ["-r bootstrap.lock", "-r requirements.lock"]} in CONDA


def test_wheels_for_a_gpu_are_those_of_the_locked_jax():
    pins = {(pin.name, str(pin.specifier)) for pin in LOCKED}
    shared = {pin.name for pin in LOCKED} & {pin.name for pin in CUDA_LOCKED}
    assert {"jax", "jaxlib"} <= shared
    assert all((pin.name, str(pin.specifier)) in pins for pin in CUDA_LOCKED if pin.name in shared)
    jax = {str(pin.specifier) for pin in LOCKED if pin.name == "jax"}
    for name in ("jax-cuda12-plugin", "jax-cuda12-pjrt"):
        assert {str(pin.specifier) for pin in CUDA_LOCKED if pin.name == name} == jax


# Groups with an environment of their own.
APART = {"docs": "requirements-docs.lock", "release": "requirements-release.lock"}


@pytest.mark.parametrize("group", APART)
def test_group_with_an_environment_of_its_own_is_locked_in_its_own_file(group):
    assert {*APART, "dev", "cuda"} == PROJECT["dependency-groups"].keys()
    text = (ROOT / APART[group]).read_text()
    locked = [Requirement(line) for line in re.findall(r"^([^\s#][^\\]*)", text, re.MULTILINE)]
    for declared in map(Requirement, PROJECT["dependency-groups"][group]):
        versions = [next(iter(pin.specifier)).version for pin in locked if pin.name == declared.name]
        assert versions and all(declared.specifier.contains(version) for version in versions)
    assert "://" not in text and text.count("--hash=sha256:") > len(locked)


def test_conda_environment_for_a_gpu_is_the_other_one_and_the_wheels():
    plain, cuda = (
        yaml.safe_load((ROOT / name).read_text())["dependencies"]
        for name in ("environment.yml", "environment-cuda.yml")
    )
    assert plain[:-1] == cuda[:-1]
    assert cuda[-1] == {"pip": [*plain[-1]["pip"], "-r requirements-cuda.lock"]}


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_declared_dependency_is_locked_at_a_version_that_it_allows(requirement):
    name = requirement.name.replace("_", "-")
    versions = [next(iter(locked.specifier)).version for locked in LOCKED if locked.name == name]
    assert versions
    assert all(requirement.specifier.contains(version) for version in versions)


@pytest.mark.parametrize(
    "name",
    [
        "requirements.lock",
        "requirements-cuda.lock",
        "bootstrap.lock",
        "environment.yml",
        "environment-cuda.yml",
    ],
)
def test_environment_names_no_host(name):
    assert "://" not in (ROOT / name).read_text()
