"""Compile article.pdf from article/article.typ, with the numbers, verdicts and figures of one scale.

    python -m gallery.article --scale full

The text is written by hand; it takes each number from the findings and the replication, as the pages do.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import typst

from experiments.pipeline.command_line import parser_of
from experiments.pipeline.config import read_yaml
from experiments.pipeline.job import drop
from experiments.pipeline.plan import Plan
from gallery import wording
from gallery.claims import Claim
from gallery.content import Content, content_of
from gallery.page_tables import lines_of
from gallery.runs import together
from slax_rules import RULES

SOURCE, FILLS, TARGET = Path("article/article.typ"), Path("article/fills.typ"), Path("article.pdf")
REFERENCES = (Path("docs/references.bib"), Path("packages/slax-rules/src/slax_rules/rules.bib"))
MISSING = "(not run yet)"
UNTOLD = ("Not run yet, to be tested.", "A claim of this finding does not hold.")
SHOWN = read_yaml(Path(__file__).with_name("article_tables.yaml"))
TABLES: dict[str, dict[str, Any]] = SHOWN["tables"]


def main() -> None:
    options = parser_of("python -m gallery.article", __doc__, "--scale", "--peers", "--outdated").parse_args()
    content = content_of(Plan(options.scale, peers=options.peers, outdated=options.outdated))
    TARGET.write_bytes(compiled(content))


def compiled(content: Content) -> bytes:
    """The PDF.

    Raises:
        typst.TypstError: the text names a finding, a number or a picture that does not exist.
    """
    files = {"main.typ": SOURCE.read_bytes()} | {path.name: path.read_bytes() for path in (FILLS, *REFERENCES)}
    drawn = (path.with_suffix(".svg") for path in content.pictures.values())
    files |= {path.name: path.read_bytes() for path in drawn}
    return typst.compile(files, sys_inputs={"content": json.dumps(facts(content))})


def facts(content: Content) -> dict[str, Any]:
    """What the text may name: `found` by finding, `figures` by stem, claims that are `judged`, by EXPERIMENT/ID, `published` by
    paper, `tables`, `rules`, and facts of the runs and claims."""
    run, claims = together(content.runs.values()), [claim for figure in content.figures for claim in figure.claims]
    found = {
        one.id: {
            "headline": one.headline if one.verdict == "holds" and one.sentence else f"{one.headline}?",
            "told": f"{one.sentence} {one.caveat}" if one.sentence else UNTOLD[one.verdict == "does not hold"],
            "verdict": one.verdict,
            "sample": wording.sample(one.weakest),
            "stem": one.figure.stem,
            "reverse": [with_sign(claim) for claim in one.reverse],
            "numbers": {name: value or MISSING for name, value in one.numbers.items()},
        }
        for one in content.found
    }
    items = content.replication.items
    return {
        "scale": content.scale,
        "found": found,
        "figures": {
            figure.stem: {
                "file": f"{figure.stem}.svg" if figure.stem in content.pictures else "",
                "alt": figure.alt or figure.title,
                "verdicts": wording.verdicts(figure.claims),
            }
            for figure in content.figures
        },
        "judged": {
            f"{figure.experiment}/{claim.id}": with_sign(claim) for figure in content.figures for claim in figure.claims
        },
        "published": {
            paper: [[one.about["title"], one.verdict] for one in items if one.shown and one.about["paper"] == paper]
            for paper in content.replication.texts["papers"]
        },
        "rules": [[RULES[name].title, RULES[name].memory, RULES[name].omits] for name in SHOWN["rules"]],
        "tables": {
            name: lines_of(content.tables.get(cells["stem"], []), **drop(cells, "stem"))
            for name, cells in TABLES.items()
        },
        "without": sum(not one.shown for one in items),
        "numbers": content.replication.numbers(),
        "beside": content.replication.numbers(shown=True),
        "by_rule": content.replication.numbers(shown=True, judged=True),
        "outcomes": {
            what: ", ".join(f"{number} {outcome}" for outcome, number in Counter(of).most_common())
            for what, of in (
                ("items", [one.outcome for one in items if one.shown]),
                ("numbers", [outcome for one in items for line in one.shown for outcome in line.outcomes]),
            )
        },
        "verdicts": {
            kind: wording.verdicts(one for one in claims if one.kind == kind) for kind in ("finding", "check")
        },
        "confirmed": sum(claim.written == "confirmed" for claim in claims),
        "claims": len(claims),
        "tested": sum(claim.corrected is not None for claim in claims),
        "untested": sum(
            claim.kind != "check" and claim.verdict != "not run" and claim.corrected is None for claim in claims
        ),
        "hours": wording.duration(run.seconds),
        "machine": wording.counted(run.counts("machine")),
        "commit": ", ".join(sorted(commit[:12] for commit in run.counts("commit"))),
    }


def with_sign(claim: Claim) -> str:
    return f"{wording.VERDICT_SYMBOLS[claim.verdict]} {claim.sentence}"


if __name__ == "__main__":
    main()
