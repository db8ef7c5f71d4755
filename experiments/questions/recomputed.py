"""Say what memory BPTT needs if it keeps the states between chunks alone, and runs each chunk forward again on the way back.

Its gradient is BPTT's, so its accuracy is too, and nothing is trained.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.common.costs import gradient_program
from experiments.common.networks import make_model
from experiments.questions.sources import sampler_of
from slax_rules import BPTT


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """ "bytes", the memory of a gradient per sample, measured as in run.py. `slax_rules.cost` does not count recomputation."""
    model, rule = make_model(config, nnx.Rngs(0)), BPTT(remat=True)
    spikes, *others = next(iter(sampler_of(config)(0).batches()))
    inputs = jnp.asarray(spikes, jnp.float32)
    program, _ = gradient_program(model, rule, (inputs, *map(np.asarray, others)))
    measured = program.memory_analysis().temp_size_in_bytes / inputs.shape[1]
    return {"bytes": {"counted": None, "measured": measured}}
