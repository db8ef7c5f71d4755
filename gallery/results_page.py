"""docs/RESULTS.md: every claim with its verdict, as a generated text."""

from collections import Counter
from collections.abc import Iterator, Sequence

from gallery import wording
from gallery.claims import Claim, Figure
from gallery.runs import Run, together

HEAD = """\
# Results, claim by claim

This page is made, not written: `snakemake figures/all` makes it as `figures/RESULTS.md`, and `docs/RESULTS.md` is a copy.
What it says of a claim follows from `experiments/*/claims.yaml` and the tables beside the figures. `figures/index.html` has the
same claims with the figures, their data and what made them.
"""
COLUMNS = ["claim", "source", "published", "ours", "expected", "verdict"]


def results_page(figures: Sequence[Figure], runs: dict[str, Run], scale: str) -> str:
    """The whole text.

    Args:
        figures: with their judged claims, in the order of the page.
        runs: the runs that made them, by experiment.
        scale: scale of all of them.
    """
    return "\n".join([HEAD, *_made_by(runs, scale), "", *_counts(figures), *_experiments(figures, runs)]) + "\n"


def _made_by(runs: dict[str, Run], scale: str) -> Iterator[str]:
    yield f"* scale: {scale}"
    yield f"* commit: {_plain(wording.commits(together(run.commits for run in runs.values()))) or 'not recorded'}"
    yield f"* device: {_plain(wording.counted(together(run.devices for run in runs.values()))) or 'not recorded'}"
    yield f"* machine: {_plain(wording.counted(together(run.machines for run in runs.values()))) or 'not recorded'}"
    yield "* a commit that ends in + had changes beside it; an interval is that of 95 % for the mean over seeds or rounds"


def _counts(figures: Sequence[Figure]) -> Iterator[str]:
    counts = Counter(claim.verdict for figure in figures for claim in figure.claims)
    yield from _table(["verdict", "claims", "which means that"])
    for verdict in wording.VERDICT_SYMBOLS:
        yield _row([f"{wording.VERDICT_SYMBOLS[verdict]} {verdict}", str(counts[verdict]), wording.MEANINGS[verdict]])


def _experiments(figures: Sequence[Figure], runs: dict[str, Run]) -> Iterator[str]:
    for experiment in dict.fromkeys(figure.experiment for figure in figures):
        yield from ["", f"## {experiment}", ""]
        run = runs.get(experiment)
        made = f"{run.results} results" if run else "No results at this scale"
        yield f"{made}. What is measured: [experiments/{experiment}](../experiments/{experiment}/README.md)."
        for figure in figures:
            if figure.experiment == experiment:
                yield from [
                    "",
                    f"### {_plain(figure.title)}",
                    "",
                    _plain(f"{figure.stem}; published: {figure.published}"),
                ]
                yield from _claims(figure.claims)


def _claims(claims: Sequence[Claim]) -> Iterator[str]:
    if claims:
        yield ""
        yield from _table(COLUMNS)
    for claim in claims:
        published = dict.fromkeys(wording.published(claim, condition) for condition in claim.conditions)
        reasons = f": {'; '.join(claim.reasons)}" if claim.reasons else ""
        yield _row(
            [
                claim.statement,
                claim.source,
                "; ".join(filter(None, published)),
                "; ".join(filter(None, map(wording.ours, claim.conditions))),
                "; ".join(filter(None, map(wording.compared, claim.conditions))),
                f"{wording.VERDICT_SYMBOLS[claim.verdict]} {claim.verdict}{reasons}",
            ]
        )


def _table(titles: list[str]) -> Iterator[str]:
    yield _row(titles)
    yield _row(["---"] * len(titles))


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell if cell == "---" else _plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text with Markdown's special characters escaped."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return text
