"""A record of speed: `python -m benchmarks.speed` writes the line of this release in speed.csv, in a minute on idle cores.

Twelve cases, each for a batch of 32 under one of four rules: a gradient of 64-50-10 with T = 20 (`small`) and of three layers
of 128 with T = 256 (`large`), and training online in windows of five steps in 64-50-10 (`online`). A case has its least time in
ms and XLA's temporaries in bytes, which are the same on every machine. `compile_s` are the processor seconds to trace and
compile all cases. Nothing else may run on the machine meanwhile. With uncommitted changes, it stops.
"""

import argparse
import csv
import time
from importlib.metadata import version
from pathlib import Path

import jax
import optax

from benchmarks.rules import Case, compiled, measured
from benchmarks.timing import write_rows
from experiments.pipeline.results import run_of

FILE = Path(__file__).with_suffix(".csv")
TIMED = ("bptt", "ottt", "ostl", "otpe")
CASES = {
    "small": Case("one window", "64-50-10", steps=20, rules=TIMED),
    "large": Case("one window", "128-128-128-128", rules=TIMED),
    "online": Case("online", "64-50-10", steps=20, rules=TIMED, windows=(5,)),
}
SECONDS = 8.0  # how long the rules of a network take turns


def main() -> None:
    about = run_of(time.perf_counter())
    if about["commit"].endswith(("+", "unknown")):
        raise SystemExit("speed: got files that no commit has, expected none. Commit them.")
    start = time.process_time()
    programs = {name: compiled(case.programs(optax.sgd(0.1)), 1) for name, case in CASES.items()}
    line = {
        "release": version("slax-rules"),
        "jax": jax.__version__,
        "compile_s": round(time.process_time() - start, 2),
    }
    line |= {name: about[name] for name in ("date", "commit", "machine")}
    for name, of_case in programs.items():
        for (_, rule), row in measured(of_case, SECONDS).items():
            line[f"{name}_{rule}_ms"] = round(1e3 * float(row["least_s"]), 4)
            line[f"{name}_{rule}_temporaries"] = row["temporaries_bytes"]
    with FILE.open(encoding="utf-8", newline="") as file:
        table = csv.DictReader(file)
        columns, lines = table.fieldnames or [], [one for one in table if one["release"] != line["release"]]
    with FILE.open("w", encoding="utf-8", newline="") as file:
        write_rows([*lines, line], columns, file)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    jax.config.update("jax_enable_compilation_cache", False)  # for `compile_s`
    main()
