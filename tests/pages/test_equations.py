"""Equations of docstrings and pages become LaTeX, and what is none is refused; the build of the site makes MathML of it."""

import pytest

from docs.site import equations
from docs.site.equations import block, latex, typeset_page


@pytest.fixture(autouse=True)
def _without_mathml(monkeypatch):
    monkeypatch.setattr(equations, "mathml", lambda equation, display="inline": f"<math>{latex(equation)}</math>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("eps_t = decay E_{t-1}", r"\varepsilon_{t} = \text{decay}\:E_{t-1}"),
        ("sum_t delta_t W^T", r"\sum_{t}\:\delta_{t}\:W^{\text{T}}"),
        ("adaptation_decay xhat_t / (1 - tau_m)", r"\text{adaptation_decay}\:\hat{x}_{t} / (1 - \tau_{m})"),
        ("dh_t/dtheta - rho0", r"\text{d}h_{t}\text{/}\text{d}\theta - \rho_{0}"),
        ("exp(-|x|)", r"\text{exp}(\text{&minus;}\text{&#124;}x\text{&#124;})"),
        ("1 if k < 2 else 0", r"1\text{ if }k < 2\text{ else }0"),
        ("<g, r> <- y^*_t . q' in {0, ..., Q}", r"\langle g, r\rangle  \gets  y^*_{t} \cdot q' \in \{0, \dots , Q\}"),
        ('m "of a & b"(x)', r"m\:\text{of a &amp; b}(x)"),
    ],
)
def test_an_equation_in_latex(text, expected):
    assert latex(text) == expected


def test_a_line_has_labels_equations_and_words():
    found = block("    E_t = x_t  gradient: sum_t a_t    # of `x_t` and y^*_t")
    left = r"<span><math>E_{t} = x_{t}</math></span><span>gradient: <math>\sum_{t}\:a_{t}</math></span>"
    right = r"of <code>x_t</code> and <math>y^*_{t}</math>"
    assert found == f'<div class="equations with-words"><div>{left}</div><div class="words">{right}</div></div>'


@pytest.mark.parametrize("text", ["a = (b + c", "a = b ~ c", "the membrane before the reset", "a = _b", "x^", "B^l^T"])
def test_what_is_no_equation_is_refused(text):
    with pytest.raises(ValueError, match="is no equation"):
        latex(text)


def test_pages_are_typeset_outside_of_code_links_and_headings():
    table = "| <var>1 / (\\|x\\| + 1)</var> | `` `x_t `` | [a](x_t.png) |"
    code = "    x_t = code\n\n```python\nx_t = code\n```\n\n```equations\nx_t = 1    # `x_t`\n```"
    page = f"# The x_t\n\n{table}\n\n{code}\n\nR_t = k R_{{t-1}} is math, `and\nx_t y_t` is code, as `<var>x</var>`.\n"
    lines = typeset_page(page).splitlines()
    assert [line.count("<math>") for line in lines] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0]
    assert lines[2].endswith("| `` `x_t `` | [a](x_t.png) |") and lines[12].endswith("</math> is math, `and")
