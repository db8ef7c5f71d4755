"""What we found: the entries of findings.yaml, each with its figure, its numbers and the claims that it rests on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.pipeline.config import read_yaml
from gallery.claims import Figure, Tables, Verdict
from gallery.claims_file import ClaimError, read_checked
from gallery.tables import matching, number
from gallery.wording import plus_minus

DATA = Path(__file__).with_name("findings.yaml")
SCHEMA = read_yaml(DATA.with_name("findings.schema.yaml"))


class Finding(NamedTuple):
    """A headline, a sentence with its numbers and a line of caveat, with their figure, and the verdict on all claims."""

    headline: str
    sentence: str
    caveat: str
    figure: Figure
    verdict: Verdict


def findings(figures: Sequence[Figure], tables: Tables, path: Path = DATA) -> list[Finding]:
    """The findings whose figures and numbers are there, without those of which a claim does not hold.

    Raises:
        ClaimError: the file is not valid, or an entry names a claim that does not exist, or a check.
    """
    by_stem, experiments = {figure.stem: figure for figure in figures}, {figure.experiment for figure in figures}
    claims = {f"{figure.experiment}/{claim.id}": claim for figure in figures for claim in figure.claims}
    found = []
    for one in read_checked(path, SCHEMA):
        if one["figure"] not in by_stem or not {name.partition("/")[0] for name in one["claims"]} <= experiments:
            continue  # a page of other experiments
        for name in one["claims"]:
            if name not in claims or claims[name].kind == "check":
                raise ClaimError(f"{path.name}: there is no finding or replication {name}: name one as EXPERIMENT/ID")
        texts = {name: _text(cell, one["figure"], tables) for name, cell in one.get("numbers", {}).items()}
        verdicts = {claims[name].verdict for name in one["claims"]}
        order: tuple[Verdict, ...] = ("does not hold", "not run", "unresolved", "holds")
        verdict = next(verdict for verdict in order if verdict in verdicts)
        if all(texts.values()) and verdict != "does not hold":
            sentence, caveat = (" ".join(one[key].split()).format(**texts) for key in ("sentence", "caveat"))
            found.append(Finding(one["headline"], sentence, caveat, by_stem[one["figure"]], verdict))
    return found


def _text(cell: dict[str, Any], stem: str, tables: Tables) -> str:
    """The number of a table as it stands in a sentence, empty where the scale has none."""
    column = cell.get("column", "mean")
    where = {name: wanted for name, wanted in cell.items() if name not in ("table", "column", "percent")}
    rows = matching(tables.get(cell.get("table", stem), ()), where)
    if len(rows) > 1:
        raise ClaimError(f"{DATA.name}: there are {len(rows)} rows where {where}, expected one")
    value = number(rows[0], column) if rows else None
    return "" if value is None else plus_minus(value, 100 if cell.get("percent") else 1)
