"""What we found: the sentences of findings.yaml, each with its figure, its numbers and the claims that it rests on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.pipeline.config import read_yaml
from gallery.claims import Claim, Figure, Verdict
from gallery.claims_file import ClaimError, read_checked
from gallery.page_tables import Cells
from gallery.tables import Row

DATA = Path(__file__).with_name("findings.yaml")
SCHEMA = read_yaml(DATA.with_name("findings.schema.yaml"))


class Sentence(NamedTuple):
    """A sentence with the figure that shows it, and the verdict that all of its claims have."""

    says: str
    figure: Figure
    verdict: Verdict


def findings(figures: Sequence[Figure], tables: Mapping[str, Sequence[Row]], path: Path = DATA) -> list[Sentence]:
    """The sentences whose figures and numbers are there, without those of which a claim does not hold.

    Raises:
        ClaimError: the file is not valid, or a sentence names a claim that does not exist, or a check.
    """
    content = read_checked(path, SCHEMA)
    by_stem, claims = {figure.stem: figure for figure in figures}, {}
    for figure in figures:
        claims |= {f"{figure.experiment}/{claim.id}": claim for claim in figure.claims}
    found = []
    for one in content:
        here = {name.partition("/")[0] for name in one["claims"]} <= {figure.experiment for figure in figures}
        if not here or one["figure"] not in by_stem:
            continue  # a page of other experiments
        for name in one["claims"]:
            if name not in claims or claims[name].kind == "check":
                raise ClaimError(
                    f"{path.name}: got the claim {name}, expected EXPERIMENT/ID of a finding or replication."
                )
        numbers = {name: _number(cell, tables) for name, cell in one.get("numbers", {}).items()}
        verdict = _together([claims[name] for name in one["claims"]])
        if all(numbers.values()) and verdict != "does not hold":
            found.append(Sentence(one["says"].format(**numbers), by_stem[one["figure"]], verdict))
    return found


def _number(cell: Mapping[str, Any], tables: Mapping[str, Sequence[Row]]) -> str:
    """The number of a table as it stands in a sentence, empty where the scale has none."""
    fields = {name: value for name, value in cell.items() if name != "table"}
    return Cells(**fields).text(tables.get(cell["table"], ()), {})


def _together(claims: Sequence[Claim]) -> Verdict:
    """The verdict on all of them being true."""
    verdicts = {claim.verdict for claim in claims}
    order: tuple[Verdict, ...] = ("does not hold", "not run", "unresolved")
    return next((verdict for verdict in order if verdict in verdicts), "holds")
