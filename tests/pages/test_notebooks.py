"""The notebooks of the tutorials are made from the pages as they are now, and their first cells find the repository."""

from docs.notebooks import TUTORIALS, notebook_of, pages


def test_each_tutorial_has_its_notebook():
    current = {page.with_suffix(".ipynb"): notebook_of(page) for page in pages()}
    assert len(current) > 5 and set(current) == set(TUTORIALS.glob("*.ipynb"))
    old = [path.name for path, text in current.items() if path.read_text(encoding="utf-8") != text]
    assert not old, f"{old} differ from their pages: run `python -m docs.notebooks`."
