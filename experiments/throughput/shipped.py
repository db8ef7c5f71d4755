"""The times of peers in the shipped results, as ratios to ours: `python -m experiments.throughput.shipped`, after
`snakemake figures/all --config scale=full`, writes shipped.csv from results/full/throughput."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("shipped.csv")
REFERENCES = {"bptt": "slax:default", "rules": "slax:bptt"}


def ratios(result: dict[str, Any], reference: str) -> dict[str, float]:
    """The time of each contender over ours: the geometric mean of the ratios of medians, round by round."""
    medians = {
        record["name"]: np.array([np.median(turn) for turn in record["rounds"]])
        for record in result["records"]
        if record["rounds"] and not record["error"] and not record["left_out"]
    }
    return {name: float(np.exp(np.log(own / medians[reference]).mean())) for name, own in medians.items()}


def shipped(workload: str) -> dict[str, float]:
    """By contender, the shipped ratio on a workload."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return {row["contender"]: float(row["ratio"]) for row in csv.DictReader(file) if row["workload"] == workload}


def write(folder: Path) -> None:
    with FILE.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["workload", "contender", "ratio"])
        for path in sorted(folder.glob("*.timing.json")):
            reference = REFERENCES["rules" if path.name.startswith("rules") else "bptt"]
            of_workload = ratios(json.loads(path.read_text(encoding="utf-8")), reference)
            table.writerows([path.name.partition(".")[0], name, f"{ratio:.4g}"] for name, ratio in of_workload.items())


if __name__ == "__main__":
    write(Path("results/full/throughput"))
