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

RATIOS = [
    Ratio("OTTT / BPTT", "slax:ottt", BPTT, "0.9 for N >= 256"),
    Ratio("SLTT / BPTT", "slax:sltt", BPTT, "0.9 for N >= 256"),
    Ratio("OTTT / fastest peer that computes it", "slax:ottt", OTTT_OF_PEERS, "0.62"),
    Ratio("OTTT / sparx's, both on jax 0.11", "slax_jax11:ottt", ["sparx:ottt"], "0.62"),
    Ratio("OTTT / jaxpike's e-prop, both on jax 0.10", "slax:ottt", ["jaxpike:e_prop"], "0.62"),
    Ratio("OTTT / pp_prop, both on jax 0.12", "slax_jax12:ottt", ["braintrace:pp_prop"], "0.65"),
    Ratio("OTTT / pp_prop in chunks, both on jax 0.12", "slax_jax12:ottt", ["braintrace:pp_prop_chunk_32"], ""),
    Ratio("pp-prop / braintrace's, both on jax 0.12", "slax_jax12:pp_prop", ["braintrace:pp_prop"], ""),
    Ratio("OSTL / BPTT", "slax:ostl", BPTT, "2.0 at T = 256, 1.6 for T >= 1024"),
    Ratio(
        "OSTL / D-RTRL, K = 32, both on jax 0.12", "slax_jax12:ostl_window_32", ["braintrace:d_rtrl_chunk_32"], "0.55"
    ),
    Ratio(
        "OSTL / D-RTRL, K = 128, both on jax 0.12",
        "slax_jax12:ostl_window_128",
        ["braintrace:d_rtrl_chunk_128"],
        "0.55",
    ),
    Ratio("OSTL / slax 0.0.1's", "slax:ostl", ["slax_original_jax04:ostl"], "0.12"),
    Ratio("OTPE / OSTL", "slax:otpe", ["slax:ostl"], "1.6"),
    Ratio("approximate OTPE / BPTT", "slax:approximate_otpe", BPTT, "1.1"),
    Ratio("RTRL / slax 0.0.1's", "slax:rtrl", ["slax_original_jax04:rtrl"], "0.1"),
    Ratio("RTRL with K = 1 / slax 0.0.1's", "slax:rtrl_window_1", ["slax_original_jax04:rtrl"], "0.1"),
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
    return markdown(["", *map(column_name, workloads), "wanted, at most"], rows)


if __name__ == "__main__":
    main(__doc__, ratio_table, ("Loss: mean cross entropy", ".4g"))
