# /// script
# requires-python = ">=3.11"
# dependencies = ["jax==0.10.2"]
#
# [tool.benchmark]
# dtypes.bptt = ["float32", "bfloat16"]
#
# [tool.benchmark.variants.bptt]
# default = {}
# ///
"""The matrix products alone, [T B, N] x [N, N]: a lower bound for every implementation.

There are three forward products, three for the gradients of the weights and two for the gradients of the inputs, each fed by an
earlier one: backpropagation through a stack of linear layers. Parity: no neuron at all.
"""

import jax.numpy as jnp

from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import Workload


def bptt(variant: str, workload: Workload) -> JaxStep:
    return JaxStep(
        products, workload.weights(), workload.inputs().reshape(-1, workload.widths[0]), dtype=workload.dtype
    )


def products(weights, inputs):
    rows = [inputs]
    for weight in weights:
        rows.append(rows[-1] @ weight)
    signal = rows[-1]
    gradients = []
    for layer in reversed(range(len(weights))):
        gradients.append(rows[layer].T @ signal)
        if layer:
            signal = signal @ weights[layer].T
    return jnp.zeros(()), gradients
