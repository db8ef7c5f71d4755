"""Make Markdown tables from a file of run.py: `python -m benchmarks.rules.table results/benchmarks/rules_speed.json`."""

import math
from typing import NamedTuple

from benchmarks.side_by_side.tables import column_name, fastest, main, markdown, medians, ratio


class Ratio(NamedTuple):
    """The time of a contender over the fastest of some others, and the largest acceptable ratio."""

    title: str
    ours: str
    others: list[str]
    wanted: str


BPTT = ["slax:bptt", "slax:bptt_chunk_16", "slax:bptt_chunk_32", "slax:bptt_chunk_64"]
OTTT_OF_PEERS = [
    "sparx:ottt",
    "jaxpike:e_prop",
    "spikingjelly:ottt",
    "spikingjelly:ottt_1_thread",
    "slax_original:ottt",
    "slax_original_jax04:ottt",
]

# Goals are the ones of docs/performance.md; the windows are the default ones where no K is named.
RATIOS = [
    Ratio("OTTT / BPTT", "slax:ottt", BPTT, ""),
    Ratio("SLTT / BPTT", "slax:sltt", BPTT, ""),
    Ratio("approximate OTPE / BPTT", "slax:approximate_otpe", BPTT, ""),
    Ratio("OSTL / BPTT", "slax:ostl", BPTT, "1.5"),
    Ratio("OTPE / BPTT", "slax:otpe", BPTT, "1.7"),
    Ratio("e-prop / BPTT", "slax:e_prop", BPTT, "1.7"),
    Ratio("OSTL with K = 32, which carries traces / BPTT", "slax:ostl_window_32", BPTT, ""),
    Ratio("OTTT / fastest peer with that name or gradient", "slax:ottt", OTTT_OF_PEERS, "0.75"),
    Ratio("OTTT / sparx's, both on jax 0.11", "slax_jax11:ottt", ["sparx:ottt"], "0.75"),
    Ratio("pp-prop / braintrace's, both on jax 0.12", "slax_jax12:pp_prop", ["braintrace:pp_prop"], "0.9"),
    Ratio(
        "OSTL with K = 32 / D-RTRL in chunks of 32, both on jax 0.12",
        "slax_jax12:ostl_window_32",
        ["braintrace:d_rtrl_chunk_32"],
        "",
    ),
    Ratio("OSTL with K = 1 / D-RTRL step by step", "slax:ostl_window_1", ["braintrace:d_rtrl"], ""),
    Ratio("OSTL with K = 1 / slax 0.0.1's on jax 0.4", "slax:ostl_window_1", ["slax_original_jax04:ostl"], ""),
    Ratio("RTRL with K = 1 / slax 0.0.1's on jax 0.4", "slax:rtrl_window_1", ["slax_original_jax04:rtrl"], "0.1"),
    Ratio("OSTL with K = 1 / scan by hand", "slax:ostl_window_1", ["textbook:ostl"], "1.0"),
    Ratio("OTTT with K = 1 / scan by hand", "slax:ottt_window_1", ["textbook:ottt"], "1.0"),
    Ratio("OSTL on jax 0.12 / on 0.10", "slax_jax12:ostl", ["slax:ostl"], ""),
]


def ratio_table(workloads: list[dict]) -> str:
    """A table with a row per ratio that could be computed, and a column per workload."""
    rows = []
    for title, ours, others, wanted in RATIOS:
        cells = []
        for workload in workloads:
            times = medians(workload)
            other = fastest(times, lambda name, others=others: name in others)
            value = ratio(times.get(ours, math.inf), times.get(other, math.inf))
            cells.append(f"{value} ({other})" if value and len(others) > 1 else value)
        if any(cells):
            rows.append([title, *cells, wanted])
    return markdown(["", *map(column_name, workloads), "goal, at most"], rows)


if __name__ == "__main__":
    main(__doc__, ratio_table, ("Loss: mean cross entropy", ".4g"))
