"""Compile article.pdf from article/article.typ, with the numbers, verdicts and figures of one scale.

    python -m gallery.article --scale full

The text is written by hand; it takes each number from the findings and the replication, as the pages do.
"""

import json
from pathlib import Path
from typing import Any

import typst

from experiments.pipeline.command_line import parser_of
from experiments.pipeline.plan import Plan
from gallery import wording
from gallery.content import Content, content_of
from gallery.page_tables import lines_of
from gallery.runs import together
from slax_rules import RULES

SOURCE, TARGET = Path("article/article.typ"), Path("article.pdf")
REFERENCES = (Path("docs/references.bib"), Path("packages/slax-rules/src/slax_rules/rules.bib"))
MISSING = "(not run)"
LOCAL = ["sltt", "ottt", "ostl", "e_prop", "approximate_otpe", "otpe"]
IN_TABLE = ["bptt", "tbptt", "rtrl", *LOCAL, "uoro", "snap", "decolle"]
TABLES: dict[str, dict[str, Any]] = {  # as the pages define theirs
    "accuracy": {
        "rows": {"rule": ["bptt", "tbptt", *LOCAL, "decolle"]},
        "columns": "task",
        "where": {"quantity": "accuracy", "mode": "offline"},
        "times": 100,
    },
    "rules_table_cost": {
        "rows": {"rule": ["bptt", "rtrl", *LOCAL, "uoro"]},
        "where": {"task": "randman_time"},
        "columns": {
            "ms": {"value": "milliseconds"},
            "times BPTT": {"value": "times_bptt"},
            "bytes": {"value": "temporary_bytes"},
        },
    },
}


def main() -> None:
    options = parser_of("python -m gallery.article", __doc__, "--scale", "--peers", "--outdated").parse_args()
    content = content_of(Plan(options.scale, peers=options.peers, outdated=options.outdated))
    TARGET.write_bytes(compiled(content))


def compiled(content: Content) -> bytes:
    """The PDF.

    Raises:
        typst.TypstError: the text names a finding, a number or a picture that does not exist.
    """
    files = {"main.typ": SOURCE.read_bytes()} | {path.name: path.read_bytes() for path in REFERENCES}
    drawn = (path.with_suffix(".svg") for path in content.pictures.values())
    files |= {path.name: path.read_bytes() for path in drawn}
    return typst.compile(files, sys_inputs={"content": json.dumps(facts(content))})


def facts(content: Content) -> dict[str, Any]:
    """What the text may name: `found` by finding, `published` by paper, `tables`, `rules`, and facts of the runs and claims."""
    run, claims = together(content.runs.values()), [claim for figure in content.figures for claim in figure.claims]
    found = {
        one.id: {
            "headline": one.headline,
            "verdict": one.verdict,
            "sample": wording.sample(one.weakest),
            "figure": f"{one.figure.stem}.svg",
            "alt": one.figure.alt,
            "reverse": [f"{wording.VERDICT_SYMBOLS[claim.verdict]} {claim.sentence}" for claim in one.reverse],
            "numbers": {name: value or MISSING for name, value in one.numbers.items()},
        }
        for one in content.found
    }
    items = content.replication.items
    return {
        "scale": content.scale,
        "found": found,
        "published": {
            paper: [[one.about["title"], one.verdict] for one in items if one.shown and one.about["paper"] == paper]
            for paper in content.replication.texts["papers"]
        },
        "rules": [[RULES[name].title, RULES[name].memory, RULES[name].omits] for name in IN_TABLE],
        "tables": {name: lines_of(content.tables.get(name, []), **cells) for name, cells in TABLES.items()},
        "without": sum(not one.shown for one in items),
        "numbers": content.replication.numbers(),
        "beside": content.replication.numbers(shown=True),
        "judged": content.replication.numbers(shown=True, judged=True),
        "verdicts": {
            kind: wording.verdicts(one for one in claims if one.kind == kind) for kind in ("finding", "check")
        },
        "confirmed": sum(claim.written == "confirmed" for claim in claims),
        "claims": len(claims),
        "tested": sum(claim.corrected is not None for claim in claims),
        "hours": wording.duration(run.seconds),
        "machine": wording.counted(run.counts("machine")),
        "commit": ", ".join(sorted(commit[:12] for commit in run.counts("commit"))),
    }


if __name__ == "__main__":
    main()
