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
"""The same networks two ways: counted by `slax_neurons.complexity`, and written in snnTorch in NeuroBench's harness.

    uv run --no-project --script tests/nightly/neurobench_parity.py

prints the table of experiments/neurobench/README.md, of the trained networks of the quick scale (seed 0), and compares small
networks. Of these, every number has to be equal, or differ by what is known:

* Footprint: snnTorch keeps a neuron's constants as buffers, `CONSTANTS` bytes of each Leaky.
* ActivationSparsity: a read-out without spikes is in snnTorch a Leaky that never fires, whose zeros count there.
* NeuroBench divides in float32 and rounds ConnectionSparsity to 4 digits.

Weights are multiples of 1/16 and decays 1/2, so that all sums are exact in float32 whatever their order, and no membrane is
equal to the threshold, where slax fires and snnTorch does not.
"""

import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import snntorch
import torch
from flax import nnx
from neurobench.benchmarks import Benchmark
from neurobench.metrics.static import ConnectionSparsity, Footprint
from neurobench.metrics.workload import (
    SMAPE,
    ActivationSparsity,
    ClassificationAccuracy,
    MembraneUpdates,
    SynapticOperations,
)
from neurobench.models import SNNTorchModel
from neurobench.processors.postprocessors import ChooseMaxCount

sys.path.insert(0, str(Path(__file__).parents[2]))

from experiments.common.job import jobs_of, settings_of
from experiments.neurobench import run
from slax_neurons import LI, LIF, Connect, Neuron, complexity, connect, fast_sigmoid

PACKAGES = ("neurobench", "snntorch", "torch", "jax", "flax")
STEPS, BATCH, SEED = 6, 5, 41  # of a draw in which no reset leaves a membrane above the threshold
DECAY, THRESHOLD = 0.5, 1 + 2.0**-12
CONSTANTS = 20  # bytes of the buffers of snnTorch 1.0.0's Leaky: five float32
NAMES = (
    *("footprint", "connection_sparsity", "activation_sparsity"),
    *("effective_macs", "effective_acs", "dense", "membrane_updates", "accuracy"),
)


class DelayedReset(Neuron):
    """snnTorch's default: v' = decay v + I - threshold H(v - threshold), s = H(v' - threshold), H(0) = 0."""

    spikes = True

    def __init__(self):
        super().__init__()
        self.spike_fn = fast_sigmoid()

    def integrate(self, carry: Any, inputs: Any) -> Any:
        return DECAY * carry + inputs - THRESHOLD * (carry > THRESHOLD)

    def fire(self, membrane: Any) -> tuple[Any, Any]:
        return membrane, (membrane > THRESHOLD).astype(membrane.dtype)


class Flatten(torch.nn.Module):
    """To [B, features], channels last, as slax does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.movedim(1, -1).flatten(1)


class Twin(torch.nn.Sequential):
    """Layers of torch and snnTorch in a row; the output is the spikes of the last, or the membranes of a read-out."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if x.ndim == 4:
            x = x.movedim(-1, 1)
        membrane = x
        for layer in self:
            x = layer(x)
            if isinstance(layer, snntorch.Leaky):
                x, membrane = x
        return (membrane if self[-1].reset_mechanism == "none" else x), membrane


def flattened(x: Any) -> Any:
    return x.reshape(len(x), -1)


def lif() -> LIF:
    return LIF(decay=DECAY, threshold=THRESHOLD)


