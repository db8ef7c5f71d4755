"""The site that `make docs` built: links, references, notebooks, and what a browser makes of it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs.site import api

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"
pytestmark = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="`make docs` makes the site, and has not")


class Page(HTMLParser):
    """The places in a page, and what it links to and loads."""

    def __init__(self, text):
        super().__init__()
        self.places, self.links, self.loaded = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.places |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.add(found["href"])
        self.loaded |= {found[name] for name in ("src", "data-src") if found.get(name)}
        if tag == "link" and found.get("rel") in ("stylesheet", "icon"):
            self.loaded.add(found["href"])


@pytest.fixture(scope="module")
def built():
    return {file: Page(file.read_text()) for file in SITE.rglob("*.html")}


def test_every_link_leads_to_a_place_that_there_is(built):
    missing = []
    for file, page in built.items():
        if file.name == "404.html":
            continue
        for link in sorted(page.links | page.loaded):
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto", "data"):
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            place = unquote(parts.fragment)
            if not target.exists() or (place and target in built and place not in built[target].places):
                missing.append((file.relative_to(SITE).as_posix(), link))
    assert len(built) > 60 and missing == []


def test_nothing_is_loaded_from_elsewhere(built):
    assert {
        link for page in built.values() for link in page.loaded if urlsplit(link).scheme in ("http", "https")
    } == set()
    styles = "\n".join(file.read_text() for file in SITE.rglob("*.css"))
    assert not re.search(r"url\(['\"]?https?:", styles)


def test_reference_has_a_heading_signature_and_source_for_each_public_name(built):
    for public in api.public_names():
        page = built[SITE / public.page.replace(".md", ".html")]
        assert f"{public.package}.{public.name}" in page.places
    text = (SITE / "api/slax_rules/loop.html").read_text()
    assert all(words in text for words in ("Source code in", "Used by", 'class="doc-signature'))


def test_notebooks_have_the_code_of_their_pages():
    notebooks = list(SITE.rglob("*.ipynb"))
    tutorials = {page.stem for page in ROOT.glob("docs/tutorials/*.md")} - {"index"}
    assert {notebook.stem for notebook in notebooks} == tutorials and len(tutorials) >= 9
    for notebook in notebooks:
        page = ROOT / "docs" / notebook.relative_to(SITE).with_suffix(".md")
        first, *cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
        assert "".join(first["source"]).splitlines()[-1].startswith("%pip install")
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
        assert ["".join(cell["source"]).strip() for cell in cells] == [block.strip() for block in blocks]


def test_search_index_has_what_people_look_for():
    index = json.loads((SITE / "search/search_index.json").read_text())["docs"]
    for word in ("OTPE", "memory", "SHD"):
        assert any(word in entry["text"] or word in entry["title"] for entry in index)
    assert not any(entry["location"].startswith("source/") for entry in index)
