"""A tutorial as a notebook, made from the same Markdown."""

import json
import re

import jupytext
import nbformat

# The packages are not on an index yet: a name there would be somebody else's.
PACKAGES = ("slax-neurons[nir]", "slax-rules", "slax-data[digits]", "slax-viz")
INSTALL = "\n".join(
    [
        "# On a machine without the packages: from a clone of the repository, whose folder is REPOSITORY.",
        'REPOSITORY = "."',
        "%pip install -q " + " ".join(f'"{{REPOSITORY}}/packages/{package}"' for package in PACKAGES),
    ]
)


def notebook_of(text: str) -> str:
    """The notebook of a page, which begins with a cell that installs what the page needs.

    Blocks of Python are cells, and the rest is text. Pictures are left out, since the cells draw them.
    """
    without_pictures = re.sub(r"^!\[.*?\]\(.*?\)\n", "", text, flags=re.MULTILINE | re.DOTALL)
    notebook = jupytext.reads(without_pictures, fmt="md")
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(INSTALL, id="install"))
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return json.dumps(notebook, indent=1, sort_keys=True) + "\n"
