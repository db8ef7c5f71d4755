"""The page and the text: all of it is there, nothing is loaded, no text is taken for more than text; numbers in words."""

import base64
import gzip
import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from small_gallery import CLAIMS, HOSTILE, TABLES, build, certified, record, result, write_small_gallery

from experiments.common.records import read_record
from experiments.common.yaml_files import read_yaml
from gallery import wording
from gallery.claims import Condition, judge_all
from gallery.claims_file import ClaimError, read_claims
from gallery.findings import DATA, Sentence, findings
from gallery.page import HERE, linked, page
from gallery.replication import replication
from gallery.runs import read_run, run_of
from gallery.significance import difference
from gallery.tables import Number, read_table

OUTCOMES = {
    "faster": "✓ holds: p = 0.0025",
    "as_published": "✓ holds",
    HOSTILE: "≈ unresolved: p = 0.18; the means agree with it",
    "on_paper": "○ not run: is about the paper scale",
    "perfect_everywhere": "✗ does not hold: p = 0.026",
}


class Reader(HTMLParser):
    """Every element with its attributes, and the text of each cell; complains where elements do not nest."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.open, self.cells = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in {"meta", "link", "img", "input", "br", "hr"}:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data

    def values(self, name, of=None):
        return [attributes[name] for tag, attributes in self.elements if name in attributes and of in (None, tag)]


@pytest.fixture(scope="module")
def source(built):
    return built.page.read_text()


@pytest.fixture(scope="module")
def read(source):
    return Reader(source)


def test_page_loads_nothing_and_its_names_are_unique(read, source):
    names = read.values("id")
    assert len(set(names)) == len(names) and set(TABLES) <= set(names)
    addresses = [address for name in ("src", "href", "srcset", "data") for address in read.values(name)]
    inside = {address[1:] for address in addresses if address.startswith("#")}
    for name in ("for", "aria-labelledby", "aria-describedby"):
        inside.update(read.values(name))
    assert inside <= set(names)
    known = re.compile(r"data:|#|REPLICATION\.md$|https://(arxiv\.org/abs|doi\.org)/")
    assert [address for address in addresses if not known.match(address)] == []
    assert "url(" not in source and "@import" not in source
    assert any(value.startswith("default-src 'none'; img-src data: blob:;") for value in read.values("content"))
    assert {figure["alt"] for figures in CLAIMS.values() for figure in figures} < set(read.values("alt", "img"))


def test_text_of_claims_stays_text_and_where_to_read_is_a_link(read, source):
    tags = [tag for tag, _ in read.elements]
    assert tags.count("script") == 1 and "b" not in tags and "<script>document" not in source and HOSTILE in read.cells
    arxiv = '<a href="https://arxiv.org/abs/2404.05807">arXiv 2404.05807</a>'
    assert str(linked("A & B, arXiv 2404.05807.")) == f"A &amp; B, {arxiv}."
    doi = '<a href="https://doi.org/10.1109/X.2022.31">10.1109/X.2022.31</a>'
    assert str(linked("doi 10.1109/X.2022.31: <i>")) == f"doi {doi}: &lt;i&gt;"
    assert "<b>" not in linked('doi 10.1000/"><b>') and str(linked("10.1 % of 2404.05807")) == "10.1 % of 2404.05807"


def test_page_has_every_claim_with_its_verdict_and_numbers(read, source):
    verdicts = read.values("data-verdict", "tbody")
    assert [verdict in told for verdict, told in zip(verdicts, OUTCOMES.values(), strict=True)] == [True] * 5
    row = read.cells.index("as_published")
    shown = [cell.replace(wording.NO_BREAK, " ") for cell in read.cells[row + 1 : row + 5]]
    assert shown == ["2", "near 2.1, within 0.2", "-0.1, the same in 3 seeds", "2.5"]
    told = ["2 results", "1 min 20 s", "Linux x86_64 Some Processor", "7, each result with 3 from", "jax 0.10.2"]
    assert [text for text in told if text not in source] == []


def test_checks_are_folded_and_have_no_p_value(source, built):
    folded, text = '<details class="checks">\n  <summary>cost: 1 check holds</summary>', built.text.read_text()
    assert source.count(folded) == 1 and source.index(folded) < source.index('<li id="memory-counted">')
    assert text.count("<summary>1 check holds</summary>\n\n* ✓ holds: counted (ours)") == 1
    assert [text.count("| counted |"), text.count("holds: p = 0 ")] == [0, 0]


FOUND = [
    ("faster", "holds"),
    ("much_faster", "unresolved"),
    ("on_paper", "not run"),
    ("perfect_everywhere", None),
]


def test_what_we_found_is_said_while_its_claims_hold(built, tmp_path):
    """A sentence is left out if one of its claims does not hold, and marked if one is unresolved or not run."""
    tables = {path.stem: read_table(path) for path in built.figures[::3]}
    figures = judge_all(built.claims, tables, "quick")
    path = tmp_path / "findings.yaml"
    owner = {claim.id: figure for figure in figures for claim in figure.claims}

    def said(*names, figure="speed"):
        claims = [f"{owner[name].experiment if name in owner else 'cost'}/{name}" for name in names]
        path.write_text(json.dumps([{"says": "It is so.", "figure": figure, "claims": claims}]))
        return [sentence.verdict for sentence in findings(figures, tables, path)]

    for name, verdict in FOUND:
        assert said(name) == said("faster", name) == ([verdict] if verdict else [])
    assert said("perfect_everywhere", "on_paper") == [] == said("faster", figure="of_another_experiment")
    for name in ("counted", "gone"):  # a check is no finding
        with pytest.raises(ClaimError, match=f"got the claim cost/{name}, expected EXPERIMENT/ID of a finding"):
            said(name)


def test_what_we_found_has_the_numbers_of_the_tables(built, tmp_path):
    """A sentence is left out where the scale lacks one of them."""
    tables = {path.stem: read_table(path) for path in built.figures[::3]}
    figures, path = judge_all(built.claims, tables, "quick"), tmp_path / "findings.yaml"
    numbers = {
        "time": {"table": "speed", "where": {"task": "first", "rule": "otpe"}, "times": 1000},
        "bytes": {"table": "memory", "where": {"rule": "bptt"}, "value": "bytes"},
    }

    def said():
        one = {"says": "{time} ms, {bytes} bytes.", "figure": "speed", "claims": ["cost/faster"], "numbers": numbers}
        path.write_text(json.dumps([one]))
        return [sentence.says for sentence in findings(figures, tables, path)]

    assert said() == ["1000 ± 220 ms, 4,096 bytes."]
    numbers["bytes"]["where"] = {"rule": "ottt"}
    assert said() == []


def test_claims_of_what_we_found_exist():
    """Whether they hold is for the page: here each has a figure and is not a check."""
    files = {path.parent.name: read_claims(path) for path in (HERE.parent / "experiments").glob("*/claims.yaml")}
    kinds = {f"{name}/{one['id']}": one["kind"] for name, of in files.items() for each in of for one in each["claims"]}
    for sentence in read_yaml(DATA):
        assert {kinds[name] for name in sentence["claims"]} <= {"finding", "replication"}
        assert sentence["figure"] in {figure["stem"] for figures in files.values() for figure in figures}


def test_experiments_come_in_the_order_of_what_we_found_and_the_supplement_last(built):
    figures = judge_all(built.claims, {path.stem: read_table(path) for path in built.figures[::3]}, "quick")
    figures[1] = replace(figures[1], is_supplement=True)
    found = [Sentence("It is so.", figures[2], "holds")]
    text = page(figures, {}, {}, {}, "quick", found, replication(figures, {}, "quick"))
    assert re.findall(r'<article id="(\w+)"', text) == ["agreement", "speed", "memory"]
    assert re.findall(r"<h3>(similarity|cost|supplement)</h3>", text) == ["similarity", "cost", "supplement"]


def test_files_are_in_the_page_with_their_bytes_and_no_time(read, built):
    packed = dict(zip(read.values("download"), read.values("data-packed"), strict=True))
    files = {path.name: path.read_bytes() for path in built.figures if path.suffix != ".png"}
    data = {name: base64.b64decode(text) for name, text in packed.items()}
    assert {name: gzip.decompress(one) for name, one in data.items()} == files
    assert {one[4:8] for one in data.values()} == {bytes(4)}


def test_what_is_missing_is_said(built, tmp_path):
    figures = judge_all(built.claims, {}, "quick")
    text = page(figures, {}, {"stray.csv": tmp_path / "stray.csv"}, {}, "quick", [], replication(figures, {}, "quick"))
    assert "Figures that no claims.yaml has: stray." in text and "not recorded" in text
    assert text.count("There is no picture of it at this scale.") == text.count("It has no results at this scale.") == 3


def test_text_has_every_claim_counts_and_what_made_it(built):
    text = html.unescape(built.text.read_text())
    head, _, rest = text.partition("\n## How to read")
    made = {"* commit: 0123456789", "* machine: Linux x86\\_64 Some Processor"}
    assert made <= set(text.splitlines())
    cells = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in rest.splitlines() if line.startswith("| ")]
    rows = {re.sub(r"\\(.)", r"\1", row[0]): re.sub(r"\\(.)", r"\1", row[-1]) for row in cells}
    assert {name: rows[name] for name in OUTCOMES} == OUTCOMES
    assert "| findings | 2 | 1 | 1 | 1 |" in head and "| checks | 1 | 0 | 0 | 0 |" in head


def test_page_and_text_are_the_same_each_time_and_have_a_record(built, tmp_path):
    """From other folders, the files named in another order."""
    small = write_small_gallery(tmp_path)
    for paths in small[:3]:
        paths.reverse()
    build(small)
    pictures = re.compile(r"data-kind=\"image/svg\+xml\" data-packed=\"[^\"]*")  # matplotlib dates its SVG
    one, other = (pictures.sub("", page.read_text()) for page in (small.page, built.page))
    assert one == other and small.text.read_text() == built.text.read_text()
    assert small.replication.read_text() == built.replication.read_text()
    made = {"index.html", "RESULTS.md", "REPLICATION.md"}
    assert set(read_record(small.page.with_name("index.record.json"))["files"]) == made


def test_mistakes_and_changed_files_are_refused_and_nothing_is_written(tmp_path):
    small = write_small_gallery(tmp_path)
    for path in (small.figures[1], small.results[0]):
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        with pytest.raises(SystemExit, match=f"{path.name} differs from its record"):
            build(small)
        path.write_bytes(content)
    small.claims[0].write_text(small.claims[0].read_text().replace("rule: otpe", "rules: otpe", 1))
    with pytest.raises(SystemExit, match=r"nothing was written(.|\n)*speed: faster: .*has no column rules"):
        build(small)
    assert not small.page.exists() and not small.text.exists()


def test_runs_are_taken_together(tmp_path):
    """A job with several results has one record."""
    first = result("first", lr=0.1)
    second = result("second", lr=0.2, extra=[1]) | {"seed": 3, "seeds": [{}], "versions": {"python": "3.13.0"}}
    days = [("03", "cpu", 1.5), ("01", "gpu", 2.0), ("02", "gpu", 40.0)]
    records = [record(date=f"2026-01-{day}", device=device, wall_seconds=t) for day, device, t in days]
    first["records"] = [{"name": "spyx:layers", "versions": {"spyx": "1.0.0"}}, {"name": "norse:whole"}]
    made = run_of([first, second, second], records, [True, False, True])
    assert made.settings == {"scale": "quick", "steps": 20, "optimizer.name": "adamax", "optimizer.rate": 0.01}
    assert made.differing == {"task": ["first", "second"], "lr": [0.1, 0.2], "extra": [[1]]}
    assert (made.results, made.seeds, made.seeds_each) == (3, [3, 7], [1, 3])
    assert made.versions == {"jax": ["0.10.2"], "python": ["3.11.7", "3.13.0"]}
    assert made.libraries == {"spyx": {"spyx": ["1.0.0"]}}
    assert list(made.devices.items()) == [("gpu", 2), ("cpu", 1)] and list(made.older.values()) == [2]
    assert (made.first, made.last, made.seconds) == ("2026-01-01", "2026-01-03", 43.5)
    assert "2 of 3 jobs are older than the sources: made at commit 0123456789" in wording.older(made)
    results = [tmp_path / name for name in ("bptt.json", "digits.json", "digits.timing.json")]
    for path in results:
        path.write_text(json.dumps(result("first")))
    certified(results[:1])
    certified(results[1:])
    made = read_run(results, [results[0]])
    assert (made.results, sum(made.commits.values()), made.seconds, sum(made.older.values())) == (3, 2, 80.0, 1)


@pytest.mark.parametrize(
    ("ours", "than", "more", "told"),
    [
        ([1.0, 2.0, 3.0], 0.0, {}, "+2 (-0.4841 to 4.484), over 3 seeds"),
        ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], {"paired": True}, "-2 (-4.484 to 0.4841), over 3 pairs of seeds"),
        ([1.0, 3.0], [2.0, 4.0, 6.0], {}, "-2 (-6.975 to 2.975), over 2 and 3 seeds, not paired"),
        ([1.0, 1.0], 0.5, {}, "+0.5, the same in 2 seeds"),
        ([1.0], 0.5, {}, ""),
        ([1.0, 4.0], 1.0, {"logarithms": True}, "a factor of 2 (0.000299 to 13,365), over 2 seeds"),
    ],
)
def test_differences_are_told_with_their_interval_and_what_they_are_over(ours, than, more, told):
    sides = [Number(np.mean(of), 0, 0, tuple(of) if isinstance(of, list) else ()) for of in (ours, than)]
    found = difference(ours, than, **{"paired": False} | more)
    said = wording.difference(Condition(sides[0], "above", sides[1], None, None, (), found))
    assert said.replace(wording.NO_BREAK, " ") == told
    if told.endswith("over 2 and 3 seeds, not paired"):
        other = Condition(sides[0]._replace(unit="round"), "above", sides[1], None, None, (), found)
        assert wording.difference(other).endswith("over 2 rounds and 3 seeds, not paired")
