"""Make an RO-Crate of the provenance that comes from standard input: `make crate`.

    python -m experiments.provenance --scale full | .venvs/release/bin/python -m release.crate crate

It conforms to Workflow Run Crate 0.5. An action stands for a product: it leads from the files to those that they were made
from, to the settings, the script at a commit, the machine, and `made_from`, the digest of settings, sources and inputs.
"""

import datetime
import hashlib
import json
import mimetypes
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rocrate.model import ContextEntity
from rocrate.rocrate import ROCrate

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}


def main(folder: str) -> None:
    found = json.load(sys.stdin)
    crate_of(found).write(folder)
    print(f"{folder}/: how {len(found['products'])} products were made.")


def crate_of(found: Mapping[str, Any]) -> ROCrate:
    """A crate of what `experiments.provenance` found, with the files, which are below the present folder."""
    crate = ROCrate(version="1.1")
    checksums = {name: sha256 for product in found["products"] for name, sha256 in product["files"].items()}

    def thing(where: str, kind: Any, **values: Any) -> Any:
        return crate.get(where) or crate.add(ContextEntity(crate, where, {"@type": kind, **values}))

    def file(path: str, **values: Any) -> Any:
        if not Path(path).is_file():  # data that may not be passed on
            return thing(f"#{path}", "CreativeWork", name=path)
        values |= {"name": path, "encodingFormat": mimetypes.guess_type(path)[0] or "application/octet-stream"}
        values |= {"sha256": checksums[path]} if path in checksums else {}
        return crate.get(path) or crate.add_file(path, path, properties=values)

    def value(name: str, content: Any) -> Any:
        text = content if isinstance(content, str) else json.dumps(content, sort_keys=True)
        return thing(f"#{name}-{hashlib.sha256(text.encode()).hexdigest()}", "PropertyValue", name=name, value=text)

    crate.metadata.extra_contexts.append("https://w3id.org/ro/terms/workflow-run/context")
    crate.name, crate.description, license = found["title"], found["description"], found["license"]
    crate.license = thing(f"https://spdx.org/licenses/{license}", "CreativeWork", name=license)
    crate.datePublished = datetime.date.fromisoformat(found["date-released"])
    profiles = [thing(url, "CreativeWork", name=name, version=url.rpartition("/")[2]) for url, name in PROFILES.items()]
    crate.root_dataset["conformsTo"] = profiles
    file("README.md", about=crate.root_dataset)
    path, snakemake = found["workflow"]["file"], found["workflow"]["snakemake"]
    kinds = {"@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"], "name": path}
    workflow = crate.add_workflow(path, path, properties=kinds, main=True, lang="snakemake", lang_version=snakemake)

    actions = []
    for product in found["products"]:
        script, commit, ended = product["script"], product["commit"], datetime.datetime.fromisoformat(product["date"])
        tool = thing(f"#{script}@{commit}", "SoftwareApplication", name=script, softwareVersion=commit)
        began = (ended - datetime.timedelta(seconds=product["wall_seconds"])).isoformat(timespec="seconds")
        made_from = [*map(file, product["inputs"]), value("settings", product["settings"])]
        about = {"name": product["label"], "startTime": began, "endTime": product["date"]}
        action = crate.add_action(tool, f"#{product['record']}", made_from, [*map(file, product["files"])], about)
        action["subjectOf"] = file(product["record"])
        facts = {"made_from": product["made_from"], **product["facts"]}
        action["additionalProperty"] = [value(name, fact) for name, fact in facts.items()]
        actions.append(action)
    last = found["products"][-1]
    whole = crate.add_action(workflow, "#run", [file(found["workflow"]["lock"])], [*map(file, last["files"])])
    whole["name"], whole["endTime"] = "all figures", max(product["date"] for product in found["products"])
    crate.root_dataset["mentions"] = [whole, *actions]
    return crate


if __name__ == "__main__":
    main(*sys.argv[1:])
