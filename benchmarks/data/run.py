"""Time a batch of Randman, 256 samples of 100 units in 100 steps, here and in slax 0.0.1, and print a Markdown table.

python -m benchmarks.data.run > results/benchmarks/data.md
python -m benchmarks.data.run --peers slax_data --repeats 20
"""

import argparse

from benchmarks.side_by_side.contenders import contenders
from benchmarks.side_by_side.measure import machine, measure
from benchmarks.side_by_side.tables import markdown, median_time, time_cell, version_table
from benchmarks.side_by_side.workload import Workload

BATCH = Workload(steps=100, batch=256, widths=(100,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peers", nargs="+", default=[], help="names such as slax_data, all its variants, or slax_data:rate"
    )
    parser.add_argument("--repeats", type=int, default=10, help="rounds, at least 1")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="of a contender's turn, in which it draws >= 1 batch"
    )
    arguments = parser.parse_args()

    about = machine()
    chosen = contenders("data", arguments.peers)
    records = measure(BATCH, chosen, arguments.repeats, arguments.seconds)
    rows = [
        [record["name"], "failed" if record["error"] else time_cell(record)]
        for record in sorted(records, key=median_time)
    ]
    errors = [f"{record['name']} failed: `{record['error']}`" for record in records if record["error"]]
    parts = [
        "{date}, {processor}, {cores} cores, {system}, load {load} at the start.".format(**about),
        f"Randman, {BATCH.batch} samples of {BATCH.widths[0]} units in {BATCH.steps} steps",
        markdown(["", "ms per batch: median (least)"], rows),
        version_table([{"records": records}]),
        *errors,
    ]
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
