"""The Python of the pages runs, and so do the tutorials with short trainings."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TUTORIALS = ("exchange.md", "first_network.md", "your_neuron.md")  # the others in tests/nightly alone, as these in full
FOUND = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("packages/*/README.md"))]
PAGES = [
    page
    for page in FOUND
    if "```python" in page.read_text() and (page.parent.name != "tutorials" or page.name in TUTORIALS)
]
GROUPS = 2  # processes
CASES = [
    pytest.param(
        page, index % GROUPS, marks=pytest.mark.xdist_group(f"pages {index % GROUPS}"), id=str(page.relative_to(ROOT))
    )
    for index, page in enumerate(PAGES)
]


@cache
def errors(group, short):
    """By page, what went wrong, or None."""
    pages = [page for page in PAGES[group::GROUPS] if (page.parent.name == "tutorials") == short]
    command = [sys.executable, Path(__file__).with_name("run_pages.py"), *["--short"] * short, *pages]
    environment = os.environ | {"MPLBACKEND": "agg", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"page":')]
    assert len(found) == len(pages), run.stderr[-3000:]
    return {Path(one["page"]): one["error"] for one in found}


@pytest.mark.parametrize(("page", "group"), CASES)
def test_python_of_the_page_runs(page, group):
    error = errors(group, page.parent.name == "tutorials")[page]
    assert error is None, error
