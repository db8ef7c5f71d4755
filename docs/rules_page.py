"""Write the table of all rules into docs/rules.md: `python docs/rules_page.py`."""

import argparse
from pathlib import Path

from slax_rules import RULES

PAGE = Path(__file__).with_name("rules.md")


def rules_table() -> str:
    """The table of all rules: what each supports, when it is exact, what it omits, what it costs, and its source."""
    header = ["name", "rule", "supports", "equals BPTT", "omits", "memory per sample", "time per step", "source"]
    rows = [
        [f"`{name}`", rule.title, rule.requires, str(rule.exact), rule.omits, rule.memory, rule.time, rule.source]
        for name, rule in RULES.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


if __name__ == "__main__":
    argparse.ArgumentParser("python docs/rules_page.py", description=__doc__).parse_args()
    before, rest = PAGE.read_text(encoding="utf-8").split("<!-- rules -->\n")
    after = rest.split("\n<!-- end -->")[1]
    PAGE.write_text(f"{before}<!-- rules -->\n{rules_table()}\n<!-- end -->{after}", encoding="utf-8")
