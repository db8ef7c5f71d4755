"""LRU and RTU: what their authors' code computes, closed forms, and what rules for layers make of them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import LI, LRU, RTU, Trainable, connect, unroll
from slax_rules import BPTT, OSTL, OTPE, SLTT, TBPTT, cross_entropy, gradients, predict
from stacks import dense, deviation

AUTHORS = Path(__file__).parent.parent / "nightly" / "published" / "data" / "authors"
EXACT = 1e-12
DOUBLE = {"param_dtype": jnp.float64}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[0])


def stack(*ends):
    """A layer of 4 units with biases, 5 inputs, and a read-out without memory."""
    neuron = LRU.on_ring(4, r_min=0.5, r_max=0.95, rngs=nnx.Rngs(0), **DOUBLE)
    return connect([dense(normal(5, 8), normal(8, seed=9)), neuron, dense(normal(8, 3, seed=7)), *ends])


X, LABELS = normal(12, 3, 5, seed=1) * np.sqrt(12), jnp.array([0, 2, 1])


def gradient(model, rule, window=None, x=X, labels=LABELS):
    return gradients(model, cross_entropy, jnp.asarray(x), labels, rule=rule, window=window)[1]


@pytest.mark.parametrize("name", ["lru", "rtu_linear", "rtu_nonlinear"])
def test_outputs_and_online_gradients_are_those_of_the_authors_code(name, x64):
    """Of the online gradient of Zucchet et al., and of RTRL as Elelimy et al. wrote it: nightly/published/data/README.md."""
    with np.load(AUTHORS / f"{name}.npz") as file:
        data = dict(file)
    r, theta = np.exp(-np.exp(data["nu"].ravel())), np.exp(data["theta"].ravel())
    if name == "lru":
        kernel, read_out = np.hstack([data["B_re"].T, data["B_im"].T]), np.vstack([data["C_re"].T, -data["C_im"].T])
    else:
        kernel, read_out = np.hstack([data["kernel_1"], data["kernel_2"]]), data["read_out"]
    neuron = (RTU if name == "rtu_nonlinear" else LRU)(r=Trainable(r), theta=Trainable(theta), **DOUBLE)
    behind = [jnp.tanh] if name == "rtu_linear" else []
    model = connect([dense(kernel), neuron, *behind, dense(read_out)])
    assert deviation(predict(model, jnp.asarray(data["inputs"])), data["outputs"]) < EXACT

    by = {key.removeprefix("gradient_"): data[key] for key in data if key.startswith("gradient_")}
    if name == "lru":
        kernels = np.hstack([by["B_re"].T, by["B_im"].T]), np.vstack([by["C_re"].T, -by["C_im"].T])
        # Their gamma is a parameter of its own; here it follows r.
        by_r = by["nu"] / (r * np.log(r)) - by["gamma_log"] * r / (1 - r**2)
    else:
        kernels = np.hstack([by["kernel_1"], by["kernel_2"]]), by["read_out"]
        by_r = by["nu"].ravel() / (r * np.log(r))
    # The code of RTUs leaves out d theta / d log theta, so its gradient is that of theta.
    by_theta = by["theta"].ravel() / (theta if name == "lru" else 1)
    for rule, window in ((BPTT(), None), (OSTL(), None), (OSTL(), 5)):
        found = gradient(model, rule, window, data["inputs"], jnp.asarray(data["labels"]))["modules"]
        ours = found[0]["kernel"], found[len(behind) + 2]["kernel"]
        for a, b in zip(ours, kernels, strict=True):
            assert deviation(len(X) * a[...], b) < EXACT
        slopes = r * (1 - r), -np.expm1(-theta)  # of the sigmoid and the softplus through which they are trained
        for key, slope, theirs in zip(("r", "theta"), slopes, (by_r, by_theta), strict=True):
            assert deviation(len(X) * found[1][key]["unconstrained"][...], slope * theirs) < EXACT


def test_a_constant_current_gives_the_geometric_sum(x64):
    r, theta, current = np.array([0.3, 0.9, 0.999]), np.array([0.2, 1.5, 3.0]), np.array([1 - 2j, 0.5j, 2.0])
    factor, steps = r * np.exp(1j * theta), np.arange(1, 201)[:, None]
    sums = np.sqrt(1 - r**2) * current * (1 - factor**steps) / (1 - factor)
    neuron = LRU(r=r, theta=theta, **DOUBLE)
    inputs = np.tile(np.hstack([current.real, current.imag]), (200, 1, 1))
    carry, outputs = unroll(neuron, neuron.initialize_carry((1, 6)), jnp.asarray(inputs))
    assert deviation(outputs[:, 0], np.hstack([sums.real, sums.imag])) < EXACT
    assert deviation(np.hstack(carry), outputs[-1]) == 0


@pytest.mark.parametrize("rules", [(SLTT(), TBPTT(steps=1)), (OSTL(), BPTT())])
def test_sltt_is_truncation_to_one_step_and_ostl_exact_for_all_parameters(rules, x64):
    """Of one layer with biases: in a stack, TBPTT's step also passes through the layers above."""
    model = stack()
    found, expected = (jax.tree.leaves(gradient(model, rule)) for rule in rules)
    assert all(deviation(a, b) < EXACT and np.any(b) for a, b in zip(found, expected, strict=True))


def test_the_ring_is_evenly_covered():
    neuron = LRU.on_ring(4000, r_min=0.5, r_max=0.9, max_phase=1.0, rngs=nnx.Rngs(0))
    r, theta = (np.asarray(one.value) for one in (neuron.r, neuron.theta))
    areas, turns = (r**2 - 0.25) / (0.81 - 0.25), theta
    for even in (areas, turns):  # by Kolmogorov's test
        assert np.abs(np.sort(even) - np.linspace(0, 1, 4000)).max() < 1.63 / np.sqrt(4000)
    assert abs(np.corrcoef(areas, turns)[0, 1]) < 0.05
    assert LRU.on_ring(100_000, rngs=nnx.Rngs(0)).r.value.max() < 1


def test_traces_of_one_current_are_refused(x64):
    with pytest.raises(TypeError, match=r"OTPE got units with several currents.*OSTL"):
        gradient(stack(LI(**DOUBLE)), OTPE())


def test_a_memory_that_rounds_to_all_of_the_past_still_has_a_slope():
    neuron = LRU(r=Trainable(0.5))
    neuron.r.unconstrained[...] = jnp.full_like(neuron.r.unconstrained[...], 40.0)
    run = nnx.value_and_grad(lambda neuron: neuron(neuron.initialize_carry((1, 2)), jnp.ones((1, 2)))[1].sum())
    value, slopes = run(neuron)
    assert all(jnp.isfinite(leaf).all() for leaf in (value, *jax.tree.leaves(slopes)))
