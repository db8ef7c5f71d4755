"""The record of speed, and the page of performance with its tables."""

import csv
from pathlib import Path

import pytest

from benchmarks import rules, speed
from gallery import page_tables


def test_page_has_the_tables_of_the_files():
    text = Path("docs/performance.md").read_text()
    names = [found[1] for found in page_tables.MEASURED.finditer(text)]
    assert all(page_tables.measured(name) in text for name in names)
    assert set(names) == {file.stem for file in page_tables.BENCHMARKS.glob("*.csv")}
    assert len(names) + text.count("<!-- numbers ") == text.count("\n| --")  # no other table


def test_release_has_one_line_with_all_columns(monkeypatch, tmp_path):
    lines = [speed.FILE.read_text().partition("\n")[0], "0.0.1" + "," * 29]
    about = {"commit": "0a1b+", "date": "2026-12-01", "machine": "Linux a processor"}
    monkeypatch.setattr(speed, "run_of", lambda _: about)
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    monkeypatch.setattr(rules, "REPEATS", 3)
    monkeypatch.setattr(speed, "FILE", tmp_path / "speed.csv")
    monkeypatch.setattr(speed, "CASES", {name: rules.TINY[0]._replace(rules=speed.TIMED) for name in speed.CASES})
    speed.FILE.write_text("\n".join([*lines, ""]))
    with pytest.raises(SystemExit, match="files that no commit has"):
        speed.main()
    about["commit"] = "0a1b"
    speed.main()
    first = speed.FILE.read_text()
    assert first.startswith("\n".join(lines))
    with speed.FILE.open(newline="") as file:
        old, line = csv.DictReader(file)
    assert old["release"] == "0.0.1" and "" not in line.values() and line["commit"] == "0a1b"
    for name in (f"{case}_{rule}" for case in speed.CASES for rule in speed.TIMED):
        assert 0 < float(line[f"{name}_ms"]) < 1e3 and int(line[f"{name}_temporaries"]) > 0
