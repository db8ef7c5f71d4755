"""What an installed package declares as entry points is in the tables of the library, and nothing of it is read too early."""

import sys
from pathlib import Path

import pytest
from flit_core import buildapi

from experiments.common import schemas, sources
from slax_data import DATASETS
from slax_data.table import Table as TableOfData
from slax_neurons.table import Table
from slax_rules import RULES, RuleEntry

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Writes what a package declares to a folder where Python looks; what the test imports is forgotten."""

    def declare(group, *points):
        folder = tmp_path / "theirs-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
        (folder / "entry_points.txt").write_text("\n".join([f"[{group}]", *points]))
        (tmp_path / "theirs.py").write_text("def right(key): pass")
        (tmp_path / "theirs_broken.py").write_text("import no_such_module")

    monkeypatch.syspath_prepend(tmp_path)
    caches = sources.installed, schemas.names
    for cache in caches:
        cache.cache_clear()
    yield declare
    for name in ("theirs", "theirs_broken", "slax_my_rule"):
        sys.modules.pop(name, None)
    for cache in caches:
        cache.cache_clear()


def test_packages_that_do_not_know_each_other_have_the_same_table():
    one, two = sorted(ROOT.glob("packages/*/src/*/table.py"))
    assert one.read_bytes() == two.read_bytes()


def test_the_rule_of_the_template_is_a_rule_like_others(installed, tmp_path, monkeypatch):
    template = ROOT / "templates/slax-my-rule"
    monkeypatch.chdir(template)
    buildapi.prepare_metadata_for_build_wheel(str(tmp_path))
    monkeypatch.syspath_prepend(template)
    rules = Table("slax.rules", RuleEntry, RULES.library)
    monkeypatch.setattr("slax_rules.registry.RULES", rules)
    assert list(rules) == [*RULES.library, "discounted"]
    assert schemas.validator({"$ref": "urn:slax:gradient"}).is_valid("discounted")
    assert not sources.own_entries({"rules": ["otpe"]}) and "slax_my_rule" not in sys.modules
    digests = sources.own_entries({"rules": ["otpe", "discounted"]})
    assert list(digests) == ["rule discounted"] and (rules | {})["discounted"].make().memory == 0.5


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (
            "mine = theirs_broken:task",
            r"Got the entry point mine = 'theirs_broken:task' in slax.datasets of theirs, which fails: ModuleNotFound",
        ),
        ("mine = theirs:task", r"mine = 'theirs:task' .* no attribute 'task'"),
        ("mine = theirs", r"mine = 'theirs' .*Got a module, expected a Callable.*Mend or uninstall"),
    ],
)
def test_an_entry_point_that_fails_is_named_when_it_is_read(installed, point, message):
    installed("slax.datasets", point, "fine = theirs:right")
    table = TableOfData("slax.datasets", DATASETS.kind, DATASETS.library)
    assert list(table)[-2:] == ["fine", "mine"] and table["fine"].__name__ == "right" and table["digits"]
    for _ in range(2):
        with pytest.raises(ImportError, match=message):
            table["mine"]


def test_names_are_unique(installed):
    installed("slax.rules", "otpe = theirs:right")
    with pytest.raises(
        ImportError, match=r"Got the entry point otpe = 'theirs:right' .* of theirs, whose name is taken"
    ):
        Table("slax.rules", RuleEntry, RULES.library)["sltt"]
