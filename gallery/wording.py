"""Numbers, verdicts and durations in words, shared by the page and the text."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from gallery.claims import Claim, Condition, Verdict
from gallery.runs import Run
from gallery.tables import Number

# A verdict is identified by its word and its sign; color is additional.
VERDICT_SYMBOLS: dict[Verdict, str] = {"holds": "✓", "does not hold": "✗", "unresolved": "≈", "not run": "○"}
BY_INTEREST: tuple[Verdict, ...] = ("does not hold", "holds", "unresolved", "not run")
SHARES = ("accuracy", "last_accuracy", "best_accuracy", "early", "late")  # quantities that are in percent
NO_BREAK = "\u00a0"


def in_digits(value: float) -> str:
    """A number with four digits; whole numbers and large ones are written in full."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.3g}"


def with_interval(number: Number) -> str:
    ends = f" {interval(number.low, number.high)}" if number.low < number.high else ""
    return f"{in_digits(number.value)}{ends}"


def interval(low: float, high: float) -> str:
    return _between(in_digits(low), in_digits(high))


def _between(low: str, high: str) -> str:
    return f"({low}{NO_BREAK}to{NO_BREAK}{high})"


def _factor(value: float) -> str:
    """A factor in three digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def difference(condition: Condition) -> str:
    """Our number minus the other one with its interval, and what it is over: "-0.1 (-0.2 to 0), over 5 pairs of seeds".

    Of geometric means, it is our number over the other one: "a factor of 1.1 (1.05 to 1.15), over 20 rounds".
    """
    found, ours, than = condition.difference, condition.ours, condition.than
    if found is None or ours is None or than is None or found.kind == "exact":
        return ""
    unit = ours.unit if ours.samples else than.unit
    first, second = found.counts[0], f" and {found.counts[-1]} {than.unit}s, not paired"
    over = {
        "one sample": f"{first} {unit}s",
        "paired": f"{first} pairs of {unit}s",
        "not paired": f"{first}{'' if unit == than.unit else f' {unit}s'}{second}",
    }[found.kind]
    mean, ends = f"{'+' if found.mean > 0 else ''}{in_digits(found.mean)}", interval(*found.interval)
    if found.is_of_logarithms:
        factor, *around = (_factor(math.exp(number)) for number in (found.mean, *found.interval))
        mean, ends = f"a factor of {factor}", _between(*around)
    return f"{mean}, the same in {over}" if found.is_constant else f"{mean} {ends}, over {over}"


def p_value(p: float) -> str:
    """A p-value in two digits: "p = 0.012", "p < 0.0001"."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def outcome(claim: Claim) -> list[str]:
    """What is to be said in addition to the verdict: its p-value, the verdict without the correction if it is another one, and
    for a claim that is not decided, which way the means point, and why it is not."""
    parts = [] if claim.corrected is None else [p_value(claim.corrected)]
    if claim.uncorrected != claim.verdict:
        parts.append(f"{claim.uncorrected} before the correction")
    if claim.verdict == "unresolved" and claim.direction:
        parts.append(claim.direction)
    return [*parts, *claim.reasons]


def compared(condition: Condition) -> str:
    """The comparison to which our number is subject: "above 0.99", "near 0.7, within 0.05"."""
    if condition.than is None:
        return ""
    relation = "equal to" if condition.relation == "equal" else condition.relation
    text = f"{relation} {with_interval(condition.than)}"
    return text if condition.tolerance is None else f"{text}, within {in_digits(condition.tolerance)}"


def ours(condition: Condition) -> str:
    return "" if condition.ours is None else with_interval(condition.ours)


def in_short(claim: Claim) -> str:
    """The two numbers of a claim's weakest condition with the sign between them, in three digits: "97.7 % > 92.5 %"."""
    weakest = claim.weakest
    if weakest is None or weakest.ours is None or weakest.than is None:
        return ""
    unit = 100 if weakest.quantity in SHARES else 1
    numbers = (unit * weakest.ours.value, unit * weakest.than.value, unit * (weakest.tolerance or 0.0))
    ours, than, tolerance = (
        f"{_factor(one) if abs(one) < 1000 else in_digits(one)}{' %' if unit > 1 else ''}" for one in numbers
    )
    sign = "=" if ours == than else ">" if numbers[0] > numbers[1] else "<"
    text = f"{ours} {sign} {than}" if weakest.tolerance is None else f"{ours} beside {than} ± {tolerance}"
    return text if len(claim.conditions) == 1 else f"{text}, the weakest of {len(claim.conditions)}"


def by_interest(claims: Iterable[Claim]) -> list[Claim]:
    """Claims that do not hold first, and those that are not run last."""
    return sorted(claims, key=lambda claim: BY_INTEREST.index(claim.verdict))


def checks(claims: Sequence[Claim]) -> str:
    """How many checks hold: "5 checks hold", "4 of 5 checks hold, 1 not run"."""
    counts = Counter(claim.verdict for claim in claims)
    rest = [f"{counts[verdict]} {verdict}" for verdict in BY_INTEREST if verdict != "holds" and counts[verdict]]
    many = f"{len(claims)} check{'s' if len(claims) > 1 else ''}"
    hold = "hold" if len(claims) > 1 else "holds"
    return ", ".join([f"{counts['holds']} of {many} {hold}" if rest else f"{many} {hold}", *rest])


def published(claim: Claim, condition: Condition) -> str:
    return claim.published if condition.published is None else in_digits(condition.published)


def period(first: str, last: str) -> str:
    """The period between two dates, to the minute; dates are in UTC, as in the records."""
    start, end = (date[:16].replace("T", " ") for date in (first, last))
    return f"{start} UTC" if start == end else f"{start} to {end} UTC"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def older(run: Run) -> str:
    """Which results of an experiment are older than the sources; empty if there are none."""
    if not run.older:
        return ""
    jobs = f"{sum(run.older.values())} of {sum(run.commits.values())} jobs are older than the sources"
    return f"{jobs}: made at commit {commits(run.older)}"


def counted(counts: dict[str, int]) -> str:
    """Names with their numbers of jobs, which are omitted if there is only one name."""
    if len(counts) < 2:
        return "".join(counts)
    return ", ".join(f"{name} ({number} jobs)" for name, number in counts.items())


def commits(counts: dict[str, int]) -> str:
    """Commits in short form, keeping the + that marks uncommitted changes."""
    return counted({name[:10] + "+" * name.endswith("+"): number for name, number in counts.items()})


def versions(found: dict[str, list[str]]) -> str:
    return ", ".join(f"{name} {' and '.join(of)}" for name, of in found.items())
