"""The crate of the toy pipeline, in the environment of releases: it has what Workflow Run Crate 0.5 demands, and is true."""

import hashlib
import json
import os
import subprocess

from toy_pipeline import ROOT, Tree, jobs

PROFILES = {f"https://w3id.org/ro/wfrun/{name}/0.5" for name in ("process", "workflow")}


def as_list(value):
    return value if isinstance(value, list) else [value]


def test_crate_leads_from_a_figure_to_its_results_settings_script_commit_and_machine(tmp_path):
    tree = Tree.new(tmp_path / "tree", {})
    tree.set(jobs(a=0, b=0), total=True)
    assert tree.run("figures/all") == 0, tree.said()
    code, found = tree.python("experiments.provenance", "--scale", "tiny")
    assert code == 0, found
    command = [ROOT / ".venvs/release/bin/python", "-m", "release.crate", "crate"]
    path = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tree.path, input=found, text=True, check=True, env=path)
    graph = json.loads((tree.path / "crate/ro-crate-metadata.json").read_text())["@graph"]
    by_id = {entity["@id"]: entity for entity in graph}
    assert len(by_id) == len(graph)

    def linked(entity, key):
        return [by_id[value["@id"]] for value in as_list(entity[key])]

    def of_type(kind):
        return [entity for entity in graph if kind in as_list(entity["@type"])]

    for entity in graph:  # each reference leads to an entity, but for those of languages and of the file itself
        keys = entity.keys() - {"identifier", "url", *(["conformsTo"] if entity["@id"] != "./" else [])}
        links = [value for key in keys for value in as_list(entity[key])]
        assert {value["@id"] for value in links if isinstance(value, dict)} <= by_id.keys()
    sums = {entity["@id"]: entity.get("sha256") for entity in of_type("File")}
    for line in (tree.path / "figures/all").read_text().splitlines():
        sha256, name = line.split()
        assert sums[name] == sha256 == hashlib.sha256((tree.path / "crate" / name).read_bytes()).hexdigest()

    root, (workflow,) = by_id["./"], of_type("ComputationalWorkflow")
    assert {"name", "description", "datePublished", "license"} <= root.keys()
    assert linked(root, "mainEntity") == [workflow]
    assert {entity["@id"] for entity in linked(root, "conformsTo")} > PROFILES
    assert {"File", "SoftwareSourceCode"} < {*workflow["@type"]}
    whole, *ran = linked(root, "mentions")
    assert linked(whole, "instrument") == [workflow] and len(ran) + 1 == len(of_type("CreateAction"))

    (figure,) = [action for action in ran if action["name"] == "figure toy"]
    record = json.loads((tree.path / "figures/tiny/toy.record.json").read_text())
    *results, settings = linked(figure, "object")
    names = ("a.json", "a.npz", "b.json", "b.npz", "total.json")
    assert {entity["@id"] for entity in results} == {f"results/tiny/toy/{name}" for name in names}
    assert json.loads(settings["value"]) == record["settings"]
    made = {entity["@id"].rpartition("/")[2]: entity["sha256"] for entity in linked(figure, "result")}
    assert made == record["files"]
    (tool,) = linked(figure, "instrument")
    assert (tool["name"], tool["softwareVersion"]) == ("experiments/toy/plot.py", record["commit"])
