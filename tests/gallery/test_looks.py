"""Looks: a claim is frozen before a run or not, and confirmed by the same verdict on seeds that nobody had looked at."""

import re

import pytest
import yaml
from small_gallery import BPTT, OTPE, SmallGallery, build, claim, figure, written

from gallery import looks
from gallery.claims import judge_all
from gallery.looks import Look
from gallery.runs import Run, read_run
from gallery.tables import read_table

TABLE = "task,rule,mean,low,high,values\nfirst,bptt,2,,,1.99 2 2.01\nfirst,otpe,{0},,,{1}\n"
FIRST, SECOND = TABLE.format(1, "0.998 1 1.002"), TABLE.format(1.29, "1.288 1.29 1.292")  # OTPE is faster, but by less
CLAIMS = [
    claim("faster", OTPE, "below", {"rule": "bptt"}),
    claim("slower", OTPE, "above", {"rule": "bptt"}),
    claim("at_least_one", OTPE, "above", 1.1),  # first false, then true
    claim("open", OTPE, "below", {"rule": "bptt"}, margin=0.7, why="w"),  # first true, then open
    claim("counted", BPTT, "equal", 2, kind="check"),
]
NEW = claim("new", OTPE, "above", 1.2)
SEEDS = {"cost": {"seeds": 3, "first_seed": 0}, "drawn": {"seeds": [0, 1]}}


def run(first_seed=None, date="2999-01-01"):
    config = {} if first_seed is None else {"seeds": 3, "first_seed": first_seed}
    return Run([{"config": config}], [{"date": date}, {"date": "3000-01-01"}], 0)


class Cycle:
    """Claims of two experiments, of which `cost` has seeds of ours, with their tables."""

    def __init__(self, folder):
        self.settings: dict = SEEDS
        self.folder, self.looks = folder, [Look("a", "2026-01-01", "0", {"cost": 0}, {}, {})]
        self.write(CLAIMS)
        self.see(FIRST, 0)

    def write(self, claims):
        texts = {name: yaml.safe_dump({"figures": [figure(name, name, claims)]}) for name in SEEDS}
        self.paths = [written(self.folder / name / "claims.yaml", text) for name, text in texts.items()]

    def see(self, table, first_seed, date="2999-01-01"):
        rows = read_table(written(self.folder / "x.csv", table))
        self.figures = judge_all(self.paths, dict.fromkeys(SEEDS, rows), "full")
        self.runs = {"cost": run(first_seed, date), "drawn": run()}

    def freeze(self, first_seed=5000):
        self.settings = SEEDS | {"cost": {"seeds": 3, "first_seed": first_seed}}
        self.looks = looks.freeze("b", self.looks, judge_all(self.paths, {}, "full", is_complete=False), self.settings)

    def record(self, **settings):
        self.looks[-1] = looks.record(self.looks[-1], self.figures, self.runs, self.settings | settings)

    @property
    def marks(self):
        marked = looks.marked(self.figures, self.looks, self.runs)
        every = ((one.experiment, each) for one in marked for each in one.claims)
        return {f"{name}/{each.id}": each.written for name, each in every if each.id != "counted"}


@pytest.fixture
def cycle(tmp_path):
    return Cycle(tmp_path)


def test_frozen_claims_are_confirmed_by_the_same_verdict_on_other_seeds(cycle, tmp_path):
    cycle.record()
    for look in cycle.looks:  # not run in the first look
        look.claims["drawn/new"] = ["other", "after", "not run"]
    cycle.write([*CLAIMS, NEW])
    cycle.freeze()
    before, path = list(cycle.looks), tmp_path / "looks.yaml"
    assert [entry[1:] for entry in cycle.looks[1].claims.values()] == [["before", ""]] * 5 + [["after", ""]] * 5
    cycle.see(FIRST, 0)
    assert cycle.marks["cost/faster"] == "after"  # the results are still those of the first look
    with pytest.raises(SystemExit, match="results of cost have other seeds than the look b"):
        cycle.record()
    cycle.see(SECOND, 5000)
    assert set(cycle.marks.values()) == {"after"}  # nothing has been recorded
    cycle.record()
    expected = dict.fromkeys(("faster", "slower"), "confirmed")
    expected |= dict.fromkeys(("at_least_one", "open", "new"), "before")
    drawn = {f"drawn/{name}": "after" for name in expected}  # which has no seeds of ours
    assert cycle.marks == {f"cost/{name}": kind for name, kind in expected.items()} | drawn
    of = looks.marked(cycle.figures, cycle.looks, cycle.runs)[0].claims
    assert of[3].earlier == (("a", "holds"),) and of[3].verdict == "unresolved"
    with pytest.raises(SystemExit, match="The look b has been recorded"):
        cycle.record()
    assert {verdict for *_, verdict in before[1].claims.values()} == {""}  # a new look, not the old one changed
    looks.write_looks(cycle.looks, path)
    assert looks.read_looks(path) == cycle.looks
    assert path.read_text().count("\n") == 2 + 2 * 6 + 9 + 10  # a line for each claim


