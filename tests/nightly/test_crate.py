"""The crate of the toy pipeline, in the environment of releases: it has what Provenance Run Crate 0.5 demands, and is true."""

import hashlib
import json
import os
import re
import subprocess

from toy_pipeline import ROOT, Tree, jobs

PROFILES = ("wfrun/process/0.5", "wfrun/workflow/0.5", "wfrun/provenance/0.5", "workflowhub/workflow-ro-crate/1.0")


def test_crate_leads_from_a_figure_to_its_results_settings_script_commit_and_machine(tmp_path):
    tree = Tree.new(tmp_path / "tree", {})
    tree.set(jobs(a=0, b=0), total=True)
    assert tree.run("figures/all") == 0, tree.said()
    code, found = tree.python("experiments.provenance", "--scale", "tiny")
    assert code == 0, found
    command = [ROOT / ".venvs/release/bin/python", "-m", "release.crate", "crate"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tree.path, input=found, text=True, check=True, env=env)
    crate = tree.path / "crate"
    graph = json.loads((crate / "ro-crate-metadata.json").read_text())["@graph"]
    by_id = {entity["@id"]: entity for entity in graph}

    def linked(entity, key):
        values = entity.get(key, [])
        return [by_id[value["@id"]] for value in (values if isinstance(values, list) else [values])]

    def of_type(kind):
        return [
            entity
            for entity in graph
            if kind in ([entity["@type"]], entity["@type"])[isinstance(entity["@type"], list)]
        ]

    assert len(by_id) == len(graph)
    for entity in graph:  # each reference leads to an entity
        for key in entity.keys() - {"conformsTo", "identifier", "url"}:
            values = entity[key] if isinstance(entity[key], list) else [entity[key]]
            assert all(value["@id"] in by_id for value in values if isinstance(value, dict)), (entity["@id"], key)
    for entity in of_type("File"):
        assert "sha256" in entity or not re.match(r"(figures|results)/.*(?<!record\.json)$", entity["@id"]), entity
        content = (crate / entity["@id"]).read_bytes()
        assert "sha256" not in entity or entity["sha256"] == hashlib.sha256(content).hexdigest()

    root, (workflow,) = by_id["./"], of_type("ComputationalWorkflow")
    assert {one["@id"].removeprefix("https://w3id.org/").removeprefix("ro/") for one in linked(root, "conformsTo")} == {
        *PROFILES
    }
    assert {"name", "description", "datePublished", "license"} <= root.keys()
    assert linked(root, "mainEntity") == [workflow] and {"File", "SoftwareSourceCode", "HowTo"} <= {*workflow["@type"]}
    tools, steps, actions = linked(workflow, "hasPart"), linked(workflow, "step"), of_type("CreateAction")
    assert [linked(step, "workExample") for step in steps] == [[tool] for tool in tools]
    assert steps == of_type("HowToStep") and actions == linked(root, "mentions")[1:] + linked(root, "mentions")[:1]
    (organized,), (whole,) = (
        of_type("OrganizeAction"),
        [one for one in actions if linked(one, "instrument") == [workflow]],
    )
    control = linked(organized, "object")
    assert control == of_type("ControlAction") and linked(organized, "result") == [whole]
    for one in control:
        (step,) = linked(one, "instrument")
        assert {tuple(map(str, linked(action, "instrument"))) for action in linked(one, "object")} == {
            tuple(map(str, linked(step, "workExample")))
        }

    (figure,) = [action for action in actions if action["name"] == "figure toy"]
    record = json.loads((tree.path / "figures/tiny/toy.record.json").read_text())
    inputs = {entity["@id"]: entity for entity in linked(figure, "object")}
    results = {f"results/tiny/toy/{name}" for name in ("a.json", "a.npz", "b.json", "b.npz", "total.json")}
    assert {name for name in inputs if not name.startswith("#")} == results
    (settings,) = inputs.keys() - results
    assert json.loads(inputs[settings]["value"]) == record["settings"]
    assert {entity["@id"].rpartition("/")[2]: entity["sha256"] for entity in linked(figure, "result")} == record[
        "files"
    ]
    (tool,) = linked(figure, "instrument")
    assert (tool["name"], tool["softwareVersion"]) == ("experiments/toy/plot.py", record["commit"])
    facts = {value["name"]: value["value"] for value in linked(figure, "additionalProperty")}
    assert facts["made_from"] == record["made_from"] and facts["machine"] == record["machine"]
    assert figure["endTime"] == record["date"] and figure["startTime"] <= figure["endTime"]
