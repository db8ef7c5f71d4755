"""Write the table of all rules into docs/rules.md and their sources into docs/references.md: `python docs/rules_page.py`."""

from pathlib import Path

from slax_rules import RULES

PAGE = Path(__file__).with_name("rules.md")
REFERENCES = Path(__file__).with_name("references.md")


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


def references() -> str:
    """The BibTeX entries of all rules, each below the names of the rules that it defines."""
    names: dict[str, list[str]] = {}
    for name, rule in RULES.items():
        names.setdefault(rule.bibtex, []).append(name)
    return "\n\n".join(f"### {', '.join(which)}\n\n```bibtex\n{bibtex}\n```" for bibtex, which in names.items())


def section(name: str, page: Path = PAGE) -> str:
    """The text between the markers of a generated part of a page."""
    return page.read_text(encoding="utf-8").split(f"<!-- {name} -->\n")[1].split("\n<!-- end -->")[0]


def replace_sections(new: dict[str, str], page: Path = PAGE) -> None:
    """Insert generated parts into a page."""
    text = page.read_text(encoding="utf-8")
    for name, lines in new.items():
        mark = f"<!-- {name} -->\n"
        text = text.replace(f"{mark}{section(name, page)}\n<!-- end -->", f"{mark}{lines}\n<!-- end -->")
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    replace_sections({"rules": rules_table()})
    replace_sections({"references": references()}, REFERENCES)
