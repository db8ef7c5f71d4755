"""Write the table of all rules into docs/rules.md: `python docs/rules_page.py`, after a change to `RULES`.

The other tables of the page, which say how closely rules agree with the oracle and with other libraries, are measured by
`tests/rules/ledger.py`.
"""

from pathlib import Path

from slax_rules import RULES

PAGE = Path(__file__).with_name("rules.md")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rules_table() -> str:
    """The table of all rules: what each supports, when it is exact, what it omits, what it costs, and its source."""
    rows = [
        [f"`{name}`", rule.title, rule.requires, str(rule.exact), rule.omits, rule.memory, rule.time, rule.source]
        for name, rule in RULES.items()
    ]
    header = ["name", "rule", "supports", "equals BPTT", "omits", "memory per sample", "time per step", "source"]
    return table(header, rows)


def section(name: str) -> str:
    """The text between the markers of a generated table in the page."""
    return PAGE.read_text().split(f"<!-- {name} -->\n")[1].split("\n<!-- end -->")[0]


def replace_sections(new: dict[str, str]) -> None:
    """Insert generated tables into the page."""
    text = PAGE.read_text()
    for name, lines in new.items():
        mark = f"<!-- {name} -->\n"
        text = text.replace(f"{mark}{section(name)}\n<!-- end -->", f"{mark}{lines}\n<!-- end -->")
    PAGE.write_text(text)


if __name__ == "__main__":
    replace_sections({"rules": rules_table()})
