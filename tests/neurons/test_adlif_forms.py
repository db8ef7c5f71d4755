"""The two forms of AdLIF: what they share, where they differ, and the symplectic one against its authors' code."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from slax_neurons import AdLIF, Edge, Surrogate, Trainable, complexity, connect, summary, time_constant, unroll
from stacks import deviation

T, B, N = 60, 2, 3
ALPHA, BETA = np.array([0.8, 0.9, 0.95]), np.array([0.9, 0.98, 0.97])
DATA = np.load(Path(__file__).parent / "data" / "se_adlif.npz")


def currents(gain=1.0, steps=T):
    return gain * jnp.asarray(np.random.default_rng(0).normal(size=(steps, B, N)) + 0.3)


def run(neuron, x, **options):
    return unroll(neuron, neuron.initialize_carry(x.shape[1:]), x, **options)


# --------------------------------------------------------------------------------------------------- both forms together


def test_without_a_reset_the_symplectic_form_is_the_additive_one_with_scaled_strengths(x64):
    a, b, q = np.array([0.1, 0.3, 0.5]), np.array([0.5, 1.0, 1.5]), 50.0
    options = {"decay": ALPHA, "adaptation_decay": BETA, "reset": "none", "param_dtype": jnp.float64}
    symplectic = run(AdLIF(a=a, b=b, form="symplectic", q=q, **options), currents(10.0))
    additive = run(AdLIF(a=(1 - BETA) * q * a, b=(1 - BETA) * q * b, **options), currents(10.0))
    assert 0.02 < symplectic[1].mean() < 0.98
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12), symplectic, additive)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_with_a_reset_the_recovery_current_follows_the_membrane_before_or_after_it(reset, x64):
    """One step from rest to a spike: w is a v + b, or (1 - adaptation_decay) q (a u + b)."""
    options = {"decay": 0.5, "adaptation_decay": 0.75, "a": 0.5, "b": 0.25, "reset": reset, "param_dtype": jnp.float64}
    v, u = 2.0, {"subtract": 1.0, "zero": 0.0}[reset]
    for neuron, w in (
        (AdLIF(**options), 0.5 * v + 0.25),
        (AdLIF(form="symplectic", q=8.0, **options), 0.25 * 8 * (0.5 * u + 0.25)),
    ):
        carry, spikes = neuron(neuron.initialize_carry((1,)), jnp.array([2 * v]))
        assert (spikes.item(), carry.u.item(), carry.w.item()) == (1, u, w)


def forms(strength, decay, adaptation_decay):
    """A neuron of each form that never fires, with the same strength c of the recovery current."""
    options = {"decay": decay, "adaptation_decay": adaptation_decay, "threshold": 1e100, "param_dtype": jnp.float64}
    q = 10.0
    return (
        AdLIF(a=strength, **options),
        AdLIF(a=strength / ((1 - adaptation_decay) * q), form="symplectic", q=q, **options),
    )


@pytest.mark.parametrize("strength", [0.05, 0.5, 5.0])
def test_both_forms_ring_with_the_same_loss_per_step_for_every_strength(strength, x64):
    """What a symplectic Euler step is chosen for: the loss, sqrt(decay adaptation_decay), is that of every frequency."""
    alpha, beta = 0.9, 0.98
    assert (np.sqrt(alpha) - np.sqrt(beta)) ** 2 < strength * (1 - alpha) < (np.sqrt(alpha) + np.sqrt(beta)) ** 2
    impulse = jnp.zeros((400, 1, 1)).at[0].set(1.0)
    for neuron in forms(strength, alpha, beta):
        carries = [unroll(neuron, neuron.initialize_carry((1, 1)), impulse[:steps])[0] for steps in (100, 101, 400)]
        first, second, last = (np.array([carry.u.item(), carry.w.item()]) for carry in carries)
        trace, determinant = alpha + beta - strength * (1 - alpha), alpha * beta
        # The invariant of two linear recursions with complex eigenvalues: u_{t+1}^2 - trace u_{t+1} u_t + det u_t^2.
        size = [
            pair[1] ** 2 - trace * pair[1] * pair[0] + determinant * pair[0] ** 2
            for pair in ((first[0], second[0]), _next(neuron, last))
        ]
        assert size[1] / size[0] == pytest.approx((alpha * beta) ** 300, rel=1e-6)


def _next(neuron, state):
    carry = neuron.initialize_carry((1, 1))._replace(u=jnp.full((1, 1), state[0]), w=jnp.full((1, 1), state[1]))
    return state[0], neuron(carry, jnp.zeros((1, 1)))[0].u.item()


@pytest.mark.parametrize("border", ["upper", "lower"])
@pytest.mark.parametrize(("factor", "grows"), [(0.99, False), (1.01, True)])
def test_both_forms_return_to_rest_between_the_borders_that_the_docstring_gives_and_not_beyond(
    factor, grows, border, x64
):
    alpha, beta = 0.6, 0.9
    at = {"upper": (1 + alpha) * (1 + beta) / (1 - alpha), "lower": -(1 - beta)}[border]
    impulse = jnp.zeros((4000, 1, 1)).at[0].set(1.0)
    for neuron in forms(factor * at, alpha, beta):
        early, late = (abs(run(neuron, impulse[:steps])[0].u.item()) for steps in (2000, 4000))
        assert late > 2 * early if grows else late < early / 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdLIF(form="euler"), r"form='euler', expected one of 'additive', 'symplectic'"),
        (lambda: AdLIF(q=120.0), r"q=120.0, which the form 'additive' does not have. Leave it out"),
        (lambda: AdLIF(form="symplectic", q=0.0), "q=0.0, expected a number > 0"),
        (lambda: AdLIF(form="symplectic", q=float("nan")), "q=nan, expected a number > 0"),
        (lambda: AdLIF().replace(form="symplectic"), r"replace got form='symplectic', .* Make a new AdLIF"),
        (lambda: AdLIF(form="symplectic").replace(q=60.0), r"replace got q=60.0, .* Make a new AdLIF"),
    ],
)
def test_a_form_that_does_not_exist_is_an_error(make, message):
    with pytest.raises(ValueError, match=f"AdLIF.*{message}"):
        make()


def test_default_parameters_of_the_symplectic_form_are_the_means_of_its_authors_and_their_q():
    neuron = AdLIF(form="symplectic")
    assert (neuron.a.number, neuron.b.number, neuron.q) == (0.5, 1.0, 120.0)
    low, high = time_constant([5.0, 25.0], dt=1.0)
    assert low < neuron.decay.number < high
    low, _ = time_constant([60.0, 300.0], dt=1.0)
    assert neuron.adaptation_decay.number < low  # forgets a little faster than theirs, as the docstring says
    assert neuron.replace(a=0.3).q == 120.0


def test_the_reverse_pass_of_the_symplectic_form_keeps_one_array_per_state_and_the_current():
    each = {
        name: Trainable(np.full(N, value)) for name, value in (("decay", 0.9), ("adaptation_decay", 0.98), ("a", 0.5))
    }
    neuron, x = AdLIF(**each, form="symplectic"), currents().astype(jnp.float32)
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)
    kept_by_scan = lambda params, x: run(nnx.merge(graphdef, params, rest), x, kernel="scan")[1]  # noqa: E731
    _, pull = jax.vjp(kept_by_scan, params, x)
    assert len([leaf for leaf in jax.tree.leaves(pull) if leaf.size >= T * B * N]) <= 3


def test_summary_and_complexity_treat_both_forms_alike():
    rngs = nnx.Rngs(0)
    for form in ("additive", "symplectic"):
        model = connect([nnx.Linear(4, N, rngs=rngs), AdLIF(form=form)], {0: [1]}, rngs=rngs)
        assert "AdLIF" in str(summary(model, (B, 4)))
        found = complexity(model, jnp.ones((T, B, 4)))
        assert found.membrane_updates > 0
        assert found.footprint == 4 * (4 * N + N + N * N + N)


# ------------------------------------------------------------------------------------------------- the authors' own code

EXPONENTIAL = Surrogate(lambda x: jnp.exp(-5 * jnp.abs(x)))  # 0.4 * 5 / 2 = 1


def authors_model(recurrent):
    def synapse(kernel, bias=None):
        layer = nnx.Linear(*kernel.shape, use_bias=bias is not None, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
        layer.kernel[...] = jnp.asarray(kernel)
        if bias is not None:
            layer.bias[...] = jnp.asarray(bias)
        return layer

    neuron = AdLIF(
        decay=Trainable(time_constant(DATA["tau_u"], dt=1.0)),
        adaptation_decay=Trainable(time_constant(DATA["tau_w"], dt=1.0)),
        a=Trainable(DATA["a"]),
        b=Trainable(DATA["b"]),
        form="symplectic",
        reset="zero",
        stop_reset_gradient=True,
        spike_fn=EXPONENTIAL,
        param_dtype=jnp.float64,
    )
    edges = [Edge(1, 0, synapse=synapse(DATA["recurrent"]))] if recurrent else []
    return connect([synapse(DATA["kernel"], DATA["bias"]), neuron], edges)


@pytest.mark.parametrize("name", ["feedforward", "recurrent"])
def test_symplectic_form_equals_the_code_of_its_authors(name, x64):
    """Spikes, last states, and the gradient of a weighted sum of both with respect to every parameter; see data/README.md."""
    model, inputs = authors_model(name == "recurrent"), jnp.asarray(DATA["inputs"])

    def loss(model):
        carry = model.initialize_carry(inputs.shape[1:])
        ends, spikes = unroll(model, carry, inputs)
        state = next(leaf for leaf in jax.tree.leaves(ends, is_leaf=_is_state) if _is_state(leaf))
        total = jnp.sum(jnp.asarray(DATA["weights"]) * spikes)
        return total + jnp.sum(jnp.asarray(DATA["end_weights"]) * jnp.stack(state)), (state, spikes)

    gradient, (state, spikes) = nnx.jit(nnx.grad(loss, has_aux=True))(model)
    theirs = {key.removeprefix(f"{name}_"): DATA[key] for key in DATA if key.startswith(f"{name}_")}
    assert (theirs["spikes"].mean(axis=(0, 1)) > 0.02).all()
    np.testing.assert_array_equal(spikes, theirs["spikes"])
    for ours, key in zip(state, ("u", "w"), strict=True):
        np.testing.assert_allclose(ours, theirs[key], rtol=1e-9, atol=1e-9)
    neuron, by_neuron = model.modules[1], gradient["modules"][1]
    found = {
        "kernel": gradient["modules"][0]["kernel"][...],
        "bias": gradient["modules"][0]["bias"][...],
        "a": by_neuron["a"]["unconstrained"][...],
        "b": by_neuron["b"]["unconstrained"][...],
    }
    for parameter, key in (("decay", "decay_u"), ("adaptation_decay", "decay_w")):
        value = getattr(neuron, parameter)(jnp.zeros(len(DATA["a"])))
        found[key] = by_neuron[parameter]["unconstrained"][...] / (value * (1 - value))
    if name == "recurrent":
        found["recurrent"] = gradient["synapses"][0]["kernel"][...]
    assert set(found) == {key.removeprefix("gradient_") for key in theirs if key.startswith("gradient_")}
    for key, value in found.items():
        assert np.abs(theirs[f"gradient_{key}"]).min() > 0
        assert deviation(value, theirs[f"gradient_{key}"]) < 1e-9, key


def _is_state(leaf):
    return hasattr(leaf, "w")
