"""The page and the texts: all of it is there, nothing is loaded, no text is taken for more than text."""

import html
import json
import re

import pytest
from markupsafe import escape
from small_gallery import HOSTILE, TABLES, build, certified, result, write_small_gallery, written

from gallery.claims import judge_all
from gallery.claims_file import ClaimError
from gallery.findings import findings
from gallery.runs import read_run, together
from gallery.tables import Number, read_table
from gallery.wording import plus_minus, sample

OUTCOMES = {"faster": "✓ holds", "as_published": "✓ holds", HOSTILE: "≈ unresolved", "perfect": "✗ does not hold"}
ABOUT = {"id": "it", "headline": "It is so", "caveat": "It may not be.", "figure": "speed", "winner": None}


@pytest.fixture
def found(built, tmp_path):
    """The findings of a file with one entry."""
    tables = {path.stem: read_table(path) for path in built.figures if path.suffix == ".csv"}
    figures, path = judge_all(built.claims, tables, "quick"), tmp_path / "findings.yaml"

    def of(*claims, sentence="It is.", **more):
        entry = ABOUT | {"sentence": sentence, "claims": list(claims)} | more
        return findings(figures, tables, written(path, json.dumps([entry])))

    return of


def test_finding_is_a_headline_alone_if_a_claim_does_not_hold_and_marked_if_one_is_open(found):
    for name, verdict in {"faster": "holds", "much_faster": "unresolved", "on_paper": "not run"}.items():
        assert [one.verdict for one in found("cost/faster", f"cost/{name}")] == [verdict]
    assert [(one.sentence, one.verdict) for one in found("similarity/perfect")] == [("", "does not hold")]
    (one,) = found("cost/faster", "cost/much_faster", caveat_claims=["similarity/perfect"])
    assert (one.sentence, one.of_caveat[0].id, one.weakest.id) == ("It is.", "perfect", "much_faster")
    assert one.of_caveat[0].verdict == "does not hold"
    assert [one.verdict for one in found("cost/faster", caveat_claims=["cost/counted"])] == ["holds"]
    assert found("cost/faster", figure="of_another_experiment") == []
    for name, why in {"counted": "counted is a check", "gone": "there is no claim cost/gone"}.items():
        with pytest.raises(ClaimError, match=why):
            found(f"cost/{name}")
    assert [one.verdict for one in found("cost/faster", "cost/counted")] == ["holds"]
    with pytest.raises(ClaimError, match="does not match"):
        found("cost/faster", headline="It has more than twelve words, which is too many for one headline")


def test_finding_has_the_numbers_of_the_tables_or_is_a_headline_alone(found):
    numbers = {
        "time": {"task": "first", "rule": "otpe", "percent": True},
        "bytes": {"table": "memory", "column": "bytes", "rule": "bptt"},
    }
    (one,) = found("cost/faster", sentence="{time} %, {bytes} bytes.", numbers=numbers)
    assert one.sentence == "100 ± 22 %, 4,096 bytes." and sample(one.weakest) == "n = 3 seeds, p = 0.0025"
    numbers["bytes"]["rule"] = "ottt"
    assert [one.sentence for one in found("cost/faster", numbers=numbers)] == [""]


def test_page_has_each_claim_and_picture_loads_nothing_and_text_stays_text(built):
    page = built.page.read_text()
    assert "<script" not in page and "<b>" not in page and str(escape(HOSTILE)) in page
    assert "default-src 'none'; img-src data:;" in page and "url(" not in page and "@import" not in page
    assert page.count('src="data:image/webp;base64,') == len(TABLES) and 'width="700" height="300"' in page
    rows = re.findall(r'<tr id="[^"]*">.*?</tr>', page, flags=re.DOTALL)
    words = [html.unescape(re.sub(r"<[^>]*>", "", row)) for row in rows]
    assert all(any(sentence in row and verdict in row for row in words) for sentence, verdict in OUTCOMES.items())
    assert len(rows) == 5 and 'id="memory-counted"' in page and all(f'id="{stem}"' in page for stem in TABLES)


def test_text_has_every_claim_that_is_run_with_its_verdict(built):
    text = html.unescape(re.sub(r"\\(.)", r"\1", built.text.read_text()))
    for sentence, verdict in OUTCOMES.items():
        assert re.search(rf"^\|{re.escape(sentence)}\|.*\|{verdict[0]}a1", text, flags=re.MULTILINE)
    assert "| findings, not frozen | 2 | 1 | 1 | 1 |" in text and "| checks | 1 | 0 | 0 | 0 |" in text


def test_same_files_make_the_same_texts_and_changed_ones_are_refused(built, tmp_path):
    small = write_small_gallery(tmp_path)
    for path in (small.figures[0], small.results[0]):
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        with pytest.raises(SystemExit, match=f"{path.name} differs from its record"):
            build(small)
        path.write_bytes(content)
    claims = small.claims[0].read_text()
    small.claims[0].write_text(claims.replace("rule: otpe", "rules: otpe", 1))
    with pytest.raises(SystemExit, match=r"nothing was written(.|\n)*speed: faster: .*has no column rules"):
        build(small)
    assert not small.page.exists()
    small.claims[0].write_text(claims)
    for paths in small[:3]:  # named in another order
        paths.reverse()
    made = build(small)
    assert [made[i].read_text() == built[i].read_text() for i in (3, 4, 5)] == [True] * 3


def test_runs_are_taken_together(tmp_path):
    paths = []
    for seed, day, device, version in ((7, "03", "cpu", "1"), (3, "01", "gpu", "2"), (4, "02", "gpu", "2")):
        content = result("first") | {"seed": seed, "versions": {"jax": version}}
        path = written(tmp_path / f"{seed}.json", json.dumps(content))
        paths += certified([path], date=f"2026-01-{day}", device=device)
    made = together([read_run(paths[:2], {paths[1]}), read_run(paths[2:])])
    assert (len(made.results), made.seeds, made.versions) == (3, [3, 4, 5, 6, 7, 8, 9], ["jax 1", "jax 2"])
    assert made.counts("device") == {"gpu": 2, "cpu": 1} and made.older == 1 and made.seconds == 120.0


def test_number_in_a_sentence_has_the_digits_that_its_interval_leaves_sure():
    texts = {(0.5, 0.49, 0.51): "50.0 ± 1.0", (0.5, 0.46, 0.54): "50 ± 4", (10792, 10792, 10792): "10,792"}
    assert [plus_minus(Number(*ends), 100 if ends[0] < 1 else 1) for ends in texts] == list(texts.values())
