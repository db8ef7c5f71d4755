"""The notebooks of the tutorials are made from the pages as they are now, and their first cells find the repository."""

import re
import sys

import pytest

from docs.notebooks import TUTORIALS, cells, notebook_of, pages


def test_each_tutorial_has_its_notebook():
    current = {page.with_suffix(".ipynb"): notebook_of(page) for page in pages()}
    assert len(current) > 5 and set(current) == set(TUTORIALS.glob("*.ipynb"))
    old = [path.name for path, text in current.items() if path.read_text(encoding="utf-8") != text]
    assert not old, f"{old} differ from their pages: run `python -m docs.notebooks`."


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_first_cells_run_where_slax_is_installed_and_the_others_are_python(page, monkeypatch):
    monkeypatch.chdir(TUTORIALS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    found = {}
    setup = [source for kind, source in cells(page) if kind == "code" and "REPOSITORY" in source]
    for source in setup:
        exec(re.sub(r"^( *)%pip .*$", r"\1raise AssertionError", source, flags=re.MULTILINE), found)
    assert found["REPOSITORY"] == TUTORIALS.parents[1]
    for kind, source in cells(page):
        assert kind == "markdown" or source in setup or compile(source, page.name, "exec")
