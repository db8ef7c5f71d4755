"""Make Markdown tables from a file written by run.py: `python -m benchmarks.bptt.table results/benchmarks/bptt_speed.json`."""

import math

from benchmarks.side_by_side.tables import column_name, fastest, main, markdown, medians, ratio

OURS, FLOOR, BY_HAND = "slax", "matmul", "plain"


def ratio_table(workloads: list[dict]) -> str:
    """A table with a row per workload: our default's time over our best, the fastest peer, manual code and the lower bound."""
    rows = []
    for workload in workloads:
        times = medians(workload)
        ours, floor, by_hand = (times.get(f"{name}:default", math.inf) for name in (OURS, FLOOR, BY_HAND))
        best = fastest(times, lambda name: _peer(name) == OURS)
        peer = fastest(times, lambda name: _peer(name) not in (OURS, FLOOR, BY_HAND))
        ratios = [f"{ratio(ours, times.get(name, math.inf))} {name}" for name in (best, peer)]
        rows.append([column_name(workload), *ratios, ratio(ours, by_hand), ratio(floor, ours)])
    return markdown(["", "ours / our best", "ours / fastest peer", "ours / by hand", "matrix products / ours"], rows)


def _peer(name: str) -> str:
    return name.split(":")[0]


if __name__ == "__main__":
    main(__doc__, ratio_table, ("Loss: spikes of the last layer", ".0f"))
