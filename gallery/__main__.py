"""Write the page and the text of all figures of one scale.

    python -m gallery --scale quick --claims experiments/*/claims.yaml --results results/quick/*/*.json ... \\
        --figures figures/quick/* --page figures/index.html --text figures/RESULTS.md

Pass results and figures without their certificates, *.record.json, which are read from the same folders. What differs from its
certificate is refused.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from experiments.common.products import certificate_of, page_product
from experiments.common.provenance import certify, require_intact, run_of
from experiments.common.sources import Sources
from gallery.claims import judge_all
from gallery.claims_file import ClaimError
from gallery.page import page
from gallery.results_page import results_page
from gallery.runs import Run, read_run
from gallery.tables import read_table


def main() -> None:
    arguments, started, sources = _parser().parse_args(), time.perf_counter(), Sources()
    given = (arguments.claims, arguments.results, arguments.figures)
    product = page_product(arguments.page, arguments.text, arguments.scale, *given, sources)
    made_from = product.digests(sources)
    for path in arguments.figures:
        require_intact(certificate_of(path), [path], "Draw it again: `python -m experiments.plot EXPERIMENT`.")
    files = {path.name: path for path in arguments.figures}
    tables = {path.stem: read_table(path) for path in arguments.figures if path.suffix == ".csv"}
    try:
        figures = judge_all(sorted(arguments.claims), tables, arguments.scale)
    except ClaimError as error:
        raise SystemExit(f"Some claims cannot be judged, nothing was written.\n{error}") from None
    runs = runs_by_experiment(arguments.results, arguments.scale, sources)
    _write(arguments.page, page(figures, runs, files, tables, arguments.scale))
    _write(arguments.text, results_page(figures, runs, arguments.scale))
    certify(product, made_from, **run_of(started))


def runs_by_experiment(results: Iterable[Path], scale: str, sources: Sources) -> dict[str, Run]:
    """The results of each experiment, which is named by the folder below the folder of the scale."""
    paths = defaultdict(list)
    for path in sorted(results):
        if scale not in path.parts[:-1]:
            raise SystemExit(f"{path} is not below a folder {scale}: results of two scales are never on one page.")
        below = path.parts[path.parts.index(scale) + 1 :]
        paths[below[0]].append(path)
    return {experiment: read_run(of, sources) for experiment, of in paths.items()}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gallery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", required=True, help="of the results and figures")
    parser.add_argument("--claims", type=Path, nargs="*", default=[], help="the claims.yaml of the experiments")
    parser.add_argument(
        "--results", type=Path, nargs="*", default=[], help="results of the experiments, ending in .json"
    )
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="all .csv, .png and .svg of the figures")
    parser.add_argument("--page", type=Path, required=True, help="where the page goes")
    parser.add_argument("--text", type=Path, required=True, help="where the text goes")
    return parser


if __name__ == "__main__":
    main()
