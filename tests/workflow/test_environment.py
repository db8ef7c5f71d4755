"""The lock files and the pyproject.toml files say the same."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

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
        assert name in members or (versions and all(requirement.specifier.contains(version) for version in versions)), (
            name
        )


def test_wheels_for_a_gpu_are_those_of_the_locked_jax():
    plain, cuda = set(locked()), set(locked("-cuda"))  # of several Pythons
    names = {name for name, _ in plain}
    assert {pin for pin in cuda if pin[0] in names} <= plain
    for name in ("jax", "jax-cuda12-plugin", "jax-cuda12-pjrt"):
        assert {version for pin, version in cuda if pin == name} == {version for pin, version in plain if pin == "jax"}


@pytest.mark.parametrize(("suffix", "more"), [("", []), ("-cuda", ["requirements-cuda.lock"])])
def test_conda_installs_the_lock_files(suffix, more):
    *_, by_pip = yaml.safe_load((ROOT / f"environment{suffix}.yml").read_text())["dependencies"]
    locks = ["bootstrap.lock", "requirements.lock", *more]
    assert by_pip == {"pip": [f"-r {lock}" for lock in locks]} and all((ROOT / lock).exists() for lock in locks)


def test_slax_rules_installs_from_git_without_a_clone_and_finds_slax_neurons_there(tmp_path):
    """With uv, which reads the workspace; pip has to be given both, as the README does."""
    shutil.copytree(ROOT / "packages", tmp_path / "packages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    given = f"slax-rules @ git+{tmp_path.as_uri()}#subdirectory=packages/slax-rules"
    how = ["--dry-run", "--offline", "--no-cache", "--no-build-isolation", "--python", sys.executable]
    done = subprocess.run(["uv", "pip", "install", *how, given], capture_output=True, text=True)
    found = re.findall(r"^ \+ (\S+) @ git\+file:.*#subdirectory=packages/(\S+)$", done.stderr, re.MULTILINE)
    assert found == [("slax-neurons", "slax-neurons"), ("slax-rules", "slax-rules")], done.stderr
