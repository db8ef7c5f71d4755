"""Equations as MathML. They are written to be read as text: `E_t = D_t E_{t-1} + d_t x_t    # exact within a layer`.

Two or more spaces separate equations, `label:` may stand before one, and words stand behind `#`. In an equation, Greek letters
have their names, `_` and `^` take a name, a number or `{...}`, `xhat` and `xbar` have a mark above, `dx` is a differential,
`sqrt(...)` is a root, `"..."` is text, and other names stay as they are.
"""

import re
from html import escape

LETTER = r"(?:alpha|beta|gamma|delta|eps|eta|theta|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|phi|psi|omega|Psi|[A-Za-z])"
COMMANDS = {
    "eps": r"\varepsilon", "phi": r"\varphi", "sum": r"\sum", "prod": r"\prod", "sqrt": r"\sqrt", " in ": r" \in ",
    "<-": r"\gets ", "->": r"\to ", "<=": r"\le ", ">=": r"\ge ", "!=": r"\ne ", "+-": r"\:\pm\:", "±": r"\:\pm\:", ";": r";\:",
    "<": r"\langle ", ">": r"\rangle ", "...": r"\dots ", "..": r"\dots ", " . ": r" \cdot ", " ": r"\:",
    "/": r"\text{/}", "-": r"\text{&minus;}", "|": r"\text{&#124;}",  # without the spaces around an operator
}  # fmt: skip
TOKEN = re.compile(rf"""(?x)
      "(?P<text>[^"]*)"
    | [ ](?:and|at|else|if|or|where|with)[ ]
    | (?P<script>[_^])(?P<index>[A-Za-z0-9]+)
    | (?P<d>d?)(?P<letter>{LETTER})(?P<mark>hat|bar)?(?P<number>\d*)(?![A-Za-z])
    | (?P<name>[A-Za-z]+(?:\d|_[A-Za-z0-9]{{2,}})*)
    | <[-=] | -> | >= | != | \+- | [±;] | \.\.\.? | [ ]\.[ ] | [ ]in[ ] | <(?=\w) | (?<=\S)>
    | \| | (?<=\S)/ | (?<![\w)\]}}|'])-(?=\S)    # as in dh/dt, and the sign of a number
    | (?<=[\w)\]}}|'])[ ](?=[\w(\[{{\\"|]|<\w)    # between factors
    """)
# What no equation has: other characters, scripts of nothing or with nothing; three words in a row, a script above
# another, a root of more than two levels of brackets.
WRONG = re.compile(r"[^\s\w+=±/*.,;:()\[\]|{}<>^!'-]|[^\W\da-zA-Z_]|(?<![\w)\]}|'*])[_^]|[_^](?![\w{*])")
WRONG_LATEX = re.compile(r"(\\text{\w{3,}}\\:){2}\\text{\w{3,}}|([_^]){[^{}]*}\2|\\sqrt\(")
# In prose: letters with something below or above them, such as W^T, and what follows, as in v_t = d u_{t-1} + I_t; but not in
# code, links, tags and titles, nor in the names of arguments.
SCRIPTED = rf"d?(?:sum|prod|{LETTER}(?:hat|bar)?)(?:[_^](?:[A-Za-z0-9](?!\w)|\*|{{[^{{}}]*}}))+"
RUN = rf"{SCRIPTED}(?:[ /]{SCRIPTED}|(?: [-=+] |/)(?:{SCRIPTED}|(?:d?{LETTER}|\d+)(?!\w)))*(?![\w/])"
NO_PROSE = r"(`++)(?s:.+?)(?<!`)\1(?!`)|\]\([^)]*\)|<(?!var>)[^<>]*>|^#.*?$|^ +[\w, *]+:"
IN_PROSE = re.compile(rf"{NO_PROSE}|<var>(?P<var>.*?)</var>|(?<![\w/.])(?P<run>{RUN})", flags=re.MULTILINE)


