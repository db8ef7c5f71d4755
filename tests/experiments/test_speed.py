"""The record of speed, on a case that is counted by hand, and the page of performance with its tables."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import performance_page, speed
from benchmarks.side_by_side.jax_step import JaxStep


def test_page_has_the_tables_of_the_files():
    text = performance_page.PAGE.read_text()
    assert performance_page.page(text) == text
    assert len(performance_page.TABLE.findall(text)) + text.count("<!-- numbers ") == text.count(
        "\n| --"
    )  # no other table


def by_hand(terms):
    """Three iterations of a sine and some sums on [5], then a product: 3 (1 + terms) + 1 operations, of 20 bytes each."""

    def body(x, _):
        x = jnp.sin(x)
        for _ in range(terms):
            x = x + x
        return x, None

    return JaxStep(lambda x: (jax.jit(lambda y: y * y)(jax.lax.scan(body, x, length=3)[0]), None), jnp.ones(5))


def test_a_line_has_all_columns_and_is_compared_with_the_programs(monkeypatch, tmp_path, capsys):
    header, terms = speed.FILE.read_text().partition("\n")[0] + "\n", 3
    monkeypatch.setattr(speed, "step_of", lambda case: by_hand(terms))
    monkeypatch.setattr(speed, "commit", lambda: "0a1b+")
    monkeypatch.setattr(speed, "cores_before", lambda: 1.3)
    monkeypatch.setattr(speed, "SECONDS", 1e-3)
    monkeypatch.setattr(speed, "FILE", tmp_path / "speed.csv")
    monkeypatch.setattr(speed, "PICTURE", tmp_path / "speed.png")
    speed.FILE.write_text(header)
    with pytest.raises(SystemExit, match=r"1\.30 cores"):
        speed.record(anyway=False)
    speed.draw()
    assert not speed.lines()
    speed.record(anyway=True)
    (line,) = speed.lines()
    assert line["mark"] == "busy uncommitted" and line["commit"] == "0a1b+" and "" not in line.values()
    assert {(line[f"{case}_operations"], line[f"{case}_bytes"]) for case in speed.CASES} == {("13", "260")}
    assert all(0 < float(line[f"{case}_ms"]) < 1e3 for case in speed.CASES)
    speed.check()
    assert "::warning" not in capsys.readouterr().out
    terms = 4  # 16 operations
    speed.check()
    assert capsys.readouterr().out.count("operations is 16, +23%") == len(speed.CASES)
