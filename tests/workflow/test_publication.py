"""What others' machines read here: builders of containers, the workflow catalog, and registries of software."""

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from release import codemeta, version

ROOT = Path(__file__).parents[2]


def read(name):
    return (ROOT / name).read_text()


def test_containers_have_the_python_and_the_locks_of_the_makefile():
    dockerfile, definition = read("containers/Dockerfile"), read("containers/slax.def")
    base = re.search(r"^FROM python:(3\.\d+)\.\d+-bookworm@(sha256:[0-9a-f]{64})$", dockerfile, re.MULTILINE)
    assert f"From: python@{base[2]}\n" in definition
    environment = yaml.safe_load(read("environment.yml"))["dependencies"]
    assert f"python={base[1]}" in environment and f'python-version: "{base[1]}"' in read(".github/workflows/ci.yml")

    run = re.search(r"^RUN (.*?)^#", dockerfile, re.DOTALL | re.MULTILINE)[1].split()
    assert run == re.search(r"VARIANT=\{\{ VARIANT \}\}\n(.*)%environment", definition, re.DOTALL)[1].split()
    recipe = re.search(r"^\$\(V\)/\.ok:.*?^\ttouch", read("Makefile"), re.DOTALL | re.MULTILINE)[0]
    locks = [*re.findall(r"--require-hashes -r (\S+)", recipe), "requirements-cuda.lock"]
    assert re.findall(r"--require-hashes -r (\S+\.lock)", " ".join(run)) == locks
    assert re.findall(r"^COPY (.*) \S+$", dockerfile, re.MULTILINE) == [" ".join(locks), "packages"]
    assert re.findall(r"^ +(\S+) /opt/source/", definition, re.MULTILINE) == [*locks, "packages"]
    assert read("containers/Dockerfile.dockerignore").split() == ["*", *(f"!{name}" for name in (*locks, "packages"))]

    sources = ":".join(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("packages/*/src")))
    assert dockerfile.count(f"PYTHONPATH={sources} ") == definition.count(f"PYTHONPATH={sources}\n") == 1


def test_workflow_catalog_finds_what_it_asks_for():
    usage = yaml.safe_load(read(".snakemake-workflow-catalog.yml"))["usage"]
    deployment = usage["software-stack-deployment"]
    assert deployment["apptainer"] == ("\ncontainer:" in read("workflow/Snakefile"))
    assert deployment["conda"] == any("\n    conda:" in path.read_text() for path in ROOT.glob("workflow/*"))
    assert read("config/README.md")
    assert {"snakemake", "workflow"} <= set(re.findall(r"\w+", read("README.md").lower()))  # how it searches


def test_the_page_has_the_bounds_that_the_packages_have():
    rows = re.findall(r"^\| (\w+) \| `([^`]+)` \|", read("docs/upgrading.md"), re.MULTILINE)
    stated = {(name.lower(), SpecifierSet(bounds)) for name, bounds in rows}
    projects = [tomllib.loads(path.read_text())["project"] for path in ROOT.glob("packages/*/pyproject.toml")]
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


def test_codemeta_is_current_and_knows_a_person_by_orcid():
    assert read("codemeta.json") == codemeta.current(), "make codemeta"
    person = {"family-names": "Curie", "given-names": "Marie", "orcid": "https://orcid.org/0000-0002-1825-0097"}
    known = {"@type": "Person", "familyName": "Curie", "givenName": "Marie", "@id": person["orcid"]}
    citation = {"title": "S", "version": "1", "authors": [person], "references": [], "doi": "10.5281/zenodo.1"}
    made = codemeta.codemeta(citation, tomllib.loads(read("pyproject.toml"))["project"], [])
    assert made["author"] == [known] and made["@id"] == "https://doi.org/10.5281/zenodo.1" and made["name"] == "S"