def with_weights(layer: Any, rng: np.random.Generator, *, zeros: float = 0.0) -> Any:
    """The layer with exact weights, of which this share is zero."""
    shape = layer.kernel.shape
    high = min(16, int(20 / np.sqrt(np.prod(shape[:-1]))))
    kernel = rng.integers(-high // 2, high + 1, shape) / 16 * (rng.random(shape) >= zeros)
    layer.kernel[...] = jnp.asarray(kernel, jnp.float32)
    layer.bias[...] = jnp.asarray(rng.integers(0, 9, layer.bias.shape) / 16, jnp.float32)
    return layer


def networks() -> dict[str, tuple[Connect, np.ndarray]]:
    """Stacks with inputs [T, B, ...]: the reset of slax and that of snnTorch, weights of zero, a convolution, a read-out."""
    rngs, rng = nnx.Rngs(0), np.random.default_rng(SEED)

    def dense(neuron: Any, zeros: float) -> Connect:
        first, second = (nnx.Linear(*sizes, rngs=rngs) for sizes in ((12, 10), (10, 4)))
        return connect(
            [with_weights(first, rng, zeros=zeros), neuron(), with_weights(second, rng, zeros=zeros), neuron()]
        )

    spikes = (rng.random((STEPS, BATCH, 12)) < 0.4).astype(np.float32)
    images = (rng.random((STEPS, BATCH, 5, 6, 2)) < 0.3).astype(np.float32)
    currents = rng.integers(0, 20, (STEPS, BATCH, 1)).astype(np.float32) / 16
    currents[2:4] = currents[2:4] > 0.5
    conv = with_weights(nnx.Conv(2, 3, (3, 3), strides=2, padding=1, rngs=rngs), rng, zeros=0.2)
    read_out = [nnx.Linear(1, 8, rngs=rngs), lif(), nnx.Linear(8, 3, rngs=rngs), LI(decay=DECAY)]
    return {
        "dense": (dense(lif, 0.0), spikes),
        "dense, some weights zero": (dense(lif, 0.4), spikes),
        "dense, reset one step later": (dense(DelayedReset, 0.4), spikes),
        "convolution": (
            connect([conv, lif(), flattened, with_weights(nnx.Linear(27, 4, rngs=rngs), rng), lif()]),
            images,
        ),
        "read-out, real inputs": (
            connect([with_weights(layer, rng) if isinstance(layer, nnx.Linear) else layer for layer in read_out]),
            currents,
        ),
    }


def twin(model: Connect) -> Twin:
    """The network of snnTorch with the same weights."""
    layers: list[torch.nn.Module] = []
    for module in model.modules:
        if isinstance(module, nnx.Linear):
            layer = torch.nn.Linear(module.in_features, module.out_features)
            layer.weight.data = torch.from_numpy(np.array(module.kernel[...]).T.copy())
        elif isinstance(module, nnx.Conv):
            layer = torch.nn.Conv2d(module.in_features, module.out_features, 3, stride=2, padding=1)
            layer.weight.data = torch.from_numpy(np.array(module.kernel[...]).transpose(3, 2, 0, 1).copy())
        elif isinstance(module, Neuron):
            layer = leaky(module)
        else:
            layer = Flatten()
        if hasattr(module, "bias"):
            layer.bias.data = torch.from_numpy(np.array(module.bias[...]))
        layers.append(layer)
    return Twin(*layers)


def leaky(neuron: Neuron) -> snntorch.Leaky:
    """Leaky like a slax neuron. A read-out has a threshold that it does not reach."""
    decay = DECAY if isinstance(neuron, DelayedReset) else neuron.decay.number
    options: dict[str, Any] = {"beta": decay, "init_hidden": True, "output": True}
    if isinstance(neuron, LI):
        return snntorch.Leaky(threshold=1e9, reset_mechanism="none", **options)
    threshold = THRESHOLD if isinstance(neuron, DelayedReset) else neuron.threshold.number
    return snntorch.Leaky(threshold=threshold, reset_delay=isinstance(neuron, DelayedReset), **options)


def batch_first(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(array, 0, 1).copy())


def in_harness(model: Any, inputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What NeuroBench measures of a NeuroBenchModel."""
    data = torch.utils.data.TensorDataset(batch_first(inputs), torch.from_numpy(labels))
    loader = torch.utils.data.DataLoader(data, batch_size=len(labels))
    workload = [ActivationSparsity, SynapticOperations, MembraneUpdates, ClassificationAccuracy]
    benchmark = Benchmark(model, loader, [], [ChooseMaxCount()], [[Footprint, ConnectionSparsity], workload])
    found = benchmark.run(quiet=True)
    operations = found["SynapticOperations"]
    return {
        "footprint": found["Footprint"],
        "connection_sparsity": found["ConnectionSparsity"],
        "activation_sparsity": found["ActivationSparsity"],
        "effective_macs": operations["Effective_MACs"],
        "effective_acs": operations["Effective_ACs"],
        "dense": operations["Dense"],
        "membrane_updates": found["MembraneUpdates"],
        "accuracy": round(found["ClassificationAccuracy"] * len(labels)) / len(labels),  # a mean in float32
    }


def native(model: Connect, inputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The same of `complexity`, rounded where NeuroBench rounds."""
    counted = complexity(model, jnp.asarray(inputs))
    outputs = model.unroll(model.initialize_carry(inputs.shape[1:]), jnp.asarray(inputs))[1]
    accuracy = float(np.mean(np.asarray(outputs).sum(0).argmax(-1) == labels))
    numbers = {name: getattr(counted, name) for name in NAMES if name != "accuracy"}
    rounded = round(float(np.float32(counted.connection_sparsity)), 4)
    return numbers | {"connection_sparsity": rounded, "accuracy": accuracy}


def expected_of_twin(model: Connect, ours: dict[str, float]) -> dict[str, float]:
    """What snnTorch's network has to give, of what ours gives: see the module."""
    neurons = [module for module in model.modules if isinstance(module, Neuron)]
    outputs = [module.out_features for module in model.modules if isinstance(module, nnx.Linear)]
    expected = ours | {"footprint": ours["footprint"] + CONSTANTS * len(neurons)}
    if isinstance(neurons[-1], LI):
        silent = outputs[-1] / sum(outputs)
        expected["activation_sparsity"] = ours["activation_sparsity"] * (1 - silent) + silent
    return expected


def print_trained() -> None:
    """Print the numbers of the trained networks, which also have membranes that stay above the threshold after a reset."""
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES), end="\n\n")
    print("| task | quantity | `complexity` | harness, snnTorch's model |\n|---|---|---|---|")
    for task, job in jobs_of("neurobench", "quick", settings_of("neurobench", "quick")).items():
        model, numbers, test_set = run.trained(job.config, seed=0)
        inputs, targets = (np.array(part) for part in test_set)
        network, metric = SNNTorchModel(twin(model)), run.METRICS[job.config["dataset"]]
        labels = targets if metric == "accuracy" else np.zeros(inputs.shape[1], np.int64)
        theirs, counted = in_harness(network, inputs, labels), complexity(model, test_set[0])
        if metric == "smape":
            data, expected = batch_first(inputs), batch_first(targets)
            with torch.no_grad():
                theirs["smape"] = SMAPE()(network, network(data), (data, expected))
        for name in (*NAMES[:-1], metric):
            ours = numbers["score"] if name == metric else getattr(counted, name)
            print(f"| {task} | {name} | {ours:.6g} | {theirs[name]:.6g} |")


def main() -> None:
    print_trained()
    rng = np.random.default_rng(1)
    for what, (model, inputs) in networks().items():
        labels = rng.integers(0, 3, BATCH)
        ours = native(model, inputs, labels)
        theirs, expected = in_harness(SNNTorchModel(twin(model)), inputs, labels), expected_of_twin(model, ours)
        for name in NAMES:
            if abs(theirs[name] - expected[name]) > 1e-12 * max(1, abs(expected[name])):
                raise SystemExit(f"{what}: {name} is {theirs[name]}, expected {expected[name]}.")
        if not 0.05 < ours["activation_sparsity"] < 0.95:
            raise SystemExit(f"{what}: the neurons fire always or never, which shows nothing.")


if __name__ == "__main__":
    main()
