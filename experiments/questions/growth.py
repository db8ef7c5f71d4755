"""Say how the memory of a gradient grows with the sequence: under BPTT, also with recomputation, under TBPTT, and under OTPE.

Recomputation keeps the states between chunks alone, and runs each chunk forward again on the way back. Its gradient is BPTT's,
so its accuracy is too. Nothing is trained here. The chunks that `unroll` chooses by itself are for speed; those here have about
as many steps as there are chunks, which needs the least memory.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from experiments.common.costs import gradient_program
from experiments.common.networks import make_model
from slax_neurons import unroll
from slax_rules import BPTT, OTPE, TBPTT

WINDOW = 10  # steps of a piece of TBPTT, and of a window of OTPE


@dataclasses.dataclass(frozen=True)
class InChunks(BPTT):
    """BPTT in chunks whose number of steps is the largest divisor of all steps that is at most their square root."""

    def unroll(self, model: nnx.RNNCellBase, carry: Any, inputs: jax.Array) -> tuple[Any, Any]:
        steps = len(inputs)
        chunk = max(size for size in range(1, math.isqrt(steps) + 1) if steps % size == 0)
        return unroll(model, carry, inputs, remat=self.remat, chunk=chunk)


RULES = {
    "bptt": BPTT(),
    "in_chunks": InChunks(),
    "recomputed": InChunks(remat=True),
    f"tbptt_{WINDOW}": TBPTT(steps=WINDOW),
    "otpe": OTPE(),
}


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """ "growth", by way and then by the number of steps, the temporaries of the program of a gradient: bytes per sample."""
    lengths = [times * config["n_steps"] for times in config["longer"]]
    return {
        "growth": {way: {str(steps): measured(config, rule, steps) for steps in lengths} for way, rule in RULES.items()}
    }


def measured(config: dict[str, Any], rule: Any, steps: int) -> float:
    """The bytes per sample for so many steps."""
    model = make_model(config, nnx.Rngs(0))
    batch = jnp.zeros((steps, config["batch_size"], config["layers"][0])), jnp.zeros(config["batch_size"], int)
    program, _ = gradient_program(model, rule, batch, WINDOW)
    return float(program.memory_analysis().temp_size_in_bytes / config["batch_size"])
