"""What the page, the texts and the article say: all figures of a scale with their judged claims."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.pipeline.plan import Plan, files_of
from experiments.pipeline.results import require_intact
from gallery.claims import Figure, Tables, judge_all
from gallery.claims_file import ClaimError
from gallery.findings import Finding, findings
from gallery.looks import DATA, SCALE, marked, read_looks, withdrawn
from gallery.replication import Replication, replication
from gallery.runs import Run, read_run, results_of
from gallery.tables import read_tables


class Content(NamedTuple):
    """`figures` with their judged claims, the `runs` that made them, by experiment, the PNG files of
    `pictures` and the rows of the `tables`, by stem, and the names of claims that were frozen and `withdrawn`."""

    scale: str
    figures: Sequence[Figure]
    found: Sequence[Finding]
    replication: Replication
    runs: Mapping[str, Run]
    pictures: Mapping[str, Path]
    tables: Tables
    withdrawn: Sequence[str] = ()


def content_of(plan: Plan) -> Content:
    """What there is at the scale of a plan."""
    claims, older = sorted(Path("experiments").glob("*/claims.yaml")), set(files_of(plan.older))
    return read_content(
        plan.scale, claims, results_of(plan), files_of(plan.drawn), older, is_complete=not plan.left_out
    )


def read_content(
    scale: str,
    claims: Sequence[Path],
    results: Mapping[str, Sequence[Path]],
    figures: Sequence[Path],
    older: Collection[Path] = (),
    *,
    is_complete: bool = True,
    looks: Path = DATA,
) -> Content:
    """The figures with their claims judged, the findings and the replication.

    Args:
        scale: of the results and figures.
        claims: the claims.yaml of the experiments.
        results: the results of each experiment, ending in .json.
        figures: all .csv, .png and .svg of the figures.
        older: the results that are older than the sources.
        is_complete: no job of the scale was left out.
        looks: the file of the looks at the full scale.

    Raises:
        SystemExit: a figure or a result differs from its record, or a claim cannot be judged.
    """
    for path in figures:
        require_intact([path], "Draw it again: `python -m experiments.plot EXPERIMENT`.")
    tables = read_tables(figures)
    runs = {experiment: read_run(sorted(paths), older) for experiment, paths in results.items()}
    try:
        judged = judge_all(sorted(claims), tables, scale, is_complete=is_complete)
        known = read_looks(looks) if scale == SCALE else []
        judged = marked(judged, known, runs)
        published = replication(judged, tables, is_complete=is_complete and scale == SCALE)
        found = findings(judged, tables)
    except ClaimError as error:
        raise SystemExit(f"Some claims cannot be judged, nothing was written.\n{error}") from None
    pictures = {path.stem: path for path in sorted(figures) if path.suffix == ".png"}
    return Content(scale, judged, found, published, runs, pictures, tables, withdrawn(judged, known))
