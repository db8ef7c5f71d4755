# ruff: noqa: RUF001 - signs of mathematics that look like others are meant
"""Equations as MathML. They are written to be read as text: `E_t = D_t E_{t-1} + d_t x_t    # exact within a layer`.

Two or more spaces separate equations, `label:` may stand before one, and words stand behind `#`. In an equation, Greek letters
have their names, `_` and `^` take a name, a number, `(...)` or `{...}`, `xhat` and `xbar` have a mark above, and `dx` is a
differential. `a / b` is a fraction of the two factors next to the stroke, `"..."` is text, and other names stay as they are.
"""

import re
from html import escape
from typing import NamedTuple

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eps": "ε", "eta": "η", "theta": "θ", "kappa": "κ", "lambda": "λ",
    "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ", "psi": "ψ", "omega": "ω",
    "Psi": "Ψ",
}  # fmt: skip
MARKS = {"hat": "^", "bar": "¯"}
SIGNS = {
    "<-": "←", "->": "→", "<=": "≤", ">=": "≥", "!=": "≠", "+-": "±", "...": "…", "..": "…", "-": "−", "*": "∗", ".": "⋅",
}  # fmt: skip
SUMS = {"sum": "∑", "prod": "∏"}
WORDS = ("and", "at", "else", "if", "or", "where", "with")
BRACKETS = {"(": ")", "[": "]", "{": "}", "⟨": "⟩", "|": "|"}
TOKEN = re.compile(
    r'(?P<text>"[^"]*")|(?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)|(?P<name>[A-Za-z]+)|(?P<space>\s+)'
    r"|(?P<sign><-|->|<=|>=|!=|\+=|\+-|\.\.\.?|[-=+±/*.,;:|()\[\]{}<>^_'])"
)
# In prose: a letter with something below or above it, such as W^T, and what follows it, as in v_t = d u_{t-1} + I_t.
SYMBOL = rf"d?(?:[A-Za-z]|{'|'.join((*GREEK, *SUMS))})(?:hat|bar)?"
SCRIPT = r"(?:[_^](?:[A-Za-z0-9](?!\w)|{[^{}]*})|\^\*)"
SCRIPTED = rf"{SYMBOL}{SCRIPT}+(?:/{SYMBOL}{SCRIPT}*)?(?![\w/])"
FACTORS = rf"(?:{SCRIPTED}|{SYMBOL}(?!\w)|\d+(?!\w))(?: {SCRIPTED})*"
CODE = r"(?<!`)(?P<ticks>`+)(?!`)(?s:(?:(?!\n\n).)+?)(?<!`)(?P=ticks)(?!`)"
NO_PROSE = (
    rf"{CODE}|\]\([^)]*\)|<(?!var>)[^<>]*>|^#.*?$|^ +[\w, *]+:"  # also links, tags, headings and names of arguments
)
IN_PROSE = re.compile(
    rf"{NO_PROSE}|<var>(?P<var>.*?)</var>|(?<![\w/.])(?P<math>{SCRIPTED}(?: {SCRIPTED})*(?: [-=+] {FACTORS})*)",
    flags=re.MULTILINE,
)
LONG_NAME = re.compile(r"[A-Za-z]+(_[A-Za-z0-9]{2,}|\d+)+")  # of an argument, such as adaptation_decay


class Token(NamedTuple):
    kind: str
    text: str
    after_space: bool


END = Token("end", "", False)


class Node(NamedTuple):
    """A part of an equation. `inner` is what stands in its parentheses, which a fraction and a root do without."""

    mathml: str
    inner: str | None = None
    is_factor: bool = True

    @property
    def bare(self) -> str:
        return self.mathml if self.inner is None else self.inner


def element(tag: str, *parts: str, **attributes: str) -> str:
    options = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f"<{tag}{options}>{''.join(parts)}</{tag}>"


def safe(text: str) -> str:
    """Text without a character that has a meaning in HTML or in Markdown."""
    return re.sub(r"[|*_`\[\]^]", lambda match: f"&#{ord(match[0])};", escape(text))


def is_symbol(name: str) -> bool:
    """Whether a name stands for one letter, with or without a mark above it."""
    return len(name) == 1 or name in GREEK or (name[-3:] in MARKS and is_symbol(name[:-3]))


def letters(name: str, *, is_script: bool = False) -> str:
    """A name: a letter with its mark, the indices of a script, or a word."""
    if name in GREEK or (len(name) == 1 and not (is_script and name == "T")):
        return element("mi", GREEK.get(name, name))
    if is_symbol(name) and len(name) > 1:
        return element("mover", letters(name[:-3]), element("mo", MARKS[name[-3:]], stretchy="false"), accent="true")
    if is_script and len(name) == 2:
        return element("mrow", *map(letters, name))
    return element("mi", safe(name), mathvariant="normal")


