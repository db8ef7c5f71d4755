"""Compares RTRL in two windows with BPTT, where fresh memory is filled with nonsense; see `test_filled_memory.py`."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_neurons import ALIF, LI, LIF, connect
from slax_rules import BPTT, RTRL, cross_entropy, gradients

inputs = jax.random.bernoulli(jax.random.key(1), 0.2, (20, 32, 64)).astype(jnp.float32)
labels = jnp.arange(32) % 10
for neuron in (LIF, ALIF):
    rngs = nnx.Rngs(0)
    model = connect([nnx.Linear(64, 50, rngs=rngs), neuron(), nnx.Linear(50, 10, rngs=rngs), LI()])
    _, exact = gradients(model, cross_entropy, inputs, labels, rule=BPTT())
    _, found = gradients(model, cross_entropy, inputs, labels, rule=RTRL(), window=10)
    for expected, got in zip(jax.tree.leaves(exact), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-4)
