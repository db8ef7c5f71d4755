"""The Python of the pages runs, and so do the tutorials with short trainings."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TUTORIALS = ("exchange.md", "first_network.md", "your_neuron.md")  # the others in tests/nightly alone, as these in full
FOUND = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("packages/*/README.md"))]
PAGES = [
    page
    for page in FOUND
    if "```python" in page.read_text() and (page.parent.name != "tutorials" or page.name in TUTORIALS)
]


@cache
def errors(short):
    """By page, what went wrong, or None. Tutorials are run with short trainings, all pages of a kind in one process."""
    pages = [page for page in PAGES if (page.parent.name == "tutorials") == short]
    command = [sys.executable, Path(__file__).with_name("run_pages.py"), *["--short"] * short, *pages]
    environment = os.environ | {"MPLBACKEND": "agg", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"page":')]
    assert len(found) == len(pages), run.stderr[-3000:]
    return {Path(one["page"]): one["error"] for one in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_of_the_page_runs(page):
    error = errors(page.parent.name == "tutorials")[page]
    assert error is None, error
