"""The page and the text: all of it is there, nothing is loaded, no text is taken for more than text; numbers in words."""

import html
import json
import re

import pytest
from markupsafe import escape
from small_gallery import HOSTILE, TABLES, build, record, result, write_small_gallery

from experiments.pipeline.config import read_yaml
from experiments.pipeline.results import read_record
from gallery import wording
from gallery.claims import judge_all
from gallery.claims_file import ClaimError, read_claims
from gallery.findings import DATA, findings
from gallery.page import HERE, linked
from gallery.runs import run_of
from gallery.tables import read_table

OUTCOMES = {
    "faster": "✓ holds: p = 0.0025",
    "as_published": "✓ holds",
    HOSTILE: "≈ unresolved: p = 0.18; the means agree with it",
    "on_paper": "○ not run: is about the paper scale",
    "perfect_everywhere": "✗ does not hold: p = 0.026",
}


@pytest.fixture(scope="module")
def source(built):
    return built.page.read_text()


FOUND = [
    ("faster", "holds"),
    ("much_faster", "unresolved"),
    ("on_paper", "not run"),
    ("perfect_everywhere", None),
]


def test_what_we_found_is_said_while_its_claims_hold(built, tmp_path):
    """A sentence is left out if one of its claims does not hold, and marked if one is unresolved or not run."""
    tables = {path.stem: read_table(path) for path in built.figures[::3]}
    figures = judge_all(built.claims, tables, "quick")
    path = tmp_path / "findings.yaml"
    owner = {claim.id: figure for figure in figures for claim in figure.claims}

    def said(*names, figure="speed"):
        claims = [f"{owner[name].experiment if name in owner else 'cost'}/{name}" for name in names]
        path.write_text(json.dumps([{"says": "It is so.", "figure": figure, "claims": claims}]))
        return [sentence.verdict for sentence in findings(figures, tables, path)]

    for name, verdict in FOUND:
        assert said(name) == said("faster", name) == ([verdict] if verdict else [])
    assert said("perfect_everywhere", "on_paper") == [] == said("faster", figure="of_another_experiment")
    for name in ("counted", "gone"):  # a check is no finding
        with pytest.raises(ClaimError, match=f"got the claim cost/{name}, expected EXPERIMENT/ID of a finding"):
            said(name)


def test_what_we_found_has_the_numbers_of_the_tables(built, tmp_path):
    """A sentence is left out where the scale lacks one of them."""
    tables = {path.stem: read_table(path) for path in built.figures[::3]}
    figures, path = judge_all(built.claims, tables, "quick"), tmp_path / "findings.yaml"
    numbers = {
        "time": {"table": "speed", "where": {"task": "first", "rule": "otpe"}, "times": 1000},
        "bytes": {"table": "memory", "where": {"rule": "bptt"}, "value": "bytes"},
    }

    def said():
        one = {"says": "{time} ms, {bytes} bytes.", "figure": "speed", "claims": ["cost/faster"], "numbers": numbers}
        path.write_text(json.dumps([one]))
        return [sentence.says for sentence in findings(figures, tables, path)]

    assert said() == ["1000 ± 220 ms, 4,096 bytes."]
    numbers["bytes"]["where"] = {"rule": "ottt"}
    assert said() == []


def test_claims_of_what_we_found_exist():
    """Whether they hold is for the page: here each has a figure and is not a check."""
    files = {path.parent.name: read_claims(path) for path in (HERE.parent / "experiments").glob("*/claims.yaml")}
    kinds = {f"{name}/{one['id']}": one["kind"] for name, of in files.items() for each in of for one in each["claims"]}
    for sentence in read_yaml(DATA):
        assert {kinds[name] for name in sentence["claims"]} <= {"finding", "replication"}
        assert sentence["figure"] in {figure["stem"] for figures in files.values() for figure in figures}


