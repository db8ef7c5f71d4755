# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "flax==0.12.8",
#   "jax==0.10.2",
#   "neurobench==2.3.0",
#   "pyyaml",
#   "slax-data[digits]",
#   "slax-neurons",
#   "slax-rules",
#   "snntorch==1.0.0",
#   "torch==2.15.0",
# ]
#
# [tool.uv.sources]
# slax-data = { path = "../../packages/slax-data", editable = true }
# slax-neurons = { path = "../../packages/slax-neurons", editable = true }
# slax-rules = { path = "../../packages/slax-rules", editable = true }
# ///
"""Count the trained networks of the quick scale (seed 0) natively, and as snnTorch models in NeuroBench's harness.

    uv run --no-project --script experiments/neurobench/harness.py

prints the table of README.md. The script is not part of the pipeline, which needs no torch.
"""

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import torch
from neurobench.metrics.workload import SMAPE
from neurobench.models import SNNTorchModel

from slax_neurons import complexity

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "nightly")]

import neurobench_parity as parity  # noqa: E402

from experiments.common.job import jobs_of, settings_of  # noqa: E402
from experiments.neurobench import run  # noqa: E402

PACKAGES = ("neurobench", "snntorch", "torch", "jax", "flax")
QUANTITIES = [name for name in parity.NAMES if name != "accuracy"]


def main() -> None:
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES), end="\n\n")
    print("| task | quantity | `complexity` | harness, snnTorch's model |\n|---|---|---|---|")
    for task, job in jobs_of("neurobench", "quick", settings_of("neurobench", "quick")).items():
        config = job.config
        model, numbers, test_set = run.trained(config, seed=0)
        inputs, targets = (np.array(part) for part in test_set)
        twin = SNNTorchModel(parity.twin(model))
        labels = targets if run.METRICS[config["dataset"]] == "accuracy" else np.zeros(inputs.shape[1], np.int64)
        measured = parity.in_harness(twin, inputs, labels)
        counted = complexity(model, test_set[0])
        for name in QUANTITIES:
            print_row(task, name, getattr(counted, name), measured[name])
        score = measured["accuracy"]
        if labels is not targets:
            data, expected = (torch.from_numpy(np.moveaxis(part, 0, 1).copy()) for part in (inputs, targets))
            with torch.no_grad():
                score = SMAPE()(twin, twin(data), (data, expected))
        print_row(task, run.METRICS[config["dataset"]], numbers["score"], score)


def print_row(task: str, name: str, *numbers: float) -> None:
    print(f"| {task} | {name} | {' | '.join(f'{number:.6g}' for number in numbers)} |")


if __name__ == "__main__":
    main()
