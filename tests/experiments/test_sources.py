"""Which sources a script consists of, and the digests of their code."""

import textwrap

import pytest

from experiments.common.sources import KNOWN, ROOT, Sources, normalized, source_of

CODE = '''\
"""What it does."""

import numpy as np  # for arrays


class Thing:
    """A thing.

    In more words.
    """

    size = 3
    """The size."""

    def f(self, x):
        # doubled
        text = """a # b

    c"""  # kept with its blank line
        return f"{x}#" + text
'''
KEPT = '''\
import numpy as np
class Thing:
    size = 3
    def f(self, x):
        text = """a # b

    c"""
        return f"{x}#" + text'''


def write(folder, **files):
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def test_comments_docstrings_and_blank_lines_are_left_out():
    assert normalized(CODE) == KEPT


@pytest.mark.parametrize(
    ("old", "new"),
    [("What it does", "Something else"), ("# doubled", "# twice"), ("\n\n\nclass", "\n\nclass"), ("The size", "Size")],
)
def test_edit_that_changes_no_result_changes_no_digest(old, new):
    assert old in CODE
    assert source_of(CODE.replace(old, new)).digest == source_of(CODE).digest


@pytest.mark.parametrize(
    ("old", "new"), [("size = 3", "size = 4"), ("a # b", "a # c"), ("\n\n    c", "\n    c"), ('"{x}#"', '"{x}"')]
)
def test_edit_of_code_changes_the_digest(old, new):
    assert old in CODE
    assert source_of(CODE.replace(old, new)).digest != source_of(CODE).digest


def test_string_that_is_a_value_is_code():
    texts = ['x = "a"', 'f("a")', 'f"{g()}"', '"a".join(b)', 'return_ = (\n    "a"\n)']
    assert [normalized(text) for text in texts] == texts
    assert normalized('"a"\nb"c"  # d\n') == ""


def test_line_ends_of_another_system_are_the_same(tmp_path):
    for name, end in (("unix", b"\n"), ("windows", b"\r\n")):
        (tmp_path / f"{name}.py").write_bytes(CODE.encode().replace(b"\n", end))
    sources = Sources(tmp_path)
    assert sources.digest(tmp_path / "unix.py") == sources.digest(tmp_path / "windows.py")


def test_code_is_what_is_imported_directly_and_indirectly(tmp_path):
    write(
        tmp_path,
        experiments____init__="",
        experiments__common__one="from experiments.common import two\nimport numpy",
        experiments__common__two="import slax_things.deep as deep",
        experiments__common__other="",
        experiments__common__stand_ins__tqdm="",
        packages__slax_things__src__slax_things__deep="",
        packages__slax_things__src__slax_things__wide="",
        benchmarks__peers__a="from benchmarks.peers.b import c",
        benchmarks__peers__b="",
    )
    (tmp_path / "packages/slax_things").rename(tmp_path / "packages/slax-things")
    sources = Sources(tmp_path)
    assert sources.code("experiments/common/one.py") == (
        "experiments/__init__.py",
        "experiments/common/one.py",
        "experiments/common/stand_ins/tqdm.py",
        "experiments/common/two.py",
        "packages/slax-things/src/slax_things/deep.py",
        "packages/slax-things/src/slax_things/wide.py",
    )
    assert sources.code("benchmarks/peers/a.py") == ("benchmarks/peers/a.py", "benchmarks/peers/b.py")


def test_import_in_a_docstring_is_none():
    assert source_of('"""Use it:\n\nfrom slax_rules import OTPE\n"""\nimport slax_data').imports == ["slax_data"]


def test_result_does_not_depend_on_the_command_and_the_list_of_jobs():
    code = Sources().code("experiments/common/result_files.py", "experiments/accuracy/run.py")
    assert {"experiments/common/training.py", "packages/slax-rules/src/slax_rules/bptt.py"} <= set(code)
    apart = {"experiments/run.py", "experiments/common/job.py", "experiments/common/provenance.py"}
    assert not apart & set(code)
    assert all((ROOT / file).is_file() for file in code)


def test_what_is_remembered_is_found_by_content_alone(tmp_path):
    write(tmp_path, a="x = 1", b="x = 2")
    first = Sources(tmp_path)
    digests = [first.digest(tmp_path / name) for name in ("a.py", "b.py")]
    (tmp_path / KNOWN).parent.mkdir()
    first.remember()
    (tmp_path / "a.py").rename(tmp_path / "c.py")
    (tmp_path / "b.py").rename(tmp_path / "a.py")
    assert Sources(tmp_path).digest(tmp_path / "a.py") == digests[1]
    assert Sources(tmp_path).digest(tmp_path / "c.py") == digests[0]


def test_other_files_are_digested_by_their_bytes(tmp_path):
    (tmp_path / "table.csv").write_text("# a comment\n")
    before = Sources().digest(tmp_path / "table.csv")
    (tmp_path / "table.csv").write_text("# another\n")
    assert Sources().digest(tmp_path / "table.csv") != before
    assert Sources().digest(tmp_path / "none.csv") is None
