# ruff: noqa: RUF001 - signs of mathematics that look like others are meant
"""Equations of docstrings and pages become MathML, and what is none is refused."""

import ast
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.site.equations import block, mathml, typeset, typeset_page

ROOT = Path(__file__).parents[2]
EQUATIONS = re.compile(r"^```equations\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


def docstrings():
    for path in sorted(ROOT.glob("packages/*/src/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield f"{path.stem}.{node.name}", text


def test_equations_of_docstrings_become_math():
    found = {name: EQUATIONS.findall(typeset(text)) for name, text in docstrings()}
    assert len(found["lif.LIF"]) == 1 and len(found["rtrl.RTRL"]) == 2 and not found["api.gradients"]
    for text in (text for blocks in found.values() for text in blocks):
        ElementTree.fromstring(block(text))


def test_equations_of_pages_become_math():
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("**/*.md")]
    for text in (text for page in pages for text in EQUATIONS.findall(page)):
        ElementTree.fromstring(block(text))
    for text in (text for page in pages for text in re.findall("<var>(.*?)</var>", page)):
        ElementTree.fromstring(mathml(text.replace(r"\|", "|")))


def shown(text):
    """The letters and signs of an equation in order, and the names of the elements that arrange them."""
    root = ElementTree.fromstring(block(text))
    arranged = [one.tag for one in root.iter() if one.tag in ("mfrac", "mover", "msqrt", "msub", "msup", "munder")]
    return "".join(root.itertext()).replace("\u2061", ""), arranged


@pytest.mark.parametrize(
    ("text", "letters", "arranged"),
    [
        ("eps_t = decay E_{t-1}    # a trace", "εt=decayEt−1a trace", ["msub", "msub"]),
        ("gradient: sum_t delta_t W^T", "gradient: ∑tδtWT", ["munder", "msub", "msup"]),
        ("adaptation_decay xhat_t / (1 - tau_m)", "adaptation_decayx^t1−τm", ["mfrac", "msub", "mover", "msub"]),
        ("exp(-(x / w)^2 / 2)", "exp(−(x/w)22)", ["mfrac", "msup"]),
        ("dh_t/dtheta  rho0 = sqrt(|a| / |b|)", "dhtdθρ0=|a||b|", ["mfrac", "msub", "msub", "msqrt", "mfrac"]),
        ("<g, r> <- y^*_t  q' in {0, ..., Q}", "⟨g,r⟩←yt∗q′∈{0,…,Q}", []),
    ],
)
def test_an_equation_is_read_as_it_is_written(text, letters, arranged):
    assert shown(text) == (letters, arranged)


@pytest.mark.parametrize(
    "text", ["a = (b + c", "a) = b", "a = b ~ c", "the membrane before the reset", "a / ", "a = _b", "x^"]
)
def test_what_is_no_equation_is_refused(text):
    with pytest.raises(ValueError, match="The equation"):
        block(text)


def test_symbols_in_prose_become_math_outside_of_code():
    text = (
        "The signal delta_t W^T of `x_t`, file_t and neco_a_01086.\n\nArgs:\n    x_t: of W\n\nExample:\n    >>> x_t = 1"
    )
    found, _, rest = typeset(text).partition(" of `x_t`")
    assert found.count("<math>") == 1 and rest == text.partition(" of `x_t`")[2]


def test_pages_are_typeset_outside_of_code_links_and_headings():
    table = "| <var>1 / (\\|x\\| + 1)</var> | ` ```x_t` | [a](x_t.png) |"
    page = f"# The x_t\n\n{table}\n\n    x_t = code\n\nR_t = k R_{{t-1}} is math, `and\nx_t y_t` is code, as `<var>x</var>`.\n"
    lines = typeset_page(page).splitlines()
    assert [line.count("<math>") for line in lines] == [0, 0, 1, 0, 0, 0, 1, 0]
    assert lines[2].endswith("| ` ```x_t` | [a](x_t.png) |") and lines[6].endswith("</math> is math, `and")
