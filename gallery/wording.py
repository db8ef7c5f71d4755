"""Numbers, verdicts and durations in words, for the page and the texts."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from gallery.claims import Claim, Comparison, Verdict
from gallery.tables import Number

# A verdict is identified by its word and its sign; color is additional.
VERDICT_SYMBOLS: dict[Verdict, str] = {"holds": "✓", "does not hold": "✗", "unresolved": "≈", "not run": "○"}
BY_INTEREST: tuple[Verdict, ...] = ("does not hold", "holds", "unresolved", "not run")
SHARES = ("accuracy", "last_accuracy", "best_accuracy", "early", "late", "minus_bptt")  # quantities that are in percent


def in_digits(value: float) -> str:
    """A number with four digits; whole numbers and large ones are written in full."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.3g}"


def with_interval(number: Number) -> str:
    ends = f" ({in_digits(number.low)} to {in_digits(number.high)})" if number.low < number.high else ""
    return f"{in_digits(number.value)}{ends}"


def plus_minus(number: Number, times: float = 1.0, digits: int | None = None) -> str:
    """A number in a sentence, with half the width of its interval: by default in as many digits as this leaves sure, one of the
    half width, or two where it begins with 1."""
    value, low, high = (times * one for one in number[:3])
    half = (high - low) / 2
    if half == 0:
        if abs(value) >= 1000:
            return f"{value:,.0f}"
        return f"{value:z.3g}" if digits is None else f"{value:z.{digits}f}"
    if digits is None:
        exponent = math.floor(math.log10(half))
        digits = max(0, -exponent + (half / 10**exponent < 2))
    return f"{value:z.{digits}f} ± {half:.{digits}f}"


def difference(comparison: Comparison) -> str:
    """The left number minus the right one, with its interval, and what it is over: "-0.1 (-0.2 to 0), over 5 pairs of seeds".

    Of geometric means, it is the left number over the right one: "a factor of 1.1 (1.05 to 1.15), over 20 rounds".
    """
    found, left, right = comparison.difference, comparison.left, comparison.right
    if found is None or left is None or right is None or found.kind == "exact":
        return ""
    unit = (left if left.samples else right).unit
    over = f"{found.counts[0]} {'pairs of ' if found.kind == 'paired' else ''}{unit}s"
    if found.kind == "not paired":
        over += f" and {found.counts[1]} {right.unit}s, not paired"
    ends = (found.mean, *found.interval)
    mean, low, high = (f"{math.exp(end):.3g}" if found.is_of_logarithms else in_digits(end) for end in ends)
    sign = "a factor of " if found.is_of_logarithms else "+" if found.mean > 0 else ""
    return f"{sign}{mean}, the same in {over}" if found.is_constant else f"{sign}{mean} ({low} to {high}), over {over}"


def p_value(p: float) -> str:
    """A p-value in two digits: "p = 0.012", "p < 0.0001"."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def outcome(claim: Claim) -> str:
    """What is to be said in addition to the verdict: its p-value, the verdict without the correction if it is another one, and
    for a claim that is not decided, which way the means point, and why it is not."""
    parts = [] if claim.corrected is None else [p_value(claim.corrected)]
    if claim.uncorrected != claim.verdict:
        parts.append(f"{claim.uncorrected} before the correction")
    if claim.verdict == "unresolved" and claim.direction:
        parts.append(claim.direction)
    return "; ".join([*parts, *claim.reasons])


def sample(claim: Claim) -> str:
    """The number of samples of a claim's weakest comparison and its p-value: "n = 10 seeds, p < 0.0001"."""
    one = claim.weakest
    if one is None or one.difference is None or one.left is None or one.right is None or claim.corrected is None:
        return ""
    unit = (one.left if one.left.samples else one.right).unit
    return f"n = {'+'.join(map(str, one.difference.counts))} {unit}s, {p_value(claim.corrected)}"


def compared(comparison: Comparison) -> str:
    """The relation and the right number: "above 0.99", "near 0.7, within 0.05"."""
    if comparison.right is None:
        return ""
    relation = "equal to" if comparison.relation == "equal" else comparison.relation
    text = f"{relation} {with_interval(comparison.right)}"
    return text if comparison.tolerance is None else f"{text}, within {in_digits(comparison.tolerance)}"


def in_short(claim: Claim) -> str:
    """The two numbers of a claim's weakest comparison with the sign between them, in three digits, and the number of samples:
    "97.7>92.5% (10)"."""
    weakest = claim.weakest
    if weakest is None or weakest.left is None or weakest.right is None or weakest.difference is None:
        return ""
    unit, sign = (100, "%") if weakest.quantity in SHARES else (1, "")
    numbers = [unit * one for one in (weakest.left.value, weakest.right.value, weakest.tolerance or 0.0)]
    left, right, tolerance = (f"{one:.3g}" if abs(one) < 1000 else in_digits(one) for one in numbers)
    between = "=" if left == right else ">" if numbers[0] > numbers[1] else "<"
    text = f"{left}{between}{right}" if weakest.tolerance is None else f"{left} near {right}±{tolerance}"
    exact = weakest.difference.kind == "exact"
    return f"{text}{sign}" if exact else f"{text}{sign} ({'+'.join(map(str, weakest.difference.counts))})"


def by_interest(claims: Iterable[Claim]) -> list[Claim]:
    """Claims that do not hold first, and those that are not run last."""
    return sorted(claims, key=lambda claim: BY_INTEREST.index(claim.verdict))


def verdicts(claims: Iterable[Claim]) -> str:
    """How many claims have each verdict: "5 hold, 1 unresolved"."""
    counts = Counter(claim.verdict for claim in claims)
    words = {"holds": "hold", "does not hold": "do not hold"}
    return ", ".join(f"{counts[one]} {words.get(one, one)}" for one in VERDICT_SYMBOLS if counts[one])


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def counted(counts: Mapping[str, int]) -> str:
    """Names with their numbers of jobs, which are omitted if there is only one name."""
    many = (f"{name} ({number} jobs)" for name, number in sorted(counts.items()))
    return ", ".join(counts if len(counts) < 2 else many) or "not recorded"
