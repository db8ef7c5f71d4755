"""The page as it is written: all of it is in it, nothing is loaded, and no text of a claim is taken for more than text."""

import base64
import gzip
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from small_gallery import CLAIMS, HOSTILE, TABLES

from gallery.claims import judge_all
from gallery.page import COLUMNS, embedded, linked, packed, page, picture, search_words
from gallery.wording import NO_BREAK

WITHOUT_END = {"meta", "link", "img", "input", "br", "hr"}
ADDRESSES = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class Reader(HTMLParser):
    """Every element with its attributes, and the text of each `td` and `th`; complains where elements do not nest."""

    def __init__(self):
        super().__init__()
        self.elements, self.open, self.cells = [], [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in WITHOUT_END:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def source(built):
    return built.page.read_text()


@pytest.fixture(scope="module")
def read(source):
    reader = Reader()
    reader.feed(source)
    reader.close()
    assert reader.open == []
    return reader


def attributes(read, name):
    return [values[name] for _, values in read.elements if name in values]


def test_names_are_unique_and_every_reference_has_its_name(read):
    names = attributes(read, "id")
    assert len(set(names)) == len(names)
    inside = [address[1:] for address in attributes(read, "href") if address.startswith("#")]
    referred = [
        *inside,
        *attributes(read, "for"),
        *attributes(read, "aria-labelledby"),
        *attributes(read, "aria-describedby"),
    ]
    assert set(referred) <= set(names) and set(TABLES) <= set(inside)


def test_nothing_is_loaded(read, source):
    for tag, values in read.elements:
        for name in ADDRESSES & values.keys():
            address = values[name]
            plain_link = tag == "a" and re.match(r"https://(arxiv\.org/abs|doi\.org)/", address)
            assert address.startswith(("data:", "#")) or plain_link, (tag, name, address[:80])
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style
    policy = next(
        values["content"] for _, values in read.elements if values.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data: blob:;")


def test_text_of_claims_stays_text(read, source):
    tags = Counter(tag for tag, _ in read.elements)
    assert tags["script"] == 1 and tags["b"] == 0 and "<script>document" not in source
    assert HOSTILE in read.cells


def test_every_picture_has_its_own_words(read):
    pictures = [values for tag, values in read.elements if tag == "img" and values.get("class") != "thumbnail"]
    assert [values["alt"] for values in pictures] == [
        figure["alt"] for figures in CLAIMS.values() for figure in figures
    ]


def test_every_claim_is_there_with_its_verdict(read):
    judged = {values["id"]: values["data-verdict"] for tag, values in read.elements if tag == "tbody"}
    assert judged == {
        "speed-faster": "holds",
        "speed-much_faster": "not resolved",
        "speed-as_published": "holds",
        "memory-on_paper": "not run",
        "agreement-perfect_everywhere": "does not hold",
    }
    shown = [" ".join(cell.split()) for cell in read.cells]
    assert [verdict for verdict in shown if verdict[2:].startswith(("holds", "not", "does"))] == [
        "✓ holdsp = 0.0017",
        "≈ not resolvedp = 0.18the means agree with itabout 6 seeds would be needed",
        "✓ holdsp < 0.0001",
        "○ not runis about the scale paper",
        "✗ does not holdp = 0.013",
    ]


def test_published_number_stands_beside_ours_with_the_deviation(read):
    row = read.cells.index("as_published")
    shown = [cell.replace(NO_BREAK, " ") for cell in read.cells[row + 1 : row + 6]]
    assert shown == ["2", "near 2.1, within 0.2", "-0.1, the same in 3 seeds", "2.5", "-0.5 (-20.0 %)"]
    row = read.cells.index("faster")
    assert read.cells[row + 3].replace(NO_BREAK, " ") == "-1 (-1.124 to -0.8758), over 3 pairs of seeds"


def test_column_without_numbers_disappears(read):
    titles = [cell for cell in read.cells if cell in ("claim", "verdict", "source", *COLUMNS)]
    assert titles == [
        *("verdict", "claim", "ours", "expected", "difference", "published", "deviation", "source"),
        *("verdict", "claim", "expected", "source"),
        *("verdict", "claim", "ours", "expected", "difference", "source"),
    ]


def test_what_made_a_figure_is_told(source):
    for text in ("2 results", "1 min 20 s", "cpu", "Linux x86_64 Some Processor", "0123456789", "2026-01-02 03:04 UTC"):
        assert text in source
    for text in (
        "7, each result with 3 from there on",
        "jax 0.10.2, python 3.11.7",
        "optimizer.rate: 0.01",
        "task: [first, second]",
    ):
        assert text in source


def test_figure_that_nobody_claims_is_named(built, tmp_path):
    files = {path.name: path for path in [*built.figures, tmp_path / "stray.csv"]}
    text = page(judge_all(built.claims, {}, "quick"), {}, files, {}, "quick")
    assert "Figures that no claims.yaml has: stray." in text


def test_figure_that_is_not_made_is_said_to_be_missing(built):
    text = page(judge_all(built.claims, {}, "quick"), {}, {}, {}, "quick")
    assert text.count("There is no picture of it at this scale.") == text.count("It has no results at this scale.") == 3
    assert "no claims.yaml has" not in text


def test_picture_is_the_one_with_vectors_where_there_is_one(tmp_path):
    files = {f"x.{form}": tmp_path / f"x.{form}" for form in ("csv", "png", "svg")}
    for path in files.values():
        path.write_bytes(b"some bytes")
    kinds = {name: file["kind"] for name, file in embedded("x", files).items()}
    assert kinds == {"x.svg": "image/svg+xml", "x.csv": "text/csv"}
    del files["x.svg"]
    assert picture("x", files) == "x.png" and list(embedded("x", files)) == ["x.png", "x.csv"]
    assert picture("y", files) is None and embedded("y", files) == {}


def test_file_in_the_page_has_its_bytes_and_no_time(tmp_path):
    path = tmp_path / "x.svg"
    path.write_bytes(bytes(range(256)))
    data = base64.b64decode(packed(path))
    assert gzip.decompress(data) == path.read_bytes() and data[4:8] == bytes(4)


def test_figure_is_found_by_what_its_table_is_about():
    rows = [{"rule": "approximate_otpe", "task": "digits"}, {"rule": "approximate_otpe", "task": ""}]
    assert search_words(rows) == "approximate_otpe approximate otpe digits"


@pytest.mark.parametrize(
    "text, marked",
    [
        (
            "A & B 2024, arXiv 2404.05807.",
            'A &amp; B 2024, <a href="https://arxiv.org/abs/2404.05807">arXiv 2404.05807</a>.',
        ),
        (
            "doi 10.1109/X.2022.31: <i>",
            'doi <a href="https://doi.org/10.1109/X.2022.31">10.1109/X.2022.31</a>: &lt;i&gt;',
        ),
        ("at 10.1 % of 2404.05807", "at 10.1 % of 2404.05807"),
        (
            'doi 10.1000/"><b>',
            'doi <a href="https://doi.org/10.1000/&#34;&gt;&lt;b&gt;">10.1000/&#34;&gt;&lt;b&gt;</a>',
        ),
    ],
)
def test_where_to_read_is_a_link(text, marked):
    assert str(linked(text)) == marked
