"""Tables of pages are those of the figures: which cell has which number, with its interval, and what is told otherwise."""

import re

import pytest

from gallery.page_tables import page

TABLE = """\
task,rule,mode,quantity,layer,mean,low,high,values,seeds
digits,bptt,offline,accuracy,,0.9,0.89,0.91,0.89 0.9 0.91,3
digits,otpe,offline,accuracy,,0.85,0.82,0.88,0.83 0.85 0.87,3
digits,otpe,online,accuracy,,0.7,0.7,0.7,0.7 0.7 0.7,3
digits,bptt,offline,cosine,1,1.0,1.0,1.0,1 1 1,3
digits,otpe,offline,cosine,1,0.623,0.6,0.64,0.6 0.62 0.64,3
digits,otpe,offline,cosine,2,-0.001,-0.001,0.001,-0.002 -0.001 0,3
"""


@pytest.fixture
def filled(tmp_path):
    (tmp_path / "two.csv").write_text(TABLE)

    def fill(keys):
        text = page(f"Before.\n<!-- numbers two: {keys} -->\nold\n<!-- end -->\nAfter.", tmp_path)
        assert text == page(text, tmp_path)
        assert "old" not in text
        return [line.strip() for line in re.findall(r"^\| (?!---)(.*)\|$", text, flags=re.MULTILINE)]

    return fill


def test_rows_and_columns_have_the_numbers_of_the_file(filled):
    keys = "{rows: rule, columns: mode, where: {task: digits, quantity: accuracy}, times: 100}"
    assert filled(keys) == ["| offline | online", "BPTT | 90.0 ± 1.0 |", "OTPE | 85 ± 3 | 70"]


def test_columns_of_their_own_differences_layers_and_two_in_a_cell(filled):
    loss = "loss of it: {where: {quantity: accuracy}, slash: {mode: [offline, online]}, minus: {rule: bptt, mode: offline}}"
    cosine = "cosine: {where: {quantity: cosine, mode: offline}, join: layer}"
    rows = filled(f"{{rows: {{task: [digits], rule: [otpe, bptt]}}, columns: {{{loss}, {cosine}}}}}")
    # Differences seed by seed are -.06, -.05, -.04, and -.19, -.2, -.21: Student's t at .975 for two degrees is 4.303.
    half = 4.303 * 0.01 / 3**0.5
    assert rows[1] == f"handwritten digits, OTPE | -0.05 ± {half:.2f} / -0.20 ± {half:.2f} | 0.62 0.00"
    assert rows[2] == "handwritten digits, BPTT | 0 / - | 1.00"


def test_a_cell_with_several_rows_is_refused(filled):
    with pytest.raises(SystemExit, match="has 2 rows, expected one"):
        filled("{rows: rule, columns: quantity, where: {mode: offline}}")


def test_a_sentence_has_a_number(filled, tmp_path):
    mark = "takes <!-- number two: {where: {rule: otpe, mode: online}, times: 100, digits: 1} -->%s<!-- end --> %%."
    assert page(mark % "old", tmp_path) == mark % "70.0"
    with pytest.raises(SystemExit, match=r"two\.csv has no number for"):
        page((mark % "").replace("otpe", "ottt"), tmp_path)


@pytest.mark.parametrize(
    ("sentence", "refused"),
    [
        ("OTPE reaches 95 %.", "without a mark: 95 %"),
        ("Half the width of a 95 %\ninterval, of `decay=.9`, [here](a.1.md), in slax 0.0.1.", None),
        ("It takes <!-- number two: {where: {rule: otpe, mode: online}} -->0.7<!-- end --> and has two layers.", None),
    ],
)
def test_a_section_with_results_has_no_number_that_was_copied_by_hand(tmp_path, sentence, refused):
    (tmp_path / "two.csv").write_text(TABLE)
    text = f"## What is measured\n\nThe rate is 0.1.\n\n## What comes out\n\n{sentence}\n"
    if refused is None:
        assert page(text, tmp_path) == text
    else:
        with pytest.raises(SystemExit, match=refused):
            page(text, tmp_path)
