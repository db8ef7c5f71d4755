"""Write the page and the texts of all figures of one scale: figures/index.html, RESULTS.md and REPLICATION.md.

    python -m gallery --scale quick

They are made from the results and figures that are there, with their records. What differs from its record is refused.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from experiments.pipeline.command_line import parser_of
from experiments.pipeline.plan import Plan, files_of
from experiments.pipeline.results import Product, begin, require_intact, run_of, write_record
from gallery.claims import judge_all
from gallery.claims_file import ClaimError
from gallery.findings import findings
from gallery.looks import DATA, SCALE, marked, read_looks
from gallery.page import Content, page, text
from gallery.replication import replication
from gallery.runs import read_run, results_of
from gallery.tables import read_tables


def main() -> None:
    options = parser_of("python -m gallery", __doc__, "--scale", "--peers", "--outdated").parse_args()
    plan = Plan(options.scale, peers=options.peers, outdated=options.outdated)
    older = set(files_of(plan.older))
    claims = sorted(Path("experiments").glob("*/claims.yaml"))
    write(plan.page, plan.scale, claims, results_of(plan), files_of(plan.drawn), older, is_complete=not plan.left_out)


def write(
    product: Product,
    scale: str,
    claims: Sequence[Path],
    results: Mapping[str, Sequence[Path]],
    figures: Sequence[Path],
    older: Collection[Path] = (),
    *,
    is_complete: bool = True,
    looks: Path = DATA,
) -> None:
    """Write the files of the page and their record.

    Args:
        product: the page and the two texts.
        scale: of the results and figures.
        claims: the claims.yaml of the experiments.
        results: the results of each experiment, ending in .json.
        figures: all .csv, .png and .svg of the figures.
        older: the results that are older than the sources.
        is_complete: no job of the scale was left out.
        looks: the file of the looks at the full scale.
    """
    started = time.perf_counter()
    for path in figures:
        require_intact([path], "Draw it again: `python -m experiments.plot EXPERIMENT`.")
    tables = read_tables(figures)
    runs = {experiment: read_run(sorted(paths), older) for experiment, paths in results.items()}
    try:
        judged = judge_all(sorted(claims), tables, scale, is_complete=is_complete)
        judged = marked(judged, read_looks(looks) if scale == SCALE else [], runs)
        published = replication(judged, tables, is_complete=is_complete and scale == "full")
        found = findings(judged, tables)
    except ClaimError as error:
        raise SystemExit(f"Some claims cannot be judged, nothing was written.\n{error}") from None
    pictures = {path.stem: path for path in sorted(figures) if path.suffix == ".png"}
    content = Content(scale, judged, found, published, runs, pictures)
    made_from = begin(product)
    for path, whole in zip(
        product.files, (page(content), text(content, "results"), text(content, "replication")), strict=True
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(whole, encoding="utf-8")
    write_record(product, made_from, **run_of(started))


if __name__ == "__main__":
    main()
