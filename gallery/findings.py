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
# Quantities or columns of which more is better, and of which less is. `depth` has the cosines of two stages.
MORE = (*SHARES, "test_accuracy", "cosine", "initial", "trained", "return")
LESS = (
    "loss",
    "nmse",
    "milliseconds",
    *(f"{of}bytes" for of in ("", "counted_", "measured_", "temporary_")),
    "bytes_per_sample",
)
OVER_BPTT = (
    "times_bptt",
    "bytes_times_bptt",
)  # so is less of these, and a number at their right is so many times BPTT's
TRUNCATION = ("tbptt", "in_memory", "in_time")  # the last two: the best pieces in OTPE's memory and time
WORST_FIRST: tuple[Verdict, ...] = ("does not hold", "not run", "unresolved", "holds")


class Finding(NamedTuple):
    """A headline, a sentence with its numbers and a line of caveat, with their figure, the verdict on all claims, and the
    claims by which a loser is ahead of the winner. The sentence ends with samples and p-value of the least sure claim. It is
    empty if a number is not there, or a claim does not hold."""

    headline: str
    sentence: str
    caveat: str
    figure: Figure
    verdict: Verdict
    reverse: list[Claim]


def rule_of(place: dict[str, Any]) -> str:
    """The rule or way to learn of a cell; truncated BPTT is `tbptt` with any piece, also the best one in a rule's memory."""
    name = str(next((place[key] for key in ("rule", "way", "temporal") if key in place), ""))
    return "tbptt" if name.startswith(TRUNCATION) or place.get("learns") == "truncation" else name


def in_front(one: Comparison, verdict: Verdict) -> tuple[str, str] | None:
    """The rule that is ahead by a comparison with this verdict, and the other one; None if it does not say this."""
    (left, right), holds = one.places, verdict == "holds"
    is_above = (one.relation == "above") == holds
    if one.quantity in OVER_BPTT and not isinstance(right, dict):
        right = {"rule": "bptt"} if (right >= 1 if is_above else right <= 1) else {}
    of_rules = isinstance(right, dict) and one.quantity in (*MORE, *LESS, *OVER_BPTT)
    if not of_rules or one.relation not in ("above", "below") or not one.difference:
        return None
    pair = rule_of(left), rule_of(right)
    if one.is_true(one.difference.mean) != holds:
        return None  # another part of the claim is false
    return pair if is_above == (one.quantity in MORE) else pair[::-1]


def other_way_round(winner: str, losers: Sequence[str], figures: Sequence[Figure]) -> list[Claim]:
    """All claims, of every kind, by which one of the losers is ahead of the winner."""
    wanted = {(loser, winner) for loser in losers}
    claims = [claim for figure in figures for claim in figure.claims if claim.verdict in ("holds", "does not hold")]
    return [claim for claim in claims if wanted & {in_front(one, claim.verdict) for one in claim.comparisons}]


def findings(figures: Sequence[Figure], tables: Tables, path: Path = DATA) -> list[Finding]:
    """All findings about the experiments of these figures, in the order of the file.

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
        about = by_stem[one["figure"]], verdict
        if verdict == "does not hold" or not all(texts.values()):
            found.append(Finding(one["headline"], "", "", *about, []))
            continue
        sentence = one["sentence"].strip().removesuffix(".").format(**texts)
        sentence += f"{sample(max(claims, key=lambda claim: claim.corrected or 0.0))}."
        reverse = other_way_round(one["winner"], one["losers"], figures) if one["winner"] else []
        found.append(Finding(one["headline"], sentence, one["caveat"].format(**texts), *about, reverse))
    return found
