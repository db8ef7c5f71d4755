"""The Python of the pages runs. That of the tutorials and of five more, which train longer: tests/nightly/test_tutorials.py."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FOUND = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("packages/*/README.md"))]
LONG = ("rewards", "streams", "sweep", "synapses", "training")
PAGES = [page for page in FOUND if "```python" in page.read_text() and page.stem not in LONG]


@cache
def errors():
    """By page, what went wrong, or None. All pages are run in one process."""
    command = [sys.executable, Path(__file__).with_name("run_pages.py"), *PAGES]
    environment = os.environ | {"MPLBACKEND": "agg", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = [json.loads(line) for line in run.stdout.splitlines() if line.startswith('{"page":')]
    assert len(found) == len(PAGES), run.stderr[-3000:]
    return {Path(one["page"]): one["error"] for one in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_of_the_page_runs(page):
    assert errors()[page] is None, errors()[page]
