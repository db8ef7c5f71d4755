"""Say how the memory of a gradient grows with the sequence: under BPTT, also with recomputation, under TBPTT, and under OTPE.

Recomputation keeps the states between chunks alone, and runs each chunk forward again on the way back. Its gradient is BPTT's,
so its accuracy is too. Nothing is trained here. Chunks have about the square root of the steps, as `BPTT(remat=True)` has
them. OTPE has the length of windows that needs least.
"""

import dataclasses
from typing import Any

import jax
from flax import nnx

from experiments.common.costs import bytes_of
from experiments.common.tasks import make_model
from slax_neurons import unroll
from slax_neurons.building_blocks import shortest_memory
from slax_rules import BPTT, OTPE, TBPTT

PIECE = 10  # steps of a piece of TBPTT
WINDOWS = (1, 2, 3, 4, 5, 10)  # steps of a window of OTPE, those that divide the sequence


@dataclasses.dataclass(frozen=True)
class InChunks(BPTT):
    """BPTT in chunks of about the square root of the steps, which it does not recompute."""

    def unroll(self, model: nnx.RNNCellBase, carry: Any, inputs: jax.Array) -> tuple[Any, Any]:
        return unroll(model, carry, inputs, chunk=shortest_memory(len(inputs)))


WAYS = {
    "bptt": BPTT(),
    "in_chunks": InChunks(),
    "recomputed": BPTT(remat=True),
    "tbptt_10": TBPTT(PIECE),
    "otpe": OTPE(),
}


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """By the number of steps, bytes per sample: in "growth", of the temporaries of a gradient by way; "inputs" are besides."""
    lengths = [times * config["n_steps"] for times in config["longer"]]
    found = {way: {str(steps): least(config, way, steps) for steps in lengths} for way in WAYS}
    growth = {way: {steps: of["measured"] for steps, of in by_steps.items()} for way, by_steps in found.items()}
    return {"growth": growth, "inputs": {steps: of["inputs"] for steps, of in found["bptt"].items()}}


def least(config: dict[str, Any], way: str, steps: int) -> dict[str, Any]:
    """The bytes of a way for so many steps; under OTPE with the windows that need least."""
    model, shape = make_model(config, nnx.Rngs(0)), (steps, config["batch_size"], config["layers"][0])
    windows = [window for window in WINDOWS if steps % window == 0] if way == "otpe" else [None]
    return min((bytes_of(model, WAYS[way], shape, window) for window in windows), key=lambda of: of["measured"])
