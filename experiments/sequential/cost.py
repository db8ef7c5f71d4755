"""Measure the time and memory of a gradient of a batch under each rule: traces in windows, BPTT whole, TBPTT in its pieces."""

from pathlib import Path
from typing import Any

from flax import nnx

from experiments.common.costs import RECOMPUTED, costs, gradient_programs
from experiments.sequential.networks import NETWORKS
from experiments.sequential.pixels import in_time, splits_of
from experiments.sequential.run import rule_of
from slax_rules import BPTT


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """Milliseconds of all rounds and bytes, by rule, and of BPTT that recomputes."""
    model = NETWORKS[config["network"]](config, nnx.Rngs(0))
    batch = in_time(*(part[: config["batch_size"]] for part in splits_of(config, spikes)["train"]))
    whole = ("bptt", "tbptt")
    made = {
        name: (rule_of(config | {"rule": name})(rngs=nnx.Rngs(0)), None if name in whole else config["online_window"])
        for name in config["rules"]
    }
    return {
        "costs": costs(
            gradient_programs(model, made | {RECOMPUTED: (BPTT(remat=True), None)}, batch), config["repeats"]
        )
    }
