"""What the pages say: their Python runs, their links lead somewhere, each package's page names all that is public."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

pytestmark = pytest.mark.slow  # minutes, all together

ROOT = Path(__file__).parents[1]
TUTORIALS = [page for page in sorted(ROOT.glob("docs/tutorials/*.md")) if page.name != "index.md"]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("packages/*/README.md"))]
# All pages except the one that is generated.
FOLDERS = [
    ROOT,
    ROOT / "docs",
    ROOT / "docs/from",
    ROOT / "docs/tutorials",
    *sorted(ROOT.glob("packages/*")),
    *sorted(ROOT.glob("experiments/*")),
    ROOT / "benchmarks",
]
WRITTEN = [page for folder in FOLDERS for page in sorted(folder.glob("*.md"))]
WITH_PYTHON = [page for page in PAGES if "```python" in page.read_text() and page not in TUTORIALS]
# What the tutorials about the repository find in the current folder, which is the root for their readers.
READ_FROM_THE_ROOT = {"replicate": ("experiments", "gallery", "packages", "requirements.lock")}


def name(page):
    return str(page.relative_to(ROOT))


def run_python(page, folder):
    """All blocks of a page as one program, as a reader would type them: without the tests' strict settings."""
    program = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL))
    environment = os.environ | {"MPLBACKEND": "agg", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_python_of_the_page_runs(page, tmp_path):
    run_python(page, tmp_path)


@pytest.mark.parametrize("page", TUTORIALS, ids=name)
def test_tutorial_ends_with_the_picture_that_it_shows(page, tmp_path):
    """Except for what other rounding changes in a training: a line that ends elsewhere, but not another picture."""
    for entry in READ_FROM_THE_ROOT.get(page.stem, ()):
        (tmp_path / entry).symlink_to(ROOT / entry)
    run_python(page, tmp_path)
    picture = page.with_suffix(".png")
    assert re.findall(r"!\[[^\]]+\]\((.*?)\)", page.read_text()) == [picture.name]
    assert [path.name for path in tmp_path.glob("*.png")] == [picture.name]
    assert picture.stat().st_size < 150_000
    saved, shown = (coarse(imread(path)) for path in (tmp_path / picture.name, picture))
    assert saved.shape == shown.shape and np.abs(saved - shown).mean() < 0.015


def coarse(picture):
    """The mean color of each square of 40 x 40 pixels."""
    height, width = (length // 40 for length in picture.shape[:2])
    return picture[: height * 40, : width * 40].reshape(height, 40, width, 40, -1).mean(axis=(1, 3))


def test_index_shows_each_tutorial_with_its_picture():
    text = (ROOT / "docs/tutorials/index.md").read_text()
    for page in TUTORIALS:
        assert f"]({page.name})" in text and f"]({page.stem}.png)](" in text, page.name


@pytest.mark.parametrize("page", ["delays", "regularize", "rewards", "streams", "synapses"])
def test_page_begins_with_ten_lines_of_code(page):
    """Which run by themselves, since they come first."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(), flags=re.DOTALL)[1]
    lines = [line for line in block.splitlines() if line]
    assert len(lines) <= 10 and max(map(len, lines)) <= 128 and ";" not in block


def recipes():
    """The recipes by title, each with its code."""
    sections = re.split(r"^## (.*)\n", (ROOT / "docs" / "recipes.md").read_text(), flags=re.MULTILINE)
    titles, texts = sections[1::2], sections[2::2]
    return {
        title: re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)[1]
        for title, text in zip(titles, texts, strict=True)
    }


@pytest.mark.parametrize("title", recipes())
def test_recipe_is_short_and_needs_the_first_block_alone(title):
    """So that it can be copied with it. What is imported, or made for the page only, does not count as length."""
    first = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "recipes.md").read_text(), flags=re.DOTALL)[1]
    recipe = recipes()[title]
    assert (
        len([line for line in recipe.splitlines() if line and not line.startswith(("from", "import", "assert"))]) <= 14
    )
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "-"]
    run = subprocess.run(command, input=first + recipe, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_contents_of_the_recipes_are_complete():
    contents = (ROOT / "docs" / "recipes.md").read_text().partition("```")[0]
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in recipes()}
    assert set(re.findall(r"\]\(#([^)]*)\)", contents)) == anchors


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("experiments/*/README.md"))], ids=name)
def test_links_of_the_page_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_text_is_wrapped(page):
    """At 128 columns, as the code is; tables, code and what holds a link or a command are as long as they have to be."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    may_be_long = re.compile(r" {0,2}\||    |.*\]\(|.*`.{60}")
    lines = [line for line in text.splitlines() if not may_be_long.match(line)]
    assert [line for line in lines if len(line) > 128] == []


@pytest.mark.parametrize("package", ["slax_data", "slax_neurons", "slax_rules", "slax_viz"])
def test_page_of_the_package_names_all_that_is_public(package):
    public = [
        name
        for name, value in vars(importlib.import_module(package)).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    ]
    text = (ROOT / "packages" / package.replace("_", "-") / "README.md").read_text()
    assert [name for name in public if not re.search(rf"\b{name}\b", text)] == []


def test_every_command_of_the_readme_is_run_by_ci():
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL))
    commands = [line.partition("#")[0].strip() for line in shell.splitlines()]
    ci = (ROOT / ".ci" / "run").read_text()
    assert [command for command in commands if command and command not in ci] == []
