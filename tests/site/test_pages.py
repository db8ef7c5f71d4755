"""Which files are pages of the site, and their links and references."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from docs.site import api, pages

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("README.md", "index.md"),
        ("docs/rules.md", "rules.md"),
        ("docs/tutorials/landscapes.md", "tutorials/landscapes.md"),
        ("packages/slax-viz/README.md", "packages/slax-viz.md"),
        ("packages/slax-viz/CHANGELOG.md", "packages/slax-viz/changelog.md"),
        ("experiments/accuracy/README.md", "experiments/accuracy.md"),
        ("gallery/README.md", "gallery/index.md"),
        ("CHANGELOG.md", "changelog.md"),
        ("tests/nightly/published/data/README.md", "tests/nightly/published/data.md"),
        ("experiments/accuracy/plot.py", None),
    ],
)
def test_names_of_pages(path, name):
    assert pages.page_of(path) == name


def test_every_markdown_file_for_readers_is_a_page():
    found = pages.pages()
    expected = [file for file in ROOT.glob("docs/**/*.md")] + [
        *ROOT.glob("experiments/*/README.md"),
        ROOT / "README.md",
    ]
    assert {file.relative_to(ROOT).as_posix() for file in expected} <= found.keys()
    assert len(set(found.values())) == len(found)


def test_every_page_is_in_the_navigation():
    """By hand, except for the pages of experiments and packages, which the hook adds."""
    listed = re.findall(r"([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    written = [name for name in pages.pages().values() if not name.startswith(("experiments/", "packages/"))]
    assert sorted([*written, "api/index.md"]) == sorted(listed)


def test_build_fails_at_a_warning():
    """MkDocs counts no warnings if it is quiet, so that a strict build passes whatever it finds."""
    command = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "mkdocs build" in line)
    assert "strict: true" in (ROOT / "mkdocs.yml").read_text() and " -q" not in command.partition("#")[0]


NAMES = {
    "docs/rules.md": "rules.md",
    "docs/a.png": "a.png",
    "experiments/accuracy/README.md": "experiments/accuracy.md",
    "experiments/accuracy/plot.py": "source/experiments/accuracy/plot.py.md",
}


@pytest.mark.parametrize(
    ("path", "link", "expected"),
    [
        ("docs/rules.md", "../experiments/accuracy/README.md", "experiments/accuracy.md"),
        ("docs/rules.md", "../experiments/accuracy/plot.py", "source/experiments/accuracy/plot.py.md"),
        ("docs/rules.md", "a.png", "a.png"),
        ("docs/rules.md", "rules.md#otpe", "rules.md#otpe"),
        ("docs/rules.md", "#otpe", "#otpe"),
        ("docs/rules.md", "https://arxiv.org/abs/1#2", "https://arxiv.org/abs/1#2"),
        ("experiments/accuracy/README.md", "../../docs/rules.md#x", "../rules.md#x"),
        ("experiments/accuracy/README.md", "plot.py", "../source/experiments/accuracy/plot.py.md"),
    ],
)
def test_links_between_files_become_links_between_pages(path, link, expected):
    text = f"See [it]({link}).\n"
    assert pages.with_links_of_the_site(path, text, NAMES) == f"See [it]({expected}).\n"


def test_links_in_code_stay_and_links_to_nothing_stop():
    code = "```python\nx = [a](b)\n```\n"
    assert pages.with_links_of_the_site("docs/rules.md", code, NAMES) == code
    assert list(pages.targets("docs/rules.md", code + "[one](a.png) [two](https://x.org)")) == ["docs/a.png"]
    with pytest.raises(SystemExit, match=r"docs/rules.md links to gone.md, and there is no docs/gone.md"):
        pages.with_links_of_the_site("docs/rules.md", "[it](gone.md)", NAMES)


def test_source_pages_have_the_source_and_no_place_in_the_search():
    text = pages.source_page("docs/site/pages.py")
    assert (ROOT / "docs/site/pages.py").read_text() in text and "exclude: true" in text
    assert "* `pages.py`\n" in pages.source_page("docs/site")


def names_of(package):
    """What can be imported from a package and is no module."""
    return {
        name
        for name, value in vars(importlib.import_module(package)).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }


def test_reference_has_every_public_name_once_and_says_who_uses_it():
    made = api.api_pages(pages.pages())
    named = re.findall(r"^::: (\S+)$", "\n".join(made.values()), flags=re.MULTILINE)
    public = [f"{name.package}.{name.name}" for name in api.public_names()]
    for package in api.PACKAGES:
        assert names_of(package) == {name.name for name in api.public_names() if name.package == package}
    assert sorted(named) == sorted(public) and len(set(named)) == len(named)
    text = made["api/slax_rules/layerwise.md"]
    of_otpe = text.partition("::: slax_rules.OTPE\n")[2].partition(":::")[0]
    assert "[slax](../../index.md)" in of_otpe  # the front page trains under it
