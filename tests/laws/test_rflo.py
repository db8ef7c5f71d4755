"""RFLO by its name, against the equations of the paper; what its author's code finds: tests/nightly/published."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from laws.table import layers_of
from slax_neurons import LI, Edge, LeakyRate, connect
from slax_rules import RULES, gradients
from stacks import deviation, linear


def test_rflo_is_the_equations_of_the_paper():
    """Murray 2019, Eqs. 1 to 6, for one sequence, in windows. The read-out has no memory."""
    tau, steps, random = 4.0, 7, np.random.default_rng(0)
    x, targets = random.normal(size=(steps, 3)), random.normal(size=(steps, 2))
    w_in, w, w_out = (linear(*sizes, seed, use_bias=False) for seed, sizes in enumerate([(3, 5), (5, 5), (5, 2)]))
    units, read_out = LeakyRate(decay=1 - 1 / tau, param_dtype=jnp.float64), LI(decay=1e-30, param_dtype=jnp.float64)
    model, rule = connect([w_in, units, w_out, read_out], [Edge(1, 0, 1, w)]), RULES["rflo"].make(rngs=nnx.Rngs(5))
    W_in, W, W_out = (np.asarray(one.kernel[...]).T for one in (w_in, w, w_out))
    B = np.asarray(rule.route.matrix(layers_of(model)[0], 5, 2, jnp.float64))

    h, p, q, expected = np.zeros(5), np.zeros((5, 5)), np.zeros((5, 3)), [0, 0, 0]
    for t in range(steps):
        u = W @ h + W_in @ x[t]
        slope = (1 - np.tanh(u) ** 2)[:, None]
        p = (1 - 1 / tau) * p + slope * h / tau
        q = (1 - 1 / tau) * q + slope * x[t] / tau
        h = h + (-h + np.tanh(u)) / tau
        error = W_out @ h - targets[t]
        parts = (B @ error)[:, None] * q, (B @ error)[:, None] * p, np.outer(error, h)
        expected = [total + part / steps for total, part in zip(expected, parts, strict=True)]

    batch = jnp.asarray(x[:, None]), jnp.asarray(targets[:, None])
    found = gradients(model, lambda y, t: ((y - t) ** 2).sum(-1) / 2, *batch, rule=rule, window=3)[1]
    found = found["modules"][0], found["synapses"][0], found["modules"][2]
    assert all(deviation(a["kernel"][...].T, b) < 1e-12 for a, b in zip(found, expected, strict=True))
