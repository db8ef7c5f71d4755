"""Which sources a script consists of, and their digest."""

import importlib
import sys
from functools import partial

import pytest

from experiments.common import sources
from slax_data import DATASETS, ENCODERS, Encoder

FILES = {
    "experiments/__init__.py": "",
    "experiments/common/__init__.py": "",
    "experiments/common/one.py": "from experiments.common import (\n    two,\n)\nimport numpy",
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


@pytest.mark.parametrize("file", FILES)
def test_the_digest_follows_each_source_that_can_be_reached_and_no_other(root, file):
    before = sources.digest_of_sources("experiments/common/one.py")
    (root / file).write_text(f"{FILES[file]}\nedited = 1")
    forget()
    changed = sources.digest_of_sources("experiments/common/one.py") != before
    forget()
    assert changed == (file in sources.code("experiments/common/one.py"))


SOURCE = b'''"""What it is."""

from a import b  # why


class C:
    """Of \xc3\xa4 class.

    # more
    """

    name = "# no comment"

    def f(self, x):
        "One line"; return """not a docstring
  # nor a comment
"""
'''

PROGRAM = """from a import b
class C:
    name = "# no comment"
    def f(self, x):
        ; return \"\"\"not a docstring
  # nor a comment
\"\"\""""


def test_comments_docstrings_and_empty_lines_are_not_part_of_a_program():
    assert sources.program_of(SOURCE) == PROGRAM


def test_results_do_not_depend_on_the_command_and_the_list_of_jobs():
    code = set(sources.code("experiments/common/result_files.py", "experiments/accuracy/run.py"))
    assert any(name.startswith("packages/slax-rules/src/slax_rules/") for name in code)
    apart = {f"experiments/{name}.py" for name in ("run", "common/job", "common/records", "common/program_cache")}
    assert not apart & code and all((sources.ROOT / file).is_file() for file in code)


OWN = """
def task(key): pass

def onset(intensities, *, n_steps): pass

def make(n): pass

class Held:
    def __init__(self, n): self.n = n
    def __call__(self, key): pass
"""


def test_a_data_set_or_a_code_of_a_script_counts_where_settings_name_it(tmp_path, monkeypatch):
    (tmp_path / "own_data.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "own_data", None)  # to be taken out again
    del sys.modules["own_data"]
    module = importlib.import_module("own_data")
    made = [module.task, partial(module.make, 3), partial(module.make, 5), module.Held(3)]
    assert len({sources.digest_of_entry("data set", "mine", one) for one in made}) == len(made)
    monkeypatch.setitem(DATASETS, "mine", module.task)
    monkeypatch.setitem(ENCODERS, "onset", Encoder(module.onset, random=False))
    settings = {"tasks": {"first": {"dataset": "mine", "code": "onset"}}}
    before = sources.own_entries(settings)
    assert set(before) == {"data set mine", "code onset"} and not sources.own_entries({"dataset": "digits"})
    monkeypatch.setitem(ENCODERS, "onset", Encoder(module.onset, random=True))
    changed = sources.own_entries(settings)
    assert {name for name in before if changed[name] != before[name]} == {"code onset"}
    (tmp_path / "own_data.py").write_text(f"{OWN}\nedited = 1")
    after = sources.own_entries(settings)
    assert not {*before.values(), *changed.values()} & {*after.values()}
