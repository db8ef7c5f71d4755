"""What we found: the entries of findings.yaml, each with its figure, its numbers and the claims that it rests on."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.pipeline.config import read_yaml
from gallery.claims import Figure, Tables, Verdict, claims_named
from gallery.claims_file import ClaimError, read_checked
from gallery.tables import find
from gallery.wording import plus_minus

DATA = Path(__file__).with_name("findings.yaml")
SCHEMA = read_yaml(DATA.with_name("findings.schema.yaml"))
WORST_FIRST: tuple[Verdict, ...] = ("does not hold", "not run", "unresolved", "holds")


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
    by_stem = {figure.stem: figure for figure in figures}
    found = []
    for one in read_checked(path, SCHEMA):
        claims = claims_named(one["claims"], figures)
        if one["figure"] not in by_stem or len(claims) < len(one["claims"]):
            continue  # a page of other experiments
        if checks := [claim.id for claim in claims if claim.kind == "check"]:
            raise ClaimError(f"{path.name}: {', '.join(checks)} is a check, expected findings and replications")
        texts = {}
        for name, place in one.get("numbers", {}).items():
            times = 100 if place.pop("percent", False) else 1
            value, _ = find(place, tables, one["figure"])
            texts[name] = plus_minus(value, times) if value else ""
        verdict = min((claim.verdict for claim in claims), key=WORST_FIRST.index)
        if all(texts.values()) and verdict != "does not hold":
            sentence, caveat = one["sentence"].format(**texts), one["caveat"].format(**texts)
            found.append(Finding(one["headline"], sentence, caveat, by_stem[one["figure"]], verdict))
    return found
