"""Which sources a script consists of, and their digest."""

import dataclasses
import importlib
import sys
from functools import partial

import numpy as np
import pytest

from slax_data import DATASETS, ENCODERS, Encoder
from slax_rules import RULES, RuleEntry

FILES = {
    "experiments/__init__.py": "",
    "experiments/common/__init__.py": "",
    "experiments/common/one.py": "from experiments.common import \n, \n    two\nimport numpy",
    "experiments/common/two.py": '"""Use it:\n\nimport slax_viz\n"""\nimport slax_rules.deep as deep',
    "experiments/common/other.py": "",
    "experiments/common/stand_ins/tqdm.py": "",
    "packages/slax-rules/pyproject.toml": '[project]\ndependencies = ["slax-neurons==0.2.0", "jax"]',
    "packages/slax-rules/src/slax_rules/deep.py": "",
    "packages/slax-neurons/pyproject.toml": "[project]\ndependencies = []",
    "packages/slax-neurons/src/slax_neurons/wide.py": "",
    "packages/slax-viz/pyproject.toml": "[project]\ndependencies = []",
    "packages/slax-viz/src/slax_viz/plot.py": "",
    "benchmarks/peers/a.py": "def f():\n    from benchmarks.peers.b import c",
    "benchmarks/peers/b.py": "",
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget():
    for kept in (sources.digest_of_sources, sources.code, sources.imported_by, sources.package):
        kept.cache_clear()


def test_code_is_what_is_imported_directly_and_indirectly(root):
    assert sources.code("experiments/common/one.py") == (
        "experiments/__init__.py",
        "experiments/common/__init__.py",
        "experiments/common/one.py",
        "experiments/common/stand_ins/tqdm.py",
        "experiments/common/two.py",
        "packages/slax-neurons/src/slax_neurons/wide.py",
        "packages/slax-rules/src/slax_rules/deep.py",
    )
    assert sources.code("benchmarks/peers/a.py") == ("benchmarks/peers/a.py", "benchmarks/peers/b.py")


SOURCE = b'"""What it is."""\n\nclass C:\n    """Of \xc3\xa4 class.\n\n    # more\n    """\n    name = "# no comment"  # why\n'


def test_comments_docstrings_and_empty_lines_are_not_part_of_a_program():
    assert sources.program_of(SOURCE) == 'class C:\n    name = "# no comment"'


def test_results_do_not_depend_on_the_command_and_the_list_of_jobs():
    code = set(sources.code("experiments/pipeline/results.py", "experiments/accuracy/run.py"))
    assert any(name.startswith("packages/slax-rules/src/slax_rules/") for name in code)
    apart = {f"experiments/{name}.py" for name in ("run", "common/job", "common/records", "common/program_cache")}
    assert not apart & code and all((sources.ROOT / file).is_file() for file in code)


OWN = """
from slax_rules import SLTT

class Own(SLTT): pass

def task(key): pass

def onset(intensities, *, n_steps): pass

def make(n): pass

class Held:
    def __init__(self, n): self.n = n
    def __call__(self, key): pass
"""


def test_a_data_set_a_code_or_a_rule_of_a_script_counts_where_settings_name_it(tmp_path, monkeypatch):
    (tmp_path / "own_data.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "own_data", None)  # to be taken out again
    del sys.modules["own_data"]
    module = importlib.import_module("own_data")
    made = [partial(module.make, 3), partial(module.make, 5), module.Held(3)]
    assert len({sources.digest_of_entry("data set", "mine", one) for one in made}) == len(made)
    rule = RuleEntry(title="own", rule=module.Own, options={"slope": 1.0})
    monkeypatch.setitem(RULES, "own", rule)
    other = dataclasses.replace(rule, options={"slope": 2.0})
    assert sources.digest_of_entry("rule", "own", rule) != sources.digest_of_entry("rule", "own", other)
    zeros, ones = (dataclasses.replace(rule, options={"slope": np.full(3, value)}) for value in (0.0, 1.0))
    assert sources.digest_of_entry("rule", "own", zeros) != sources.digest_of_entry("rule", "own", ones)
    monkeypatch.setitem(DATASETS, "mine", module.task)
    monkeypatch.setitem(ENCODERS, "onset", Encoder(module.onset, random=False))
    settings = {"tasks": {"first": {"dataset": "mine", "code": "onset"}}, "rules": ["own", "otpe"]}
    before = sources.own_entries(settings)
    assert set(before) == {"data set mine", "code onset", "rule own"} and not sources.own_entries({"dataset": "digits"})
    monkeypatch.setitem(ENCODERS, "onset", Encoder(module.onset, random=True))
    changed = sources.own_entries(settings)
    assert {name for name in before if changed[name] != before[name]} == {"code onset"}
    (tmp_path / "own_data.py").write_text(f"{OWN}\nedited = 1")
    after = sources.own_entries(settings)
    assert not {*before.values(), *changed.values()} & {*after.values()}