def test_what_changes_after_it_was_frozen_is_from_after_the_run(cycle):
    """Its words may change, but nothing that it compares."""
    cycle.record()
    cycle.freeze()
    changes = [{"sentence": "Other words."}, {"relation": "below", "right": 3}]
    changes += [{"margin": 0.05, "why": "w"}, {"scale": "full"}]
    cycle.write([one | change for one, change in zip(CLAIMS, changes, strict=False)])
    cycle.see(SECOND, 5000)
    frozen = cycle.looks[-1]
    cycle.record()
    assert [cycle.marks[f"cost/{one['id']}"] for one in CLAIMS[:4]] == ["confirmed", "after", "after", "after"]
    cycle.looks[-1] = frozen
    cycle.write(CLAIMS[1:])
    cycle.see(SECOND, 5000)
    cycle.record(cost={"seeds": 3, "first_seed": 5000, "longer": True})  # than was frozen
    assert cycle.looks[1].claims["cost/faster"][1:] == ["before", ""]  # withdrawn
    assert cycle.looks[1].claims["cost/slower"][1:] == ["after", "does not hold"]
    assert cycle.looks[1].claims["drawn/slower"][1:] == ["after", "does not hold"]
    assert [one for one in cycle.marks if cycle.marks[one] == "confirmed"] == []


def test_seeds_that_were_looked_at_cannot_be_frozen(cycle):
    cycle.record()
    for seed in (0, 999):
        with pytest.raises(SystemExit, match="Look a had seeds of cost"):
            cycle.freeze(first_seed=seed)
    with pytest.raises(SystemExit, match="Look a had seeds of drawn"):
        looks.freeze("b", [cycle.looks[0]._replace(seeds={"drawn": 0})], cycle.figures, {"drawn": {"seeds": 3}})
    assert looks.freeze("b", [cycle.looks[0]._replace(seeds={"drawn": 1000})], cycle.figures, {"drawn": {"seeds": 3}})
    cycle.freeze()
    cycle.freeze()  # not run yet
    assert [look.name for look in cycle.looks] == ["a", "b"]
    cycle.see(SECOND, 5000)
    cycle.record()
    with pytest.raises(SystemExit, match="The look b has been run already"):
        cycle.freeze(first_seed=6000)


def test_claim_is_new_if_it_compares_something_else_than_before_and_not_if_it_is_renamed(cycle):
    cycle.record()
    cycle.write([CLAIMS[0] | {"margin": 0.05, "why": "w"}, CLAIMS[0] | {"id": "renamed"}])
    cycle.see(SECOND, 5000)
    cycle.freeze()
    cycle.record()
    assert {look.claims["cost/faster"][2] for look in cycle.looks} == {"holds"}
    marks = {"cost/faster": "before", "cost/renamed": "confirmed", "drawn/faster": "after", "drawn/renamed": "after"}
    assert cycle.marks == marks


def test_results_from_before_a_look_are_not_its_own(cycle):
    """Neither if they have its seeds, nor if they have none: a claim that was written after them is not frozen."""
    cycle.record()
    cycle.freeze()
    cycle.see(SECOND, 5000, date="2026-01-03")
    cycle.runs["drawn"] = run(date="2026-01-03")
    cycle.looks[-1].claims["cost/faster"][2] = "holds"
    assert set(cycle.marks.values()) == {"after"}
    cycle.looks[-1].claims["cost/faster"][2] = ""
    with pytest.raises(SystemExit, match="The results of cost, drawn have other seeds than the look b, or are older"):
        cycle.record()


def test_pages_count_the_looks_at_each_claim(built, tmp_path):
    small = SmallGallery(*built[:3], *(tmp_path / name for name in ("index.html", "RESULTS.md", "REPLICATION.md")))
    figures = judge_all(small.claims, {path.stem: read_table(path) for path in small.figures[::3]}, "full")
    runs = {"cost": read_run(small.results[:2]), "similarity": read_run(small.results[2:])}
    first = looks.record(Look("a", "2026-01-01", "0", {"cost": 9000}, {}, {}), figures, {"cost": run(9000)}, {})
    names = {"cost": {"seeds": 3, "first_seed": 7}, "similarity": {"seeds": 3, "first_seed": 7}}
    frozen = looks.freeze("b", [first], figures, names)[-1]._replace(date="2026-01-02")
    frozen.claims["cost/gone"] = ["0", "before", ""]
    looks.write_looks([first, looks.record(frozen, figures, runs, names)], tmp_path / "looks.yaml")
    build(small, "full", tmp_path / "looks.yaml")
    text, page = small.text.read_text(), re.sub(r"\s+", " ", small.page.read_text())
    assert "|faster|1&lt;2 (3)|✓c2 0.0025|" in text and "| findings, confirmed | 2 | 1 | 0 | 0 |" in text
    assert "withdrawn since: `cost/gone`." in text and "finding, look 2, confirmed; in a: holds" in page


def test_every_look_that_ships_is_whole():
    shipped = looks.read_looks()
    assert shipped[0].name == "0.3" and len(shipped[0].claims) > 150
    verdicts = {verdict for *_, verdict in shipped[0].claims.values()}
    assert verdicts == {"holds", "does not hold", "unresolved", "not run"}
    assert {written for _, written, _ in shipped[0].claims.values()} == {"after"}
