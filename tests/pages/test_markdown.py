"""Every page renders as its source looks: as CommonMark with tables, without stray marks, dead links and wide code."""

import re
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
PAGES = [ROOT / name for name in LISTED.split()]
PARSER = MarkdownIt("commonmark").enable("table")
COMMENT = re.compile(r"<!--(?:(?!-->).)*-->\n?", flags=re.DOTALL)
STRAY = re.compile(r"^\s*[*+-] (?=\w)|^\s*\||\|\s*$|\*\*|``|\]\(|<!--|-->|\{\{|\}\}", flags=re.MULTILINE)
BY_HAND = re.compile(r"\d*\.\d+|\d+ %")
NO_RESULT = re.compile(r"95 %\s+interval|\d+\.\d+\.\d+")


def cells(row):
    return len(re.split(r"(?<!\\)\|", row))


def stray_marks(text):
    """The marks that a reader of a page would see, each with the line at which its block begins."""
    found, lines, head = [], text.splitlines(), 0
    for token in PARSER.parse(text):
        line = token.map[0] if token.map else 0
        if token.type == "html_block" and token.content.startswith("<!--"):
            found += [(line + 1, token.content)] * (token.level > 0 or not COMMENT.fullmatch(token.content))
        if token.type == "inline":
            words = ["\n" if "break" in one.type else one.content for one in token.children if "code" not in one.type]
            found += [(line + 1, mark) for mark in STRAY.findall("".join(words))]
        if token.type == "table_open":
            head = cells(lines[line])
        if token.type == "tr_open":
            found += [(line + 1, lines[line])] * (cells(lines[line]) != head)
    return found


@cache
def anchors(page):
    """The names of the headings of a page, as GitHub makes them."""
    tokens = PARSER.parse(page.read_text(encoding="utf-8"))
    headings = [after for token, after in pairwise(tokens) if token.type == "heading_open"]
    titles = ["".join(one.content for one in after.children) for after in headings]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page):
    """The relative links of a page that lead to no file, or to no heading of a page."""
    inline = [token for token in PARSER.parse(page.read_text(encoding="utf-8")) if token.type == "inline"]
    links = [one.attrs.get("href", one.attrs.get("src")) for token in inline for one in token.children if one.attrs]
    for link in links:
        name, _, heading = str(link).partition("#")
        if not re.match(r"[a-z]+:", name):
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (heading and target.suffix == ".md" and heading not in anchors(target)):
                yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_has_no_stray_marks_and_no_dead_links(page):
    assert not stray_marks(page.read_text(encoding="utf-8"))
    assert not list(dead_links(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_results_have_no_number_that_was_copied_by_hand(page):
    """In the sections `Results` and `What comes out`, decimal numbers and percentages are in tables, which are filled."""
    section, tokens = "", PARSER.parse(page.read_text(encoding="utf-8"))
    for token, after in pairwise(tokens):
        if token.type == "heading_open" and token.tag <= "h2":
            section = after.content
        if token.type == "paragraph_open" and section in ("Results", "What comes out"):
            words = "".join(one.content for one in after.children if one.type in ("text", "softbreak"))
            assert not BY_HAND.findall(NO_RESULT.sub("", words)), after.content
