"""Write the tutorials as notebooks, docs/tutorials/*.ipynb: `python -m docs.notebooks`.

A block of Python becomes a cell of code, and the text between two blocks a cell of text. Pictures are left out, since the cells
draw them, and links to files lead nowhere in a notebook that was downloaded alone, so they become text.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TUTORIALS = Path(__file__).with_name("tutorials")
INSTALL = """\
# Where slax is installed, this cell does nothing. Elsewhere it installs slax from a clone of the repository. If this notebook
# is not inside the clone, write the folder of the clone into REPOSITORY.
from importlib.util import find_spec
from pathlib import Path

here = Path.cwd()
REPOSITORY = next((folder for folder in (here, *here.parents) if (folder / "packages/slax-rules").exists()), here / "slax")
packages = REPOSITORY / "packages"
if not all(map(find_spec, ("slax_neurons", "slax_rules", "slax_data", "slax_viz"))):
    %pip install -q {packages}/slax-neurons[nir] {packages}/slax-rules {packages}/slax-data[digits] {packages}/slax-viz"""
WITH_LASER = """\
import subprocess
import sys

if not find_spec("reservoirpy"):  # which has the series
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "reservoirpy"], check=True)"""
SETUP = {"regression": [INSTALL, WITH_LASER]}


def pages() -> list[Path]:
    """The tutorials, without the page that lists them."""
    return [page for page in sorted(TUTORIALS.glob("*.md")) if page.name != "index.md"]


def cells(page: Path) -> Iterator[tuple[str, str]]:
    """The kind and the content of each cell: the title, what installs slax, and the rest of the page."""
    text = re.sub(r"^!\[.*?\]\(.*?\)\n", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    title, _, rest = text.partition("\n")
    yield "markdown", title
    for source in SETUP.get(page.stem, [INSTALL]):
        yield "code", source
    for number, part in enumerate(re.split(r"^```python\n(.*?)^```$", rest, flags=re.MULTILINE | re.DOTALL)):
        if number % 2:
            yield "code", part.strip("\n")
        elif part.strip():
            yield "markdown", re.sub(r"\[([^][]+)\]\((?!https?:)[^)]*\)", r"\1", part.strip("\n"))


def notebook_of(page: Path) -> str:
    """The notebook of a page, in the format of nbformat 4.5, without outputs."""
    found: list[dict[str, Any]] = []
    for number, (kind, source) in enumerate(cells(page)):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": source.splitlines(keepends=True)}
        found.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {"cells": found, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    argparse.ArgumentParser("python -m docs.notebooks", description=__doc__).parse_args()
    for page in pages():
        page.with_suffix(".ipynb").write_text(notebook_of(page), encoding="utf-8")
