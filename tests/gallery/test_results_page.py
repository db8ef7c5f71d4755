"""The claims as a text: every claim with its verdict, the same each time, in Markdown that means what it says."""

import re
import sys
from pathlib import Path

import pytest
from small_gallery import CLAIMS, HOSTILE, cell, claim, write_small_gallery

from gallery import __main__ as command
from gallery.claims import Figure, correct, evaluate_claim
from gallery.claims_file import read_claims
from gallery.quantifiers import expand
from gallery.page import results_page
from gallery.wording import VERDICT_SYMBOLS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/RESULTS.md"
SAMPLES = {"one": "1 1.1", "other": "1 1.1"}


@pytest.fixture(scope="module")
def text(built):
    return built.text.read_text()


def rows_of(text):
    """The cells of each row of each table, as a reader of Markdown takes them apart."""
    rows = [line.strip("|").strip() for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows]


def plain(cell):
    return re.sub(r"\\(.)", r"\1", cell)


def test_every_claim_has_a_row_with_its_verdict(text):
    after_counts = rows_of(text.partition("\n## ")[2])
    rows = [row for row in after_counts if row[0] not in ("claim", "---")]
    assert [(plain(row[0]), plain(row[-1])) for row in rows] == [
        ("faster", "✓ holds: p = 0.0017"),
        (HOSTILE, "≈ not resolved: p = 0.18; the means agree with it; about 6 seeds would be needed"),
        ("as_published", "✓ holds: p < 0.0001"),
        ("on_paper", "○ not run: is about the scale paper"),
        ("perfect_everywhere", "✗ does not hold: p = 0.013"),
    ]
    assert rows[2][2:6] == ["2.5", "2", "near 2.1, within 0.2", "-0.1, the same in 3 seeds"]


def test_prose_is_wrapped(text):
    assert [line for line in text.splitlines() if len(line) > 128 and line[0] not in "|#"] == []
    assert any(line.startswith("  ") for line in text.splitlines())  # the rest of an item


def test_column_without_a_cell_disappears(text):
    titles = [row[1:-1] for row in rows_of(text) if row[0] == "claim"]
    assert titles == [
        ["source", "published", "ours", "expected", "difference"],
        ["source", "expected"],
        ["source", "ours", "expected", "difference"],
    ]


def test_verdicts_are_counted(text):
    counts = {row[0]: row[1:3] for row in rows_of(text) if len(row) == 4}
    assert [counts[f"{symbol} {verdict}"] for verdict, symbol in VERDICT_SYMBOLS.items()] == [
        *(["2", "2"], ["1", "1"], ["1", "1"], ["1", "1"])
    ]


def test_claim_that_loses_its_verdict_by_the_correction_says_so():
    """The second claim holds by itself, but not among the two that there are."""
    rows = [{"rule": rule, "mean": "1", "low": "0", "high": "2", "values": values} for rule, values in SAMPLES.items()]
    claims = [claim(rule, cell("mean", rule=rule), "above", 0) for rule in SAMPLES]
    found = [evaluate_claim(expand(one), "x", {"x": rows}, "quick") for one in claims]
    about = {"experiment": "e", "stem": "x", "title": "X", "shows": "s", "alt": "a", "published": "p"}
    text = results_page([Figure(**about, claims=tuple(correct(found)))], {}, "quick")
    assert "| ✓ holds | 0 | 2 |" in text and "| ≈ not resolved | 2 | 0 |" in text
    assert (
        text.count("≈ not resolved: p = 0.061; holds before the correction; the means agree with it; about 3 seeds")
        == 2
    )


def test_scale_commit_and_device_stand_on_top(text):
    head = text.partition("| verdict")[0]
    for line in ("* scale: quick", "* commit: 0123456789", "* device: cpu", "* machine: Linux x86\\_64 Some Processor"):
        assert line in head.splitlines()


def test_what_is_the_same_for_all_conditions_is_said_once():
    rows = [{"rule": rule, "bytes": value} for rule, value in (("one", "1"), ("other", "2"))]
    whole = claim("it", cell("bytes", rule="$rule"), "above", 0, **{"for": {"rule": ["one", "other"]}})
    found = evaluate_claim(expand(whole), "x", {"x": rows}, "quick")
    about = {"experiment": "e", "stem": "x", "title": "X", "shows": "s", "alt": "a", "published": "p"}
    assert "| it | ours | 1; 2 | above 0 | ✓ holds |" in results_page([Figure(**about, claims=(found,))], {}, "quick")


def test_experiments_and_figures_are_headings(text):
    headings = [line for line in text.splitlines() if line.startswith("##")]
    expected = [
        heading
        for experiment, figures in CLAIMS.items()
        for heading in [f"## {experiment}", *(f"### {figure['title']}" for figure in figures)]
    ]
    assert headings == expected


def test_page_and_text_are_the_same_each_time(built, tmp_path, monkeypatch):
    """From other folders, the files named in another order."""
    small = write_small_gallery(tmp_path)
    for paths in small[:3]:
        paths.reverse()
    monkeypatch.setattr(sys, "argv", ["gallery", *small.options()])
    command.main()
    assert small.text.read_text() == built.text.read_text()
    pictures = re.compile(r"data-kind=\"image/svg\+xml\" data-packed=\"[^\"]*")  # matplotlib dates its SVG
    one, other = (pictures.sub("", page.read_text()) for page in (small.page, built.page))
    assert one == other


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/*/claims.yaml")), ids=lambda path: path.parent.name)
def test_text_in_docs_has_every_claim(path):
    """docs/RESULTS.md is made: it follows the claims by `make claims`."""
    kept = {plain(row[0]): row[-1] for row in rows_of(RESULTS.read_text())}
    for figure in read_claims(path):
        for one in figure["claims"]:
            statement = " ".join(one["statement"].split())
            assert statement in kept, f"run `make claims`: {statement}"
            assert kept[statement][0] in VERDICT_SYMBOLS.values()