def latex(equation: str) -> str:
    """An equation in LaTeX, as far as latex2mathml reads it; ValueError if it is not one."""
    with_sets = re.sub(r"(?<![_^]){([^{}]*)}", r"\\{\1\\}", equation)
    with_roots = re.sub(r"\bsqrt\(((?:[^()]|\([^()]*\))*)\)", r"sqrt{\1}", with_sets)
    found, plain = TOKEN.sub(token_in_latex, with_roots), re.sub('"[^"]*"', "text", equation)
    is_open = any(plain.count(first) != plain.count(last) for first, last in ("()", "[]", "{}"))
    if is_open or WRONG.search(plain) or WRONG_LATEX.search(found):
        raise ValueError(f"{equation!r} is no equation as docs/site/equations.py reads it; words stand behind '# '.")
    return found


def token_in_latex(token: re.Match[str]) -> str:
    if token["letter"]:
        letter, mark, number = symbol(token["letter"]), token["mark"], token["number"]
        marked = rf"\{mark}{{{letter}}}" if mark else letter
        return r"\text{d}" * len(token["d"]) + marked + (f"_{{{number}}}" if number else "")
    if index := token["index"]:
        return f"{token['script']}{{{upright(index) if index == 'T' else symbol(index)}}}"
    return COMMANDS.get(token[0]) or upright(token["text"] or token[0])


def symbol(name: str) -> str:
    """A letter, two letters or a number; what is longer is a word."""
    if len(name) > 1 and re.fullmatch(LETTER, name):
        return COMMANDS.get(name, "\\" + name)
    return name if len(name) < 3 or name.isdigit() else upright(name)


def upright(text: str) -> str:
    return rf"\text{{{escape(text)}}}"


def mathml(equation: str, display: str = "inline") -> str:
    from latex2mathml.converter import convert  # only the environment of the site has it

    return convert(latex(equation), display=display)


def with_symbols(text: str) -> str:
    """Prose whose <var> and letters with something below or above them, such as W^T, are set as math; not so in code."""

    def typeset_match(match: re.Match[str]) -> str:
        equation = match["var"] or match["run"]
        return mathml(equation.replace(r"\|", "|")) if equation else match[0]

    return IN_PROSE.sub(typeset_match, text)


def block(text: str) -> str:
    """Lines of equations with their labels, and the words behind them, as HTML."""
    rows = []
    for line in filter(str.strip, text.splitlines()):
        equations, _, words = line.partition("# ")
        found = re.findall(r"(?:^|\s{2,})([A-Za-z ]+: )?(\S+(?: \S+)*)", equations.strip())
        row = "".join(f"<span>{label}{mathml(equation, 'block')}</span>" for label, equation in found)
        words = re.sub(r"`([^`]+)`", r"<code>\1</code>", with_symbols(escape(words.strip())))
        rows.append(f'<div>{row}</div><div class="words">{words}</div>' if words else f'<div class="alone">{row}</div>')
    return f'<div class="equations{" with-words" * ("# " in text)}">{"".join(rows)}</div>'


def typeset_page(page: str) -> str:
    """A page whose fences ```equations are such HTML, and whose symbols are math outside of other fences and indented code."""
    parts = re.split(r"(^```.*?^```|^ {4}.*?$)", page, flags=re.DOTALL | re.MULTILINE)
    parts[::2] = map(with_symbols, parts[::2])
    start = "```equations\n"
    parts[1::2] = [block(part[len(start) : -3]) if part.startswith(start) else part for part in parts[1::2]]
    return "".join(parts)


def typeset(docstring: str) -> str:
    """A docstring with its equations, the indented blocks outside of its sections, as such HTML, and its symbols as math."""
    parts, in_section = re.split(r"\n{2,}", docstring), False
    for index, part in enumerate(parts):
        if heads := re.findall(r"^\S.*", part, flags=re.MULTILINE):
            in_section = re.fullmatch(r"[A-Z]\w+:", heads[-1]) is not None
        if not heads and not in_section:
            parts[index] = block(part)
        elif ">>>" not in part and "```" not in part:
            parts[index] = with_symbols(part)
    return "\n\n".join(parts)
