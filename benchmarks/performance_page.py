"""Write the tables of docs/performance.md from benchmarks/results/*.csv: `python -m benchmarks.performance_page`.

A file begins with the command that measured its numbers, the machine and the date. The rows of `benchmarks.rules` are arranged
side by side, and the others are what the command prints. To replace a table, replace the file.
"""

import csv
import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/performance.md"
RESULTS = Path(__file__).with_name("results")
TABLE = re.compile(r"(?<=<!-- table )(\w+)( -->\n).*?(?=<!-- end -->)", flags=re.DOTALL)


def table(name: str) -> str:
    """A file as a table in Markdown; a column whose first cell begins with a digit stands at the right."""
    lines = (RESULTS / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    header, *rows = csv.reader(line for line in lines if not line.startswith("#"))
    sides = ["--:" if cell[:1].isdigit() else "---" for cell in rows[0]]
    return "\n".join("".join(f"| {cell} " if cell else "| " for cell in row) + "|" for row in (header, sides, *rows))


def page(text: str) -> str:
    """The page with the tables of the files between its markers."""
    return TABLE.sub(lambda found: found[1] + found[2] + table(found[1]) + "\n", text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