def test_text_of_claims_stays_text_and_the_page_may_load_nothing(source):
    """The browser of tests/nightly/test_browser.py looks at the rest of the page."""
    assert source.count("<script") == 1 and "<b>" not in source and str(escape(HOSTILE)) in source
    assert "default-src 'none'; img-src data: blob:;" in source and "url(" not in source and "@import" not in source
    verdicts = re.findall(r'<tbody[^>]* data-verdict="([^"]*)"', source)
    assert [verdict in told for verdict, told in zip(verdicts, OUTCOMES.values(), strict=True)] == [True] * 5
    assert all(f'id="{name}"' in source for name in (*TABLES, "memory-counted"))
    arxiv = '<a href="https://arxiv.org/abs/2404.05807">arXiv 2404.05807</a>'
    assert str(linked("A & B, arXiv 2404.05807.")) == f"A &amp; B, {arxiv}."
    assert "<b>" not in linked('doi 10.1000/"><b>') and str(linked("10.1 % of 2404.05807")) == "10.1 % of 2404.05807"


def test_text_has_every_claim_counts_and_what_made_it(built):
    text = html.unescape(built.text.read_text())
    head, _, rest = text.partition("\n## How to read")
    made = {"* commit: 0123456789", "* machine: Linux x86\\_64 Some Processor"}
    assert made <= set(text.splitlines())
    cells = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in rest.splitlines() if line.startswith("| ")]
    rows = {re.sub(r"\\(.)", r"\1", row[0]): re.sub(r"\\(.)", r"\1", row[-1]) for row in cells}
    assert {name: rows[name] for name in OUTCOMES} == OUTCOMES
    assert "| findings | 2 | 1 | 1 | 1 |" in head and "| checks | 1 | 0 | 0 | 0 |" in head


def test_page_and_text_are_the_same_each_time_and_have_a_record(built, tmp_path):
    """From other folders, the files named in another order."""
    small = write_small_gallery(tmp_path)
    for paths in small[:3]:
        paths.reverse()
    build(small)
    pictures = re.compile(r"data-kind=\"image/svg\+xml\" data-packed=\"[^\"]*")  # matplotlib dates its SVG
    one, other = (pictures.sub("", page.read_text()) for page in (small.page, built.page))
    assert one == other and small.text.read_text() == built.text.read_text()
    assert small.replication.read_text() == built.replication.read_text()
    made = {"index.html", "RESULTS.md", "REPLICATION.md"}
    assert set(read_record(small.page.with_name("index.record.json"))["files"]) == made


def test_mistakes_and_changed_files_are_refused_and_nothing_is_written(tmp_path):
    small = write_small_gallery(tmp_path)
    for path in (small.figures[1], small.results[0]):
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        with pytest.raises(SystemExit, match=f"{path.name} differs from its record"):
            build(small)
        path.write_bytes(content)
    small.claims[0].write_text(small.claims[0].read_text().replace("rule: otpe", "rules: otpe", 1))
    with pytest.raises(SystemExit, match=r"nothing was written(.|\n)*speed: faster: .*has no column rules"):
        build(small)
    assert not small.page.exists() and not small.text.exists()


def test_runs_are_taken_together():
    first = result("first", lr=0.1)
    second = result("second", lr=0.2, extra=[1]) | {"seed": 3, "seeds": [{}], "versions": {"python": "3.13.0"}}
    days = [("03", "cpu", 1.5), ("01", "gpu", 2.0), ("02", "gpu", 40.0)]
    records = [record(date=f"2026-01-{day}", device=device, wall_seconds=t) for day, device, t in days]
    made = run_of([first, second, second], records, [True, False, True])
    assert made.settings == {"scale": "quick", "steps": 20, "optimizer.name": "adamax", "optimizer.rate": 0.01}
    assert made.differing == {"task": ["first", "second"], "lr": [0.1, 0.2], "extra": [[1]]}
    assert (made.results, made.seeds, made.seeds_each) == (3, [3, 7], [1, 3])
    assert made.versions == {"jax": ["0.10.2"], "python": ["3.11.7", "3.13.0"]}
    assert list(made.devices.items()) == [("gpu", 2), ("cpu", 1)] and list(made.older.values()) == [2]
    assert (made.first, made.last, made.seconds) == ("2026-01-01", "2026-01-03", 43.5)
    assert "2 of 3 jobs are older than the sources: made at commit 0123456789" in wording.older(made)
