"""The page of performance has the tables of the benchmarks."""

from pathlib import Path

from gallery import page_tables


def test_page_has_the_tables_of_the_files():
    text = Path("docs/performance.md").read_text()
    names = [found[1] for found in page_tables.MEASURED.finditer(text)]
    assert all(page_tables.measured(name) in text for name in names)
    assert set(names) == {file.stem for file in page_tables.BENCHMARKS.glob("*.csv")}
    assert len(names) + text.count("<!-- numbers ") == text.count("\n| --")  # no other table
