"""Numbers, verdicts and durations in words, shared by the page and the text."""

from gallery.claims import Claim, Condition, Verdict
from gallery.runs import Run
from gallery.tables import Number

# A verdict is identified by its word and its sign; color is additional.
VERDICT_SYMBOLS: dict[Verdict, str] = {"holds": "✓", "does not hold": "✗", "not resolved": "≈", "not run": "○"}
MEANINGS: dict[Verdict, str] = {
    "holds": "the relation is true of the means, and of all pairs of numbers in the intervals",
    "does not hold": "the relation is false of the means; it is said if the intervals leave that open",
    "not resolved": "the relation is true of the means, but not of all pairs in the intervals, or these are not known",
    "not run": "the numbers are not there at this scale",
}
CHANGED_SHOWN = 4
NO_BREAK = "\u00a0"
RELATIONS = {"above": "above", "below": "below", "near": "near", "equal": "equal to"}


def in_digits(value: float) -> str:
    """A number with four digits; whole numbers and large ones are written in full."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 1e-3 else f"{value:.3g}"


def with_interval(number: Number) -> str:
    text = in_digits(number.value)
    if not number.has_interval:
        return text
    return f"{text} ({in_digits(number.low)}{NO_BREAK}to{NO_BREAK}{in_digits(number.high)})"


def compared(condition: Condition) -> str:
    """The comparison to which our number is subject: "above 0.99", "near 0.7, within 0.05"."""
    if condition.than is None:
        return ""
    text = f"{RELATIONS[condition.relation]} {with_interval(condition.than)}"
    return text if condition.tolerance is None else f"{text}, within {in_digits(condition.tolerance)}"


def ours(condition: Condition) -> str:
    return "" if condition.ours is None else with_interval(condition.ours)


def published(claim: Claim, condition: Condition) -> str:
    return claim.published if condition.published is None else in_digits(condition.published)


def deviation(condition: Condition) -> str:
    """The difference of our number from the published one, and the same in percent of the latter."""
    if condition.ours is None or condition.published is None:
        return ""
    difference = condition.ours.value - condition.published
    text = f"{'+' if difference > 0 else ''}{in_digits(difference)}"
    share = difference and condition.published and 100 * difference / abs(condition.published)
    return f"{text} ({share:+.1f} %)" if share else text


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
    names, more = ", ".join(run.changed[:CHANGED_SHOWN]), len(run.changed) - CHANGED_SHOWN
    jobs = f"{sum(run.older.values())} of {sum(run.commits.values())} jobs"
    since = f"{names} and {more} more" if more > 0 else names
    return f"{jobs} are older than the sources: made at commit {commits(run.older)}; changed since: {since}"


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
