"""What we found: the entries of findings.yaml, each with its figure, its numbers, the claims that it rests on, and all claims
by which another rule is ahead of the one that it names."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.pipeline.config import read_yaml
from gallery.claims import Claim, Comparison, Figure, Tables, Verdict, claims_named, verdict_of
from gallery.claims_file import ClaimError, read_checked
from gallery.tables import find
from gallery.wording import SHARES, plus_minus

DATA = Path(__file__).with_name("findings.yaml")
SCHEMA = read_yaml(DATA.with_name("findings.schema.yaml"))
# Quantities or columns of which more is better, and of which less is. `depth` has the cosines of two stages.
MORE = (*SHARES, "test_accuracy", "cosine", "initial", "trained", "return")
LESS = ("loss", "nmse", "nats", "milliseconds", "bytes_per_sample")
LESS += tuple(f"{of}bytes" for of in ("", "counted_", "measured_", "temporary_"))
TO_BPTT = {"times_bptt": 1, "bytes_times_bptt": 1, "minus_bptt": 0}  # BPTT's own number, with which others are compared
WINDOWS = re.compile(r"_\d+$")  # `otpe_10` is OTPE in windows of ten steps
TRUNCATION = ("tbptt", "in_memory", "in_time")  # the last two: the best pieces in OTPE's memory and time
WORST_FIRST: tuple[Verdict, ...] = ("does not hold", "not run", "unresolved", "holds")


class Finding(NamedTuple):
    """A headline with its sentence and its caveat, which are empty if a number is not there or a claim of the headline does not
    hold.

    Attributes:
        id: by which the article names it.
        numbers: in words, by name; empty if one is not there.
        headline: of at most twelve words.
        sentence: with its numbers.
        caveat: a line, with its numbers.
        figure: that shows it.
        winner: the rule that is ahead, empty if none is named.
        verdict: on the claims of the headline together, the worst one.
        of_caveat: the claims of the caveat.
        weakest: the claim of the headline that is the least sure.
        reverse: the claims by which another rule is ahead of the winner, or if none is named, the claims about the same tables
            that do not hold.
    """

    id: str
    numbers: dict[str, str]
    headline: str
    sentence: str
    caveat: str
    figure: Figure
    winner: str
    verdict: Verdict
    of_caveat: list[Claim]
    weakest: Claim
    reverse: list[Claim]


def rule_of(place: dict[str, Any]) -> str:
    """The rule or way to learn of a cell, in any window; truncated BPTT is `tbptt` with any piece, also the best one."""
    name = str(next((place[key] for key in ("rule", "way", "temporal") if key in place), ""))
    if name.startswith(TRUNCATION) or place.get("learns") == "truncation":
        return "tbptt"
    return WINDOWS.sub("", name)


def in_front(one: Comparison, verdict: Verdict) -> tuple[str, str] | None:
    """The rule that is ahead by a comparison with this verdict, and the other one; None if it does not say this.

    The margin of a claim may let a rule be behind: that it holds then puts nobody in front. Nor does it if a rule is not ahead
    by all of a margin.
    """
    (left, right), holds = one.places, verdict == "holds"
    if one.relation not in ("above", "below") or verdict_of([one], one.evidence) != verdict:
        return None  # of a claim that does not hold, another part may be the false one
    is_above = (one.relation == "above") == holds
    moved = one.moved
    if not isinstance(right, dict):
        if one.quantity not in TO_BPTT:
            return None
        right, moved = {"rule": "bptt"}, right - TO_BPTT[one.quantity]
    is_more = one.quantity in (*MORE, "minus_bptt")
    if (moved < 0 if is_above else moved > 0) or not (is_more or one.quantity in (*LESS, *TO_BPTT)):
        return None
    pair = rule_of(left), rule_of(right)
    return pair if is_above == is_more else pair[::-1]


def ahead_of(winner: str, figures: Sequence[Figure]) -> list[Claim]:
    """All claims, of every kind, by which another rule is ahead of the winner."""
    found = []
    for claim in (
        claim for figure in figures for claim in figure.claims if claim.verdict in ("holds", "does not hold")
    ):
        pairs = [in_front(one, claim.verdict) for one in claim.comparisons]
        if any(pair and pair[1] == winner != pair[0] for pair in pairs):
            found.append(claim)
    return found


def findings(figures: Sequence[Figure], tables: Tables, path: Path = DATA) -> list[Finding]:
    """All findings about the experiments of these figures, in the order of the file.

    Raises:
        ClaimError: the file is not valid, or an entry names a claim that does not exist, or checks alone.
    """
    by_stem = {figure.stem: figure for figure in figures}
    found = []
    for one in read_checked(path, SCHEMA):
        names, of_caveat = one["claims"], one.get("caveat_claims", [])
        claims, more = claims_named(names, figures), claims_named(of_caveat, figures)
        if one["figure"] not in by_stem or len(claims) < len(names) or len(more) < len(of_caveat):
            continue  # a page of other experiments
        if all(claim.kind == "check" for claim in claims):
            raise ClaimError(f"{path.name}: {', '.join(names)} is a check, expected a finding or replication as well")
        texts = {}
        for name, place in one.get("numbers", {}).items():
            times = 100 if place.pop("percent", False) else 1
            value, _ = find(place, tables, one["figure"])
            texts[name] = plus_minus(value, times) if value else ""
        verdict = min((claim.verdict for claim in claims), key=WORST_FIRST.index)
        sentence, caveat, winner = "", "", one["winner"] or ""
        if verdict != "does not hold" and all(texts.values()):
            sentence, caveat = (one[key].strip().format(**texts) for key in ("sentence", "caveat"))
        beside = [figure for figure in figures if any(claim in figure.claims for claim in claims)]
        refuted = [claim for figure in beside for claim in figure.claims if claim.verdict == "does not hold"]
        reverse = ahead_of(winner, figures) if winner else refuted
        weakest = max(claims, key=lambda claim: claim.corrected or 0.0)
        words = (one["headline"], sentence, caveat)
        found.append(Finding(one["id"], texts, *words, by_stem[one["figure"]], winner, verdict, more, weakest, reverse))
    return found
