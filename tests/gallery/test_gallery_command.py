"""The command that writes page and text."""

import subprocess
import sys
from pathlib import Path

import pytest
from small_gallery import write_small_gallery

from experiments.common.records import read_record
from gallery import __main__ as command

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(tmp_path):
    return write_small_gallery(tmp_path)


def run(small, monkeypatch, **changes):
    monkeypatch.setattr(sys, "argv", ["gallery", *small._replace(**changes).options()])
    command.main()


def test_mistaken_claim_is_told_and_nothing_is_written(small, monkeypatch):
    path = small.claims[0]
    path.write_text(path.read_text().replace("rule: otpe", "rules: otpe", 1))
    with pytest.raises(
        SystemExit,
        match=r"nothing was written(.|\n)*claims\.yaml: speed: faster: .*has no column rules, it has task, rule",
    ):
        run(small, monkeypatch)
    assert not small.page.exists() and not small.text.exists()


def test_result_of_another_scale_is_refused(small, monkeypatch):
    other = small.results[0].parents[2] / "paper" / small.results[0].name
    with pytest.raises(SystemExit, match="is not below a folder quick: results of two scales are never on one page"):
        run(small, monkeypatch, results=[other])


def test_whose_a_result_is_follows_from_its_folder(small):
    runs = command.runs_by_experiment(small.results, "quick")
    assert {name: run.results for name, run in runs.items()} == {"cost": 2, "similarity": 2}


def test_gallery_without_results_and_figures_is_a_gallery(small, monkeypatch):
    run(small, monkeypatch, results=[], figures=[])
    assert "not recorded" in small.page.read_text() and "| ○ not run | 5 |" in small.text.read_text()


def test_page_has_a_record_of_its_own(small, monkeypatch):
    run(small, monkeypatch)
    record = read_record(small.page.with_name("index.record.json"))
    assert set(record["files"]) == {"index.html", "RESULTS.md"}
    assert record["settings"] == {"scale": "quick", "older": []}


def test_changed_figure_and_result_are_refused(small, monkeypatch):
    for path in (small.figures[1], small.results[0]):
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        with pytest.raises(SystemExit, match=f"{path.name} differs from its record"):
            run(small, monkeypatch)
        path.write_bytes(content)
    assert not small.page.exists()


def test_command_says_what_it_does():
    done = subprocess.run([sys.executable, "-m", "gallery", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Write the page and the text of all figures of one scale." in done.stdout
