"""The article names only findings, numbers, verdicts and pictures that exist; what is not run says so."""

import re
from pathlib import Path

import pytest
import typst

from experiments.pipeline.config import read_yaml
from gallery.article import MISSING, SOURCE, TABLES, compiled, facts
from gallery.claims import judge_all
from gallery.content import Content
from gallery.findings import DATA, findings
from gallery.replication import replication

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="80" height="50"><path d="M0 0L80 50" stroke="black"/></svg>'


@pytest.fixture
def nothing_run(tmp_path):
    """All claims and findings, without results."""
    figures = judge_all(sorted(Path("experiments").glob("*/claims.yaml")), {}, "tiny", is_complete=False)
    for figure in figures:
        (tmp_path / f"{figure.stem}.svg").write_text(SVG)
    pictures = {figure.stem: tmp_path / f"{figure.stem}.png" for figure in figures}
    return Content("tiny", figures, findings(figures, {}), replication(figures, {}), {}, pictures, {})


def test_article_compiles_and_its_numbers_are_those_of_the_findings(nothing_run):
    assert compiled(nothing_run).startswith(b"%PDF")
    numbers = {one["id"]: dict.fromkeys(one["numbers"], MISSING) for one in read_yaml(DATA)}
    assert {name: of["numbers"] for name, of in facts(nothing_run)["found"].items()} == numbers


def test_what_has_no_results_is_said_to_be_not_run(nothing_run):
    said = facts(nothing_run)
    assert {cells["stem"] for cells in TABLES.values()} <= said["figures"].keys()
    assert all(len(lines) == 1 for lines in said["tables"].values())
    assert said["found"]["bach"]["headline"].endswith("?") and said["found"]["bach"]["told"].startswith("Not run")
    assert said["judged"]["prediction/gru_predicts_bach_better"].startswith("○")


@pytest.mark.parametrize("text", ['#n("gone.bptt")', '#claims("demo/gone")'])
def test_what_is_not_there_stops_the_compilation(nothing_run, monkeypatch, tmp_path, text):
    source = tmp_path / "article.typ"
    source.write_text(SOURCE.read_text() + text)
    monkeypatch.setattr("gallery.article.SOURCE", source)
    with pytest.raises(typst.TypstError):
        compiled(nothing_run)


def test_codecheck_lists_the_figures_of_the_article(nothing_run):
    stems = {name: one["stem"] for name, one in facts(nothing_run)["found"].items()}
    shown = re.findall(r'#(picture|drawing)\("(\w+)"', SOURCE.read_text())
    files = [f"figures/full/{stems[name] if kind == 'picture' else name}.png" for kind, name in shown]
    check = read_yaml(Path("codecheck.yml"))
    assert [one["file"] for one in check["manifest"] if one["file"].endswith(".png")] == files
    assert check["paper"]["authors"] == read_yaml(Path("CITATION.cff"))["authors"]
    assert f'title = "{check["paper"]["title"]}"' in SOURCE.read_text()
