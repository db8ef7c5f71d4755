"""What we found: the entries of findings.yaml, each with its figure, its numbers, the claims that it rests on, and all claims
that say the opposite of the rules that it compares."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.pipeline.config import read_yaml
from gallery.claims import Claim, Comparison, Figure, Tables, Verdict, claims_named
from gallery.claims_file import ClaimError, read_checked
from gallery.tables import find
from gallery.wording import SHARES, plus_minus, sample

DATA = Path(__file__).with_name("findings.yaml")
SCHEMA = read_yaml(DATA.with_name("findings.schema.yaml"))
BETTER_ABOVE = (*SHARES, "test_accuracy", "minus_bptt", "cosine", "initial", "trained")  # quantities and columns; `depth` has the cosines of two stages
BETTER_BELOW = ("loss", "milliseconds", "bytes", "counted_bytes", "measured_bytes", "temporary_bytes")
OVER_BPTT = ("times_bptt", "bytes_times_bptt")  # better below, and a number at their right is so many times that of BPTT
WORST_FIRST: tuple[Verdict, ...] = ("does not hold", "not run", "unresolved", "holds")


class Finding(NamedTuple):
    """A headline, a sentence with its numbers and a line of caveat, with their figure, the verdict on all claims, and the claims by
    which a loser is ahead of the winner. The sentence ends with samples and p-value of the claim that is the least sure."""

    headline: str
    sentence: str
    caveat: str
    figure: Figure
    verdict: Verdict
    reverse: list[Claim]


def rule_of(place: dict[str, Any]) -> str:
    """The rule or way to learn of a cell; truncated BPTT is `tbptt` with any piece, also the best one in the memory of a rule."""
    name = str(next((place[key] for key in ("rule", "way", "temporal") if key in place), ""))
    return "tbptt" if name.startswith("tbptt") or place.get("learns") == "truncation" else name


def in_front(one: Comparison, verdict: Verdict) -> tuple[str, str] | None:
    """The rule that is ahead by a comparison with this verdict, and the other one; None if it does not say this."""
    (left, right), fails = one.places, verdict == "does not hold"
    if one.difference is None or fails and one.is_true(one.difference.mean):
        return None
    is_above = (one.relation == "above") != fails
    if isinstance(right, dict):
        other = rule_of(right)
    elif one.quantity in OVER_BPTT and (right >= 1 if is_above else right <= 1):
        other = "bptt"
    else:
        return None
    if one.relation not in ("above", "below") or one.quantity not in (*BETTER_ABOVE, *BETTER_BELOW, *OVER_BPTT):
        return None
    pair = rule_of(left), other
    return pair if is_above == (one.quantity in BETTER_ABOVE) else (other, rule_of(left))


def other_way_round(winner: str, losers: Sequence[str], figures: Sequence[Figure]) -> list[Claim]:
    """All claims, of every kind, by which one of the losers is ahead of the winner."""
    wanted = {(loser, winner) for loser in losers}
    claims = [claim for figure in figures for claim in figure.claims if claim.verdict in ("holds", "does not hold")]
    return [claim for claim in claims if wanted & {in_front(one, claim.verdict) for one in claim.comparisons}]


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
            sentence, caveat = (one[name].strip().removesuffix(".").format(**texts) for name in ("sentence", "caveat"))
            sentence += sample(max(claims, key=lambda claim: claim.corrected or 0.0))
            reverse = other_way_round(one["winner"], one["losers"], figures) if one["winner"] else []
            found.append(Finding(one["headline"], f"{sentence}.", f"{caveat}.", by_stem[one["figure"]], verdict, reverse))
    return found
