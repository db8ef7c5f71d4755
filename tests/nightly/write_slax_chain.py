"""Writes slax_chain.nir, for write_foreign_graphs.py to read; see README.md."""

from pathlib import Path

import nir
from flax import nnx

from slax_neurons import LIF, CuBaLIF, connect
from slax_neurons.nir import to_nir

rngs = nnx.Rngs(0)
model = connect(
    [
        nnx.Linear(6, 12, rngs=rngs),
        LIF(decay=0.9, threshold=0.4, reset="zero"),
        nnx.Linear(12, 8, rngs=rngs),
        CuBaLIF(synapse_decay=0.6, decay=0.8, threshold=0.5, reset="zero"),
    ]
)
graph = to_nir(model, dt=1e-4, input_shape=(6,), integration="euler")  # the dt and the Euler of snnTorch
nir.write(Path(__file__).parents[1] / "neurons" / "data" / "slax_chain.nir", graph, compression=None)