def tokens_of(text: str) -> list[Token]:
    """The tokens of an equation; ValueError at a character that none begins with, and at words that are no equation."""
    found: list[Token] = []
    place, after_space = 0, False
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"The equation {text!r} has {text[place]!r}, which docs/site/equations.py does not know.")
        kind, word = str(match.lastgroup), match[0]
        if kind == "name" and not is_symbol(word) and (longer := LONG_NAME.match(text, place)):
            match, word = longer, longer[0]
        place, before, after = match.end(), text[place - 1 : place], text[match.end() : match.end() + 1]
        if kind == "name" and word[0] == "d" and word not in GREEK and word[1:] and is_symbol(word[1:]):
            found.append(Token("differential", "d", after_space))
            word, after_space = word[1:], False
        elif word == "<" and after.strip():
            word = "⟨"
        elif word == ">" and before.strip():
            word = "⟩"
        elif word == "|" and before == after == " ":
            kind = "given"
        if kind != "space":
            found.append(Token(kind, word, after_space))
        after_space = kind == "space"
        if [len(one.text) > 2 and one.kind == "name" and one.text not in GREEK for one in found[-3:]] == [True] * 3:
            raise ValueError(f"The equation {text!r} has words: put them behind '# ', or into '\"'.")
    return found


class Parser:
    """Reads an equation from left to right. In a fraction, in a script and in prose, a fraction is written with a stroke."""

    def __init__(self, text: str, *, in_prose: bool = False) -> None:
        self.source, self.tokens, self.place, self.depth = text, tokens_of(text), 0, int(in_prose)

    @property
    def ahead(self) -> Token:
        return self.tokens[self.place] if self.place < len(self.tokens) else END

    def take(self) -> Token:
        token = self.ahead
        if token is END:
            raise ValueError(f"The equation {self.source!r} ends too early.")
        self.place += 1
        return token

    def row(self, closing: str = "", *, is_deep: bool = False) -> str:
        """All up to a closing bracket, or to the end, with a small space between factors."""
        parts: list[str] = []
        after_factor = False
        self.depth += is_deep
        while self.ahead.text != closing:
            has_space = self.ahead.after_space
            part = self.fraction()
            if after_factor and part.is_factor and has_space:
                parts.append(element("mspace", width="0.2em"))
            parts.append(part.mathml)
            after_factor = part.is_factor
        self.depth -= is_deep
        self.place += closing != ""
        return element("mrow", *parts)

    def fraction(self) -> Node:
        part = self.factor()
        while part.is_factor and self.ahead.text == "/":
            self.take()
            below = self.factor()
            flat = element("mrow", part.mathml, element("mo", "/", lspace="0", rspace="0"), below.mathml)
            part = Node(flat if self.depth else element("mfrac", part.bare, below.bare))
        return part

    def factor(self) -> Node:
        """A letter, number or bracket with what is below and above it, and with the arguments right behind it."""
        start, token = self.place, self.take()
        if token.kind == "differential":
            return Node(element("mrow", element("mi", "d", mathvariant="normal"), self.factor().mathml))
        node = self.operand(token, is_deep=self.in_fraction(start))
        is_name, is_sum = token.kind == "name" and node.is_factor, token.text in SUMS
        low = high = ""
        if is_name and is_symbol(token.text) and self.ahead.kind == "number" and not self.ahead.after_space:
            low = element("mn", self.take().text)  # rho0
        while (node.is_factor or is_sum) and self.ahead.text in ("_", "^"):
            if self.take().text == "_":
                low += self.script()
            else:
                high += self.script()
        if low or high:
            tag = (
                "m" + "under" * bool(low) + "over" * bool(high)
                if is_sum
                else "m" + "sub" * bool(low) + "sup" * bool(high)
            )
            scripts = [element("mrow", script) for script in (low, high) if script]
            node = Node(element(tag, node.mathml, *scripts), is_factor=node.is_factor)
        if node.is_factor and self.ahead.text == "'":
            self.take()
            node = Node(element("mrow", node.mathml, element("mi", "′")))
        if is_name and self.ahead.text == "(" and not self.ahead.after_space:
            arguments = self.operand(self.take(), is_deep=self.in_fraction(start))
            if token.text == "sqrt":
                return Node(element("msqrt", arguments.bare))
            node = Node(element("mrow", node.mathml, "<mo>&#8289;</mo>", arguments.mathml))
            if self.ahead.text == "^":  # a power of the value
                self.take()
                node = Node(element("msup", node.mathml, self.script()))
        return node

    def in_fraction(self, start: int) -> bool:
        """Whether the factor that starts at a token stands next to a stroke."""
        if start and self.tokens[start - 1].text == "/":
            return True
        level = 0
        for place, token in enumerate(self.tokens[start:], start):
            if level == 0 and token.text == "/":
                return True
            if level < 0 or (level == 0 and place > start and token.after_space):
                return False
            level += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}"))
        return False

    def script(self) -> str:
        """What stands below or above: a group without its brackets, a name, a number or a sign."""
        token = self.take()
        if token.text in ("{", "("):
            return self.row(BRACKETS[token.text], is_deep=True)
        return letters(token.text, is_script=True) if token.kind == "name" else self.operand(token).mathml

    def operand(self, token: Token, *, is_deep: bool = False) -> Node:
        kind, text = token.kind, token.text
        if kind == "text":
            return Node(element("mtext", safe(text[1:-1])))
        if kind == "number":
            return Node(element("mn", text))
        if text in SUMS:
            return Node(element("mo", SUMS[text]), is_factor=False)
        if text == "in":
            return Node(element("mo", "∈"), is_factor=False)
        if text in WORDS:
            return Node(element("mtext", f"&#160;{text}&#160;"), is_factor=False)
        if kind == "name":
            return Node(letters(text))
        if kind == "sign" and text in BRACKETS:
            inner = self.row(BRACKETS[text], is_deep=is_deep)
            stretchy = str(bool(re.search("<mfrac|<munder", inner))).lower()
            first, last = (element("mo", safe(one), stretchy=stretchy) for one in (text, BRACKETS[text]))
            return Node(element("mrow", first, inner, last), inner if text == "(" else None)
        if text in (")", "]", "}", "⟩", "_", "^", "'"):
            raise ValueError(f"The equation {self.source!r} has {text!r} where none is expected.")
        return Node(element("mo", safe(SIGNS.get(text, text))), is_factor=False)


