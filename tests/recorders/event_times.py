# /// script
# requires-python = "==3.11.*"
# dependencies = ["eventax==0.1.0", "diffrax==0.7.2", "equinox==0.13.8", "jax==0.10.2", "numpy==2.4.6"]
# ///
"""Writes what eventax finds by EventProp in continuous time, for tests/neurons/test_event_cuba_lif.py.

    uv run --script event_times.py

Layers of LIF neurons with synaptic currents, float64. Inputs spike at whole times, as `inputs` [T, I] says. For a network of
one layer, `one_`, and for one of two, `two_`:

    kernel_0 [I, N], kernel_1 [N, O]       the weights, of which the network of one layer has the first
    one_times [N, K], two_times [O, K]     the spike times t_k of the last layer, infinite where there are fewer
    one_gradient_0, two_gradient_0, ...    the gradient of sum_k exp((t_k - T) / tau_syn) over all of them
"""

from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from eventax.adjoint import EventPropAdjoint
from eventax.evnn import FFEvNN
from eventax.neuron_models.lif import LIF

jax.config.update("jax_enable_x64", True)
T, TAU_SYN, TAU_MEM, SIZES = 30, 5.0, 20.0, (6, 5, 3)
random = np.random.default_rng(1)
inputs = (random.uniform(size=(T, SIZES[0])) < 0.15).astype(float)
inputs[20:] = 0
kernels = [random.normal(1.6, 1.0, SIZES[:2]), random.normal(0.75, 0.45, SIZES[1:])]
found = {"inputs": inputs, "kernel_0": kernels[0], "kernel_1": kernels[1], "tau_syn": TAU_SYN, "tau_mem": TAU_MEM}
times = [np.flatnonzero(column).astype(float) for column in inputs.T]
padded = jnp.stack([jnp.pad(one, (0, T - len(one)), constant_values=jnp.inf) for one in map(jnp.asarray, times)])
padded = padded[:, : max(map(len, times))]
for name, layers in (("one", SIZES[1:2]), ("two", SIZES[1:])):
    n = sum(layers)
    weights = np.zeros((n + SIZES[0], n))  # rows: senders, neurons first; columns: receivers
    weights[n:, : SIZES[1]] = kernels[0]
    weights[: SIZES[1], SIZES[1] :] = kernels[1] if name == "two" else 0
    network = FFEvNN(
        layers, SIZES[0], LIF, float(T), jax.random.key(0), thresh=1.0, tsyn=TAU_SYN, tmem=TAU_MEM, solver_stepsize=0.02,
        init_weights=jnp.asarray(weights), init_bias=0.0, solver=diffrax.Dopri8(), dtype=jnp.float64, max_event_steps=300,
        adjoint=EventPropAdjoint(), root_finder=optimistix.Newton(1e-14, 1e-14),
    )  # fmt: skip

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def run(network):
        spikes = network.spikes_until_t(padded, T, 40)
        return jnp.sum(jnp.where(jnp.isfinite(spikes), jnp.exp((spikes - T) / TAU_SYN), 0)), spikes

    (_, spikes), gradient = run(network)
    by = np.asarray(gradient.neuron_model.weights)
    found[f"{name}_times"] = spikes[:, : np.isfinite(spikes).sum(axis=1).max()]
    found[f"{name}_gradient_0"] = by[n:, : SIZES[1]]
    if name == "two":
        found["two_gradient_1"] = by[: SIZES[1], SIZES[1] :]
np.savez_compressed(Path(__file__).with_name("eventax.npz"), **{key: np.asarray(value) for key, value in found.items()})
