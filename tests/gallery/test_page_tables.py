"""The tables of pages have the numbers of the figures: which cell has which number, and its interval."""

import re

import pytest

from gallery import page_tables, your_task
from gallery.page_tables import page
from gallery.tables import read_table

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
        assert text == page(text, tmp_path) and "old" not in text
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
    with pytest.raises(ValueError, match=r"has 2 rows where .*, expected one"):
        filled("{rows: rule, columns: quantity, where: {mode: offline}}")


BARE = "<!-- numbers two: {rows: rule} -->"


@pytest.mark.parametrize("mark", [BARE, f"In {BARE}\n<!-- end -->"])
def test_a_mark_without_its_end_or_within_a_line_is_refused(tmp_path, mark):
    with pytest.raises(ValueError, match="on lines of its own"):
        page(mark, tmp_path)


def test_table_that_has_not_been_run_is_its_header():
    columns = {"accuracy": {"where": {"rule": "otpe"}}}
    assert page_tables.filled([], columns=columns, rows={"task": ["time"]}) == "| | accuracy |\n| --- | --- |\n"
    with pytest.raises(ValueError, match="lacks the task time"):
        page_tables.filled([{"task": "rate", "rule": "otpe", "mean": "1"}], columns=columns, rows={"task": ["time"]})


TASKS = """\
rules: [bptt, otpe, sltt]
tasks:
  - task: digits
    yours_if: they are small
    reached: {table: two, task: digits, mode: [online, offline], quantity: accuracy, times: 100}
    milliseconds: &cost {table: two, mode: offline, quantity: cosine, layer: 1}
    bytes: {<<: *cost, times: 2000, bptt: {rule: otpe}}
  - {task: later, yours_if: you can wait, reached: {table: new, task: later}}
"""


def test_your_task_has_the_first_mode_that_is_there_with_time_and_memory(tmp_path):
    (tmp_path / "tasks.yaml").write_text(TASKS)
    (tmp_path / "two.csv").write_text(TABLE)
    rows = {"two": read_table(tmp_path / "two.csv"), "new": []}
    assert your_task.lines(rows.__getitem__, tmp_path / "tasks.yaml") == [
        ["yours if", "our task", "BPTT", "OTPE", "SLTT"],
        ["---"] * 5,
        ["they are small", "digits", "90.0 ± 1.0<br>1 ms<br>1.25 kB", "70<br>0.623 ms<br>1.25 kB", ""],
        ["you can wait", "later", "not run yet", "", ""],
    ]
    with pytest.raises(ValueError, match=r"tasks.yaml: there is no number of later"):
        your_task.lines({**rows, "new": [{"task": "sooner", "rule": "bptt", "mean": "1"}]}.get, tmp_path / "tasks.yaml")


def test_a_table_of_a_figure_without_a_file_has_no_row_and_one_of_no_figure_is_refused(tmp_path):
    text = "<!-- numbers {}: {{rows: rule, columns: {{return: {{}}}}}} -->\n{}<!-- end -->\n"
    assert page(text.format("reward", ""), tmp_path) == text.format("reward", "| | return |\n| --- | --- |\n")
    with pytest.raises(ValueError, match=r"There is no figure rewards"):
        page(text.format("rewards", ""), tmp_path)
