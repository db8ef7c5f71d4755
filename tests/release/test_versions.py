"""One version of all packages, the metadata of their wheels, and what a release stops for."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from release import check
from release.version import PACKAGES, ROOT, version_of, with_version

PROJECTS = {package: tomllib.loads((package / "pyproject.toml").read_text())["project"] for package in PACKAGES}
packages = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


@packages
def test_package_has_the_version_the_license_and_the_words_by_which_it_is_found(package):
    project = PROJECTS[package]
    assert project["version"] == version_of()
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes() and project["license-files"] == [
        "LICENSE"
    ]
    assert project["authors"] and len(project["keywords"]) >= 3 and project["urls"]
    assert {"Programming Language :: Python :: 3.11", "Typing :: Typed"} <= set(project["classifiers"])


@packages
def test_jax_and_flax_have_lower_and_upper_bounds_and_the_packages_of_ours_are_of_the_same_version(package):
    for requirement in map(Requirement, PROJECTS[package]["dependencies"]):
        operators = {bound.operator for bound in requirement.specifier}
        if requirement.name in ("jax", "flax", "optax", "orbax-checkpoint"):
            assert operators == {">=", "<"}, requirement
        elif requirement.name.startswith("slax-"):
            assert str(requirement.specifier) == f"=={version_of()}"
        else:
            assert ">=" in operators, requirement


def test_citation_has_the_version_and_a_date():
    text = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {version_of()}\n" in text and re.search(r"\ndate-released: \d{4}-\d{2}-\d{2}\n", text)


def test_another_version_is_written_everywhere_and_nowhere_else():
    text = 'version = "1.0"\ndependencies = ["slax-neurons==1.0", "jax>=1.0"]\n'
    assert with_version(text, "2.0") == 'version = "2.0"\ndependencies = ["slax-neurons==2.0", "jax>=1.0"]\n'
    assert with_version("cff-version: 1.2.0\nversion: 1.0\n", "2.0") == "cff-version: 1.2.0\nversion: 2.0\n"


def test_a_release_of_this_version_passes(monkeypatch):
    monkeypatch.setattr(check, "run", lambda *command: "")
    check.check_versions(version_of())


@pytest.mark.parametrize(
    ("version", "tags", "told"),
    [
        ("9.9.9", "", "has the version .*, expected 9.9.9: python -m release.version"),
        (version_of(), "v0.0.1\n", f"The commit has the tag v0.0.1, expected v{version_of()}"),
    ],
)
def test_another_version_or_tag_stops_a_release(version, tags, told, monkeypatch):
    monkeypatch.setattr(check, "run", lambda *command: tags)
    with pytest.raises(SystemExit, match=told):
        check.check_versions(version)


@pytest.mark.parametrize("text", ["# Changelog\n\n## Unreleased\n", "# Changelog\n\n## 0.0.1, 2024-01-01\n", "## {}\n"])
def test_a_changelog_without_a_dated_section_stops_a_release(text, monkeypatch, tmp_path):
    package = tmp_path / "slax-some"
    package.mkdir()
    (package / "pyproject.toml").write_text(f'[project]\nversion = "{version_of()}"\n')
    (package / "CHANGELOG.md").write_text(text.format(version_of()))
    monkeypatch.setattr(check, "PACKAGES", [package])
    monkeypatch.setattr(check, "run", lambda *command: "")
    with pytest.raises(SystemExit, match=r"slax-some/CHANGELOG\.md does not begin with a section"):
        check.check_versions(version_of())


def test_a_command_that_fails_stops_with_what_it_said():
    with pytest.raises(SystemExit, match=r"(?s)git --no-such-option.*unknown option"):
        check.run("git", "--no-such-option")
    assert check.run("git", "--version").startswith("git version")


@packages
def test_page_of_the_package_begins_with_an_example(package):
    text = (Path(package) / "README.md").read_text()
    assert re.search(r"```python\n", text)
