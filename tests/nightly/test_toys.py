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
MODULES = {
    "slax-rules/src/slax_rules/layerwise/toy.py": """
from slax_rules.layerwise.sltt import SLTT

class Toy(SLTT): ...
""",
    "slax-neurons/src/slax_neurons/neurons/toy.py": """
from slax_neurons.neurons.lif import LIF

class ToyNeuron(LIF): ...
""",
    "slax-data/src/slax_data/encoding/toy.py": """
import jax.numpy as jnp

def toy_encode(intensities, *, n_steps):
    return jnp.zeros((n_steps, *intensities.shape)).at[0].set(intensities > 0.5)
""",
    "slax-data/src/slax_data/sets/toy.py": """
import jax.numpy as jnp
from slax_data.sets.images import image_task

def toy_task(key, *, n_steps=8, code="latency"):
    labels = jnp.arange(20) % 2
    images = jnp.repeat(labels[:, None].astype(jnp.float32), 4, axis=1), labels
    return image_task(key, {"train": images, "test": images}, n_classes=2, n_steps=n_steps, code=code)
""",
}
# Of each table: its file, and what is added there before which line.
ENTRIES = {
    "slax-rules/src/slax_rules/registry.py": {
        "ALWAYS, ": "from slax_rules.layerwise.toy import Toy\n\n",
        "        fptt=partial(": "        toy=partial(RuleEntry, rule=Toy),\n",
    },
    "slax-rules/src/slax_rules/rules.csv": {"fptt,": "toy,Toy,,layers of a Linear or Conv,,nothing,N S,P\n"},
    "slax-neurons/src/slax_neurons/__init__.py": {
        "NEURONS:": "from slax_neurons.neurons.toy import ToyNeuron\n\n",
        '    "ltc": LTC': '    "toy": ToyNeuron,\n',
    },
    "slax-data/src/slax_data/encoding/encoders.py": {
        "ENCODERS:": "from slax_data.encoding import toy\n\n",
        '    "rate": Encoder': '    "toy": Encoder(toy.toy_encode, random=False),\n',
    },
    "slax-data/src/slax_data/datasets.py": {
        "DATASETS:": "from slax_data.sets.toy import toy_task\n\n",
        '    "ssc": ssc_task': '    "toy_set": toy_task,\n',
    },
}
TASK = "    tasks:\n      toys: {dataset: toy_set, code: toy, input_rate: 0.3, layers: [4, 8, 2], n_steps: 8}\n"
NEURON = "      toy: {current: 0.1, options: {}, states: {}}\n"


def add(file, before, lines):
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, lines + before, 1))


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """The sources with toys: `toys(...)` runs Python there, and gives back the tree."""
    tree = tmp_path_factory.mktemp("toy")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    for module, source in MODULES.items():
        (tree / "packages" / module).write_text(source)
    for table, entries in ENTRIES.items():
        for before, lines in entries.items():
            add(tree / "packages" / table, before, lines)
    accuracy = tree / "experiments" / "accuracy" / "config.yaml"
    start, _, larger = accuracy.read_text().partition("  full:")
    start, _, _ = start.replace("rules: [bptt, ottt]", "rules: [bptt, toy]").rpartition("    tasks:")
    accuracy.write_text(f"{start}{TASK}  full:{larger}")
    add(tree / "experiments" / "step_response" / "config.yaml", "      ltc:", NEURON)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [tree, *tree.glob("packages/*/src")]))}

    def run(command):
        done = subprocess.run(
            [sys.executable, *command.split()], cwd=tree, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return tree

    return run


def column(file, name):
    return {row[name] for row in csv.DictReader(file.read_text().splitlines())}


def test_the_page_of_rules_has_the_rule(toys):
    assert "| `toy` | Toy | layers of a Linear" in (toys("docs/rules_page.py") / "docs" / "rules.md").read_text()


def test_an_experiment_trains_by_the_rule_on_the_coded_set_and_draws_it(toys):
    few = "--scale tiny --results trial --set steps=2 --set batch_size=2 --set validation_size=2"
    toys(f"-m experiments.run accuracy toys/bptt toys/toy {few}")
    tree = toys(f"-m experiments.plot accuracy --jobs toys/bptt toys/toy {few} --output figures")
    assert column(tree / "figures/tiny/accuracy.csv", "rule") == {"bptt", "toy"}
    assert column(tree / "figures/tiny/accuracy.csv", "task") == {"toys"}


def test_the_neuron_is_drawn(toys):
    toys("-m experiments.run step_response lif toy --scale tiny")
    tree = toys("-m experiments.plot step_response --jobs lif toy --scale tiny --output figures")
    assert column(tree / "figures/tiny/step_response.csv", "neuron") == {"lif", "toy"}
