"""The package as its reader meets it."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import slax_viz

README = Path(__file__).parents[2] / "packages" / "slax-viz" / "README.md"


def test_example_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    exec(compile(example, README.name, "exec"), {})
    assert (tmp_path / "cosine_similarity.svg").stat().st_size > 1000


def test_readme_names_all_that_is_public():
    public = [name for name, value in vars(slax_viz).items() if name[0] != "_" and not inspect.ismodule(value)]
    text = README.read_text()
    missing = [name for name in public if not re.search(rf"\b{name}\b", text)]
    assert missing == []


def test_import_pulls_in_no_sibling_and_no_matplotlib():
    code = "import sys, slax_viz; print(*(m for m in sys.modules if '.' not in m and m.startswith(('slax_', 'matplotlib'))))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["slax_viz"]
