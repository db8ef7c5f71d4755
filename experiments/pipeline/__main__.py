"""What the pipeline does beside computing and drawing. Its workflow calls these commands; a person calls `verify` and `pack`.

    python -m experiments.pipeline verify          # or `make verify`: are all files as they were made?
    python -m experiments.pipeline pack            # results/full as archives that come with the repository
    python -m experiments.pipeline spikes spoken_digits --raw data/raw/free-spoken-digit-dataset-26eb9aa.tar.gz
    python -m experiments.pipeline manifest --scale quick

`verify` prints a line for each file that differs from its record, was made with other settings or from other sources or
inputs than the present ones, or that no product has; the exit status is 1 if there is any. Results that come with the
repository may be older than the sources; they are counted, and not wrong.

`manifest` writes figures/all, the checksums of spikes, results and figures: `sha256sum -c figures/all` then verifies them, on
any machine. It stops at a product that is missing, damaged, or made from something else: such a file is never listed.
"""

import argparse
import sys
import time
from pathlib import Path

from experiments.pipeline import shipped
from experiments.pipeline.command_line import add_shared
from experiments.pipeline.job import SCALES, check_known, experiment_names
from experiments.pipeline.plan import MANIFEST, Plan, unknown_files
from experiments.pipeline.results import atomic_write, begin, run_of, spikes_product, write_record


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("experiments.pipeline", description=__doc__, formatter_class=form)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_shared(commands.add_parser("verify"), "--peers")
    add_shared(commands.add_parser("manifest"), "--scale", "--peers", "--outdated")
    commands.add_parser("pack").add_argument("names", nargs="*", metavar="NAME", help="experiments; default: all")
    spikes = commands.add_parser("spikes")
    spikes.add_argument("name", metavar="SET", help="a name in data/config.yaml")
    spikes.add_argument("--raw", type=Path, nargs="+", required=True, help="the set's raw files, as in the config")
    options = parser.parse_args()
    {"verify": verify, "manifest": manifest, "pack": pack, "spikes": make_spikes}[options.command](options)


def verify(options: argparse.Namespace) -> None:
    plans = [Plan(scale, peers=options.peers) for scale in SCALES]
    wrong = unknown_files(plans)
    for path, why in wrong.items():
        print(f"{path}: {why}")
    sound = sum(len(product.files) for plan in plans for product in plan.listed if product.label not in plan.stale)
    older = sum(len(plan.older) for plan in plans)
    kept = f" {older} results are older than the sources, and kept." if older else ""
    rest = f"{len(wrong)} files are not." if wrong else "No other files are there."
    print(f"{sound} files are as they were made, from the present settings and sources. {rest}{kept}")
    sys.exit(bool(wrong))


def manifest(options: argparse.Namespace) -> None:
    plan = Plan(options.scale, peers=options.peers, outdated=options.outdated)
    plan.require_all()
    with atomic_write(MANIFEST) as aside:
        aside.write_text(plan.manifest(), encoding="utf-8")


def pack(options: argparse.Namespace) -> None:
    for name in options.names or experiment_names():
        shipped.pack(name)


def make_spikes(options: argparse.Namespace) -> None:
    from experiments.pipeline.spikes import SETS, write_spikes  # imports JAX

    check_known("set", options.name, SETS)
    started, product = time.perf_counter(), spikes_product(options.name)
    made = begin(product)
    write_spikes(SETS[options.name], options.raw, product.files[0])
    write_record(product, made, **run_of(started))


if __name__ == "__main__":
    main()
