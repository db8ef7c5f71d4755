"""codemeta.json, made from CITATION.cff, pyproject.toml and the packages: `python -m release.codemeta`, or `make codemeta`."""

import json
import tomllib
from typing import Any

import yaml

from release.version import PACKAGES, ROOT

FILE = ROOT / "codemeta.json"
PERSON = {"family-names": "familyName", "given-names": "givenName", "orcid": "@id", "affiliation": "affiliation"}
SOFTWARE = {"title": "name", "version": "version", "date-released": "datePublished", "keywords": "keywords"}


def renamed(entry: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """What an entry of CITATION.cff has of these keys, by the names that schema.org has for them."""
    return {new: entry[old] for old, new in names.items() if old in entry}


def author(entry: dict[str, Any]) -> dict[str, Any]:
    """A person or, with `name`, an organization."""
    if "name" in entry:
        return {"@type": "Organization", "name": entry["name"]}
    return {"@type": "Person"} | renamed(entry, PERSON)


def article(entry: dict[str, Any]) -> dict[str, Any]:
    """A paper, known by its DOI."""
    found = {"@type": "ScholarlyArticle", "@id": f"https://doi.org/{entry['doi']}", "name": entry["title"]}
    return found | {"datePublished": entry["year"], "author": [author(one) for one in entry["authors"]]}


def codemeta(citation: dict[str, Any], project: dict[str, Any], members: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of codemeta.json, from CITATION.cff and the tables [project] of pyproject.toml and of the packages."""
    asked = {requirement for member in members for requirement in member["dependencies"]}
    return {
        "@context": "https://w3id.org/codemeta/3.0",
        "@type": "SoftwareSourceCode",
        **({"@id": f"https://doi.org/{citation['doi']}"} if "doi" in citation else {}),
        **renamed(citation, SOFTWARE),
        "description": project["description"],
        "license": f"https://spdx.org/licenses/{project['license']}",
        "author": [author(one) for one in citation["authors"]],
        "programmingLanguage": "Python",
        "runtimePlatform": f"Python {project['requires-python']}",
        "softwareRequirements": sorted(one for one in asked if not one.startswith("slax-")),
        "referencePublication": [article(one) for one in citation["references"]],
    }


def current() -> str:
    """What codemeta.json should be."""
    citation = yaml.load((ROOT / "CITATION.cff").read_text(encoding="utf-8"), yaml.BaseLoader)  # dates stay texts
    tables = [tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")) for folder in (ROOT, *PACKAGES)]
    project, *members = (table["project"] for table in tables)
    return json.dumps(codemeta(citation, project, members), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(current(), encoding="utf-8")
