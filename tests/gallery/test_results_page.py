"""The claims as a text: every claim with its verdict, the same each time, in Markdown that means what it says."""

import re
import sys
from pathlib import Path

import pytest
from small_gallery import CLAIMS, HOSTILE, write_small_gallery

from gallery import __main__ as command
from gallery.claims_file import read_claims
from gallery.wording import VERDICT_SYMBOLS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/RESULTS.md"


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
    rows = [row for row in rows_of(text) if len(row) == 6 and row[0] not in ("claim", "---")]
    assert [(plain(row[0]), row[5]) for row in rows] == [
        ("faster", "✓ holds"),
        (HOSTILE, "≈ not resolved"),
        ("as_published", "✓ holds"),
        ("on_paper", "○ not run: is about the scale paper"),
        ("perfect_everywhere", "✗ does not hold: the intervals leave it open"),
    ]
    assert rows[2][2:5] == ["2.5", "2", "near 2.1, within 0.2"]


def test_verdicts_are_counted(text):
    counts = {row[0]: row[1] for row in rows_of(text) if len(row) == 3}
    assert [counts[f"{VERDICT_SYMBOLS[verdict]} {verdict}"] for verdict in VERDICT_SYMBOLS] == ["2", "1", "1", "1"]


def test_scale_commit_and_device_stand_on_top(text):
    head = text.partition("| verdict")[0]
    for line in ("* scale: quick", "* commit: 0123456789", "* device: cpu", "* machine: Linux x86\\_64 Some Processor"):
        assert line in head.splitlines()


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
    pictures = re.compile(r"data:image/[a-z+]+;base64,[^\"]*")  # matplotlib dates its SVG
    one, other = (pictures.sub("", page.read_text()) for page in (small.page, built.page))
    assert one == other


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/*/claims.yaml")), ids=lambda path: path.parent.name)
def test_text_in_docs_has_every_claim(path):
    """docs/RESULTS.md is made: it follows the claims by `make claims`."""
    kept = {plain(row[0]): row[-1] for row in rows_of(RESULTS.read_text())}
    for figure in read_claims(path):
        for claim in figure["claims"]:
            statement = " ".join(claim["statement"].split())
            assert statement in kept, f"run `make claims`: {statement}"
            assert kept[statement][0] in VERDICT_SYMBOLS.values()
