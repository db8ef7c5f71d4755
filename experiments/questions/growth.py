"""Say how the memory of a gradient grows with the sequence: under BPTT, also with recomputation, under TBPTT, and under OTPE.

Recomputation keeps the states between chunks alone, and runs each chunk forward again on the way back. Its gradient is BPTT's,
so its accuracy is too. Nothing is trained here. Chunks have about the square root of the steps, as `BPTT(remat=True)` has
them. OTPE has the length of windows that needs least.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.common.costs import temporary_bytes
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
    """ "growth", by way and then by the number of steps, the temporaries of the program of a gradient: bytes per sample."""
    lengths = [times * config["n_steps"] for times in config["longer"]]
    return {"growth": {way: {str(steps): least(config, way, steps) for steps in lengths} for way in WAYS}}


def least(config: dict[str, Any], way: str, steps: int) -> float:
    """The bytes of a way for so many steps; under OTPE with the windows that need least."""
    windows = [window for window in WINDOWS if steps % window == 0] if way == "otpe" else [None]
    return min(measured(config, WAYS[way], steps, window) for window in windows)


def measured(config: dict[str, Any], rule: Any, steps: int, window: int | None) -> float:
    """The bytes per sample for so many steps, in windows of so many."""
    model = make_model(config, nnx.Rngs(0))
    batch = jnp.zeros((steps, config["batch_size"], config["layers"][0])), jnp.zeros(config["batch_size"], int)
    return temporary_bytes(model, rule, batch, window)
