"""Write the page and the texts of all figures of one scale.

    python -m gallery --scale quick --claims experiments/*/claims.yaml --results results/quick/*/*.json ... \\
        --figures figures/quick/* --page figures/index.html --text figures/RESULTS.md --replication figures/REPLICATION.md

Pass results and figures without their records, *.record.json, which are read from the same folders. What differs from its
record is refused.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

from experiments.common.command_line import parser_of
from experiments.common.products import page_product
from experiments.common.records import begin, require, run_of, write_record
from gallery.claims import judge_all
from gallery.claims_file import ClaimError
from gallery.findings import findings
from gallery.page import page, replication_page, results_page
from gallery.replication import replication
from gallery.runs import Run, read_run
from gallery.tables import read_table


def main() -> None:
    arguments, started = _parser().parse_args(), time.perf_counter()
    given = (arguments.claims, arguments.results, arguments.figures, arguments.older)
    product = page_product((arguments.page, arguments.text, arguments.replication), arguments.scale, *given)
    for path in arguments.figures:
        require([path], "Draw it again: `python -m experiments.plot EXPERIMENT`.")
    files = {path.name: path for path in arguments.figures}
    tables = {path.stem: read_table(path) for path in arguments.figures if path.suffix == ".csv"}
    try:
        figures = judge_all(sorted(arguments.claims), tables, arguments.scale)
        found, published = findings(figures), replication(figures, tables, arguments.scale)
    except ClaimError as error:
        raise SystemExit(f"Some claims cannot be judged, nothing was written.\n{error}") from None
    runs = runs_by_experiment(arguments.results, arguments.scale, arguments.older)
    made_from = begin(product)
    _write(arguments.page, page(figures, runs, files, tables, arguments.scale, found, published))
    _write(arguments.text, results_page(figures, runs, arguments.scale, found))
    _write(arguments.replication, replication_page(figures, runs, arguments.scale, published))
    write_record(product, made_from, **run_of(started))


def runs_by_experiment(results: Iterable[Path], scale: str, older: Collection[Path] = ()) -> dict[str, Run]:
    """The results of each experiment, which is named by the folder below the folder of the scale."""
    paths = defaultdict(list)
    for path in sorted(results):
        if scale not in path.parts[:-1]:
            raise SystemExit(f"{path} is not below a folder {scale}: results of two scales are never on one page.")
        paths[path.parts[path.parts.index(scale) + 1]].append(path)
    return {experiment: read_run(of, older) for experiment, of in paths.items()}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = parser_of("python -m gallery", __doc__)
    parser.add_argument("--scale", required=True, help="of the results and figures")
    parser.add_argument("--claims", type=Path, nargs="*", default=[], help="the claims.yaml of the experiments")
    parser.add_argument(
        "--results", type=Path, nargs="*", default=[], help="results of the experiments, ending in .json"
    )
    parser.add_argument("--older", type=Path, nargs="*", default=[], help="those that are older than the sources")
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="all .csv, .png and .svg of the figures")
    parser.add_argument("--page", type=Path, required=True, help="where the page goes")
    parser.add_argument("--text", type=Path, required=True, help="where the text of all claims goes")
    parser.add_argument("--replication", type=Path, required=True, help="where the replication report goes")
    return parser


if __name__ == "__main__":
    main()
