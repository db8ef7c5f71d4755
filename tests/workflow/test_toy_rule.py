"""A rule is one file and one entry of `RULES`: schemas, contract tests, experiments, figures and pages then know it."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("packages", "experiments", "docs", "tests", "workflow", "pyproject.toml")
RULE = '''"""Signals that flip their sign."""

import dataclasses

from slax_rules.layerwise.sltt import SLTT


@dataclasses.dataclass(frozen=True)
class Toy(SLTT):
    """SLTT with learning signals of the wrong sign."""

    def window(self, layer, window, traces, signal):
        return super().window(layer, window, traces, -signal)
'''
ENTRY = """    toy=RuleEntry(
        title="Toy",
        rule=Toy,
        requires=LAYERS,
        exact=Exactness(steps=0),
        omits="the sign",
        memory="N S",
        time="P",
        source="none",
        bibtex="",
        style=Style("#123456", "*", ":", "xx"),
    ),
"""


@pytest.fixture(scope="module")
def toy_tree(tmp_path_factory):
    """The sources with one more rule, and the variables with which Python takes them from there."""
    tree = tmp_path_factory.mktemp("toy")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    source = tree / "packages" / "slax-rules" / "src" / "slax_rules"
    (source / "layerwise" / "toy.py").write_text(RULE)
    registry = source / "registry.py"
    text = registry.read_text().replace("    fptt=RuleEntry(", f"{ENTRY}    fptt=RuleEntry(")
    registry.write_text(text.replace("ANY_CELL =", "from slax_rules.layerwise.toy import Toy\n\nANY_CELL =", 1))
    config = tree / "experiments" / "accuracy" / "config.yaml"
    config.write_text(config.read_text().replace("rules: [bptt, ottt]", "rules: [bptt, ottt, toy]"))
    paths = [tree, *sorted(tree.glob("packages/*/src"))]
    return tree, os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}


def run(toy_tree, *command):
    tree, environment = toy_tree
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=tree, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_schemas_and_the_page_of_rules_have_it(toy_tree):
    program = "from experiments.common.schemas import rule_names; print(*rule_names(gradients_alone=True))"
    assert "toy" in run(toy_tree, "-c", program).split()
    run(toy_tree, "docs/rules_page.py")
    assert "| `toy` | Toy | layers of a Linear" in (toy_tree[0] / "docs" / "rules.md").read_text()


def test_tests_of_every_rule_are_tests_of_it(toy_tree):
    files = ["tests/contract/test_every_rule.py", "tests/rules/test_devices.py", "tests/rules/test_masks.py"]
    collected = run(toy_tree, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files)
    assert {line.partition("::")[0] for line in collected.splitlines() if "toy" in line} == set(files)


def test_an_experiment_runs_it_and_draws_it(toy_tree):
    results = [toy_tree[0] / f"{rule}.json" for rule in ("bptt", "toy")]
    for result in results:
        options = ["--scale", "tiny", "--task", "randman", "--rule", result.stem, "--output", result]
        run(toy_tree, "experiments/accuracy/run.py", *options)
    run(toy_tree, "-m", "experiments.accuracy.plot", "--results", *results, "--output", toy_tree[0] / "figure")
    rows = list(csv.DictReader((toy_tree[0] / "figure.csv").read_text().splitlines()))
    assert {row["rule"] for row in rows} == {"bptt", "toy"}
    assert (toy_tree[0] / "figure.png").exists()
