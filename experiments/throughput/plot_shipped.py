"""Write shipped.csv, the times of the libraries in the shipped results as ratios to ours, which the quick scale draws:
`python -m experiments.throughput.plot_shipped`, after `snakemake figures/all --config scale=full`."""

import json
from collections.abc import Iterator
from pathlib import Path

from scipy.stats import gmean

from experiments.drawing.tables import write_table
from experiments.throughput.plot_times import Timed


def rows(folder: Path) -> Iterator[list[str]]:
    for path in sorted(folder.glob("*.timing.json")):
        timed = Timed(json.loads(path.read_text(encoding="utf-8")))
        reference = {"rules": "slax:bptt", "bptt": "slax:default"}[timed.config["benchmark"]]
        for name in timed.times:
            yield [timed.config["workload"], name, f"{gmean(timed.ratios(name, reference)):.4g}"]


if __name__ == "__main__":
    columns = ["workload", "contender", "ratio"]
    write_table(Path(__file__).with_name("shipped.csv"), columns, rows(Path("results/full/throughput")))
