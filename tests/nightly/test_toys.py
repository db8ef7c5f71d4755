"""A rule, a neuron, a code and a data set are one file and one entry of a table each: all that names them then knows them."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("packages", "experiments", "docs", "workflow", "pyproject.toml")
RULE = '''"""Signals that flip their sign."""

import dataclasses

from slax_rules.layerwise.sltt import SLTT


@dataclasses.dataclass(frozen=True)
class Toy(SLTT):
    """SLTT with learning signals of the wrong sign."""

    def window(self, layer, window, traces, signal):
        return super().window(layer, window, traces, -signal)
'''
RULE_ENTRY = """    toy=RuleEntry(
        title="Toy",
        rule=Toy,
        requires=LAYERS,
        exact=Exactness(steps=0),
        omits="the sign",
        memory="N S",
        time="P",
    ),
"""
NEURON = '''"""A neuron that doubles its current."""

import jax

from slax_neurons.neurons.lif import LIF


class ToyNeuron(LIF):
    """LIF whose current is doubled."""

    def integrate(self, u: jax.Array, current: jax.Array) -> jax.Array:
        return super().integrate(u, 2 * current)
'''
CODE = '''"""A spike in the first step, or none."""

import jax.numpy as jnp


def toy_encode(intensities, *, n_steps):
    return jnp.zeros((n_steps, *intensities.shape)).at[0].set(intensities > 0.5)


def toy_decode(spikes):
    return spikes.max(0)
'''
SET = '''"""Two classes: all units on, or all off."""

import jax
import jax.numpy as jnp

from slax_data.sets.images import image_task


def toy_task(key, *, n_steps=8, code="latency"):
    labels = jnp.arange(20) % 2
    images = jnp.repeat(labels[:, None].astype(jnp.float32), 4, axis=1), labels
    return image_task(key, {"train": images, "test": images}, n_classes=2, n_steps=n_steps, code=code)
'''
# What a table gets: file, the line before, and the lines to add there.
TABLES = [
    ("slax-rules/src/slax_rules/registry.py", "ANY_CELL =", "from slax_rules.layerwise.toy import Toy\n\n"),
    ("slax-rules/src/slax_rules/registry.py", "    fptt=dataclasses.replace(", RULE_ENTRY),
    ("slax-neurons/src/slax_neurons/__init__.py", "NEURONS:", "from slax_neurons.neurons.toy import ToyNeuron\n\n"),
    ("slax-neurons/src/slax_neurons/__init__.py", '    "ltc": LTC', '    "toy": ToyNeuron,\n'),
    ("slax-data/src/slax_data/encoding/encoders.py", "ENCODERS:", "from slax_data.encoding import toy\n\n"),
    (
        "slax-data/src/slax_data/encoding/encoders.py",
        '    "rate": Encoder',
        '    "toy": Encoder(toy.toy_encode, toy.toy_decode, random=False),\n',
    ),
    ("slax-data/src/slax_data/datasets.py", "DATASETS:", "from slax_data.sets.toy import toy_task\n\n"),
    ("slax-data/src/slax_data/datasets.py", '    "ssc": ssc_task', '    "toy_set": toy_task,\n'),
]
TASKS = """    tasks:
      toys: {dataset: toy_set, code: toy, input_rate: 0.3, layers: [4, 8, 2], n_steps: 8}
      digits: {dataset: digits, code: toy, input_rate: 0.3, layers: [64, 8, 10], n_steps: 8}
"""


def add(file, before, lines):
    text = file.read_text()
    assert text.count(before) >= 1, before
    file.write_text(text.replace(before, lines + before, 1))


@pytest.fixture(scope="module")
def toy_tree(tmp_path_factory):
    """The sources with toys, and the variables with which Python takes them from there."""
    tree = tmp_path_factory.mktemp("toy")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    packages = tree / "packages"
    (packages / "slax-rules/src/slax_rules/layerwise/toy.py").write_text(RULE)
    (packages / "slax-neurons/src/slax_neurons/neurons/toy.py").write_text(NEURON)
    (packages / "slax-data/src/slax_data/encoding/toy.py").write_text(CODE)
    (packages / "slax-data/src/slax_data/sets/toy.py").write_text(SET)
    for file, before, lines in TABLES:
        add(packages / file, before, lines)
    accuracy = tree / "experiments" / "accuracy" / "config.yaml"
    start, _, larger = accuracy.read_text().partition("  full:")
    start, _, _ = start.replace("rules: [bptt, ottt]", "rules: [bptt, toy]").rpartition("    tasks:")
    accuracy.write_text(f"{start}{TASKS}  full:{larger}")
    add(
        tree / "experiments" / "step_response" / "config.yaml",
        "      ltc:",
        "      toy: {current: 0.1, options: {}, states: {}}\n",
    )
    paths = [tree, *sorted(tree.glob("packages/*/src"))]
    return tree, os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}


def run(toy_tree, *command):
    tree, environment = toy_tree
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=tree, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_schemas_and_the_page_of_rules_have_them(toy_tree):
    program = (
        "from experiments.common.schemas import DATASETS, ENCODERS, rule_names, table_names;"
        "print(*rule_names(gradients_alone=True), *table_names(DATASETS, 'DATASETS'), *table_names(ENCODERS, 'ENCODERS'))"
    )
    assert run(toy_tree, "-c", program).split().count("toy") == 2  # the rule and the code
    assert "toy_set" in run(toy_tree, "-c", program).split()
    run(toy_tree, "docs/rules_page.py")
    assert "| `toy` | Toy | layers of a Linear" in (toy_tree[0] / "docs" / "rules.md").read_text()


def test_schema_takes_the_configuration(toy_tree):
    program = (
        "import yaml; from pathlib import Path; from experiments.common.schemas import validator;"
        "from experiments.common.job import settings_of;"
        "schema = yaml.safe_load(Path('experiments/accuracy/config.schema.yaml').read_text());"
        "print(*validator(schema).iter_errors(settings_of('accuracy', 'tiny')))"
    )
    assert run(toy_tree, "-c", program).strip() == ""


def test_an_experiment_trains_and_draws_them(toy_tree):
    jobs = ["toys/bptt", "toys/toy", "digits/toy"]
    few = [part for name in ("steps", "batch_size", "validation_size") for part in ("--set", f"{name}=2")]
    run(toy_tree, "-m", "experiments.run", "accuracy", *jobs, "--scale", "tiny", "--results", "trial", *few)
    apart = ["--results", "trial", "--output", "figures"]
    run(toy_tree, "-m", "experiments.plot", "accuracy", "--jobs", *jobs, "--scale", "tiny", *apart, *few)
    figures = toy_tree[0] / "figures" / "tiny"
    rows = list(csv.DictReader((figures / "accuracy.csv").read_text().splitlines()))
    assert {(row["task"], row["rule"]) for row in rows} == {("toys", "bptt"), ("toys", "toy"), ("digits", "toy")}
    assert (figures / "accuracy.png").exists()


def test_the_neuron_is_drawn(toy_tree):
    run(toy_tree, "-m", "experiments.run", "step_response", "lif", "toy", "--scale", "tiny")
    run(
        toy_tree,
        "-m",
        "experiments.plot",
        "step_response",
        "--jobs",
        "lif",
        "toy",
        "--scale",
        "tiny",
        "--output",
        "figures",
    )
    rows = csv.DictReader((toy_tree[0] / "figures/tiny/step_response.csv").read_text().splitlines())
    assert {row["neuron"] for row in rows} == {"lif", "toy"}
