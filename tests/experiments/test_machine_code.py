"""Kernels as programs of Triton: what benchmarks.machine_code hands to the assembler."""

import jax
import jax.numpy as jnp

from benchmarks.machine_code import kernels_of
from slax_neurons.kernels import elementwise_scan


def test_kernels_of_a_program_are_found_once_each_without_places_in_sources(monkeypatch):
    monkeypatch.setattr("slax_neurons.kernels.is_interpreted", lambda: False)

    def run(x):
        for factor in (2.0, 2.0, 3.0):
            x = elementwise_scan(lambda _, carry, now, *__, factor=factor: (factor * carry, now), (), x[0], x)[1]
        return x

    lowered = jax.jit(run).trace(jax.ShapeDtypeStruct((4, 130), jnp.float32)).lower(lowering_platforms=("cuda",))
    texts = kernels_of(lowered.compiler_ir())
    assert len(texts) == 2
    assert all("tt.func public @kernel" in text and "scf.for" in text and "loc(" not in text for text in texts)