def mathml(text: str) -> str:
    """An equation in prose as MathML; ValueError if it is not one."""
    return element("math", Parser(text, in_prose=True).row())


def with_symbols(text: str) -> str:
    """Prose whose <var> and letters with something below or above them, such as W^T, are set as math; not so in code."""

    def typeset_match(match: re.Match[str]) -> str:
        equation = match["var"] or match["math"]
        return mathml(equation.replace(r"\|", "|")) if equation else match[0]

    return IN_PROSE.sub(typeset_match, text)


def line(text: str) -> str:
    """One line of equations with their labels, and the words behind them."""
    equations, _, words = text.partition("# ")
    cells = []
    for part in re.split(r"\s{2,}", equations.strip()):
        label, equation = re.fullmatch(r"([A-Za-z ]+: )?(.*)", part).groups()  # type: ignore[union-attr]
        cells.append(element("span", label or "", element("math", Parser(equation).row(), displaystyle="true")))
    words = re.sub(r"`([^`]+)`", r"<code>\1</code>", with_symbols(escape(words.strip())))
    if not words:
        return element("div", *cells, **{"class": "alone"})
    return element("div", *cells) + element("div", words, **{"class": "words"})


def block(text: str, *_: object, **__: object) -> str:
    """Lines of equations as HTML: the format of a fence ```equations of pymdownx.superfences."""
    lines = "".join(line(one) for one in text.splitlines() if one.strip())
    return element("div", lines, **{"class": "equations with-words" if "# " in text else "equations"})


def typeset(docstring: str) -> str:
    """A docstring whose equations, the indented blocks outside of its sections, are in such fences, and its symbols math."""
    parts, in_section = re.split(r"\n{2,}", docstring), False
    for index, part in enumerate(parts):
        if heads := re.findall(r"^\S.*", part, flags=re.MULTILINE):
            in_section = re.fullmatch(r"[A-Z]\w+:", heads[-1]) is not None
        if not heads and not in_section:
            parts[index] = f"```equations\n{part}\n```"
        elif ">>>" not in part and "```" not in part:
            parts[index] = with_symbols(part)
    return "\n\n".join(parts)


def typeset_page(text: str) -> str:
    """A page, or a part without fences, in which <var> marks equations, and indented lines are code."""
    parts = re.split(r"(^ {4}.*$)", text, flags=re.MULTILINE)
    return "".join(part if part.startswith("    ") else with_symbols(part) for part in parts)
