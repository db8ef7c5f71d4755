"""What we found: the sentences of findings.yaml, each with its figure and the claims that it rests on."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.common.yaml_files import read_yaml
from gallery.claims import Claim, Figure, Verdict
from gallery.claims_file import ClaimError, read_checked

DATA = Path(__file__).with_name("findings.yaml")
SCHEMA = read_yaml(DATA.with_name("findings.schema.yaml"))


class Sentence(NamedTuple):
    """A sentence with the figure that shows it, and the verdict that all of its claims have."""

    says: str
    figure: Figure
    verdict: Verdict


def findings(figures: Sequence[Figure], path: Path = DATA) -> list[Sentence]:
    """The sentences whose figures are there, without those of which a claim does not hold.

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
        sentence = Sentence(one["says"], by_stem[one["figure"]], _together([claims[name] for name in one["claims"]]))
        found += [sentence] if sentence.verdict != "does not hold" else []
    return found


def _together(claims: Sequence[Claim]) -> Verdict:
    """The verdict on all of them being true."""
    verdicts = {claim.verdict for claim in claims}
    order: tuple[Verdict, ...] = ("does not hold", "not run", "unresolved")
    return next((verdict for verdict in order if verdict in verdicts), "holds")
