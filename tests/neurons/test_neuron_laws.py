"""Every neuron: the oracle's states and gradients, and all ways to run and to differentiate it, from one program per neuron."""

import copy
import functools
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import oracle
from slax_neurons import LTC, NEURONS, Parameter, Surrogate, connect, time_constant, unroll
from slax_neurons.building_blocks import reverse_pass_of_jax
from stacks import close, gradients_of, linear, pair, worst

T, B, N = 9, 2, 3
ADAPTIVE = {"kind": "adlif", "decay": 0.8, "adaptation_decay": 0.9, "a": 0.3, "b": 0.7, "threshold": 0.9}
LIF = {"kind": "lif", "decay": 0.8, "threshold": 1.2}
CUBA = {"kind": "cuba_lif", "synapse_decay": 0.6, "decay": 0.8, "threshold": 1.4}
ALIF = {"kind": "alif", "decay": 0.85, "adaptation_decay": 0.9, "beta": 0.2, "threshold": 0.8}
BRF = {"kind": "brf", "omega": 30.0, "b_offset": 2.0, "threshold": 0.7, "refractory_decay": 0.8}
IZHIKEVICH = {"kind": "izhikevich", "a": 0.1, "b": np.full(N, 0.2), "c": -60.0, "d": 6.0, "threshold": 20.0}
ADEX = {"kind": "adex", "tau": 9.0, "tau_w": 40.0, "a": 0.3, "b": 4.0, "v_onset": -52.0, "slope_factor": 3.0}
MILLIVOLTS = {
    "izhikevich": IZHIKEVICH | {"dt": 0.5, "surrogate": "arctan"},
    "adex": ADEX | {"v_reset": -65.0, "threshold": 10.0, "dt": 1.0, "surrogate": "arctan"},
}
LAYERS = MILLIVOLTS | {
    "if": {"kind": "if", "threshold": 1.3},
    "lif": LIF,
    "li": {"kind": "li", "decay": 0.7},
    "leaky_rate": {"kind": "leaky_rate", "decay": 0.7},
    "cuba_lif": CUBA,
    "alif": ALIF,
    "adlif": ADAPTIVE,
    "symplectic": ADAPTIVE | {"q": 20.0},
    "brf": BRF | {"dt": 0.01},
}
GAINS = {"adlif": 10.0, "symplectic": 10.0, "brf": 120.0}
each = pytest.mark.parametrize("name", [*LAYERS, "ltc"])
elementwise = pytest.mark.parametrize("name", LAYERS)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def ours(run):
    """With the reverse pass of our own, which a short sequence does not have on a CPU."""

    @functools.wraps(run)
    def within(*arguments, **options):
        with reverse_pass_of_jax(False):
            return run(*arguments, **options)

    return within


X, WEIGHTS = normal(T, B, 5, seed=1), normal(T, B, N, seed=2)


def layer_of(name, dtype=jnp.float64):
    """A Linear and a neuron with all parameters trainable, one per unit, and the oracle's layer."""
    if name == "ltc":
        cell = LTC(N, threshold=0.2, beta=1.5, param_dtype=dtype, rngs=nnx.Rngs(0))
        for seed, gate in enumerate((cell.membrane_gate, cell.adaptation_gate)):
            gate.bias[...] = jnp.asarray(normal(N, seed=seed), dtype)
        return connect([linear(5, N, 0, dtype), cell]), None
    options = LAYERS[name]
    spread = {
        key: value * np.linspace(0.9, 1.05, N) if type(value) is float and key not in ("q", "dt") else value
        for key, value in options.items()
    }
    return pair([5, N], [spread], gain=GAINS.get(name, 2.0), dtype=dtype)


def ltc_by_hand(cell, currents, h):
    """Yin, Corradi, Bohte: gates of the concatenated current and state."""
    u, b, s = h
    outputs = []
    for i in currents:
        membrane, adaptation = (
            1 / (1 + np.exp(-(np.concatenate([i, x], -1) @ np.asarray(gate.kernel[...]) + np.asarray(gate.bias[...]))))
            for gate, x in ((cell.membrane_gate, u), (cell.adaptation_gate, b))
        )
        b = adaptation * b + (1 - adaptation) * s
        v = u + membrane * (i - u)
        s = (v - (0.2 + 1.5 * b) >= 0).astype(float)
        u = v * (1 - s)
        outputs.append(s)
    return (u, b, s), np.stack(outputs)


@functools.cache
def measured(name):
    """A layer, its first carry, and what it does from there, with gradients and second derivatives, from one program."""
    with jax.enable_x64(True):
        model, layers = layer_of(name)
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)
        start = jax.tree.map(lambda leaf: leaf + 0.3 * normal(B, N, seed=4), model.initialize_carry((B, 5)))
        point = (params, start, jnp.asarray(X))
        along = jax.tree.map(lambda leaf: jnp.asarray(normal(*leaf.shape, seed=5)), point)
        ways = {
            "scan": ours(unroll),
            "steps": lambda model, carry, x: jax.lax.scan(lambda carry, x: model(carry, x), carry, x),
            "chunks": functools.partial(unroll, chunk=4, remat=True),
        }

        def loss(way, params, carry, x):
            carry, outputs = way(nnx.merge(graphdef, params, rest), carry, x)
            return jnp.mean(jnp.sum(WEIGHTS * outputs, -1)), (carry, outputs)

        @jax.jit
        def program(point, along):
            gradients = {name: jax.grad(functools.partial(loss, ways[name]), (0, 1, 2), has_aux=True) for name in ways}
            tangents = {name: jax.jvp(gradients[name], point, along)[1] for name in ("steps", "scan")}
            return {name: gradient(*point) for name, gradient in gradients.items()}, tangents

        return model, layers, start, *jax.tree.map(np.asarray, program(point, along))


@elementwise
def test_states_spikes_and_gradients_are_those_of_the_oracle(name, x64):
    model, layers, start, made, _ = measured(name)
    gradient, (carry, outputs) = made["scan"]
    states = [np.stack(jax.tree.leaves(start), -1)]
    history = oracle.forward(layers, X, states)
    theirs = oracle.bptt(layers, X, oracle.linear(WEIGHTS), states=states)
    expected = history[-1][0].states, oracle.series(history, "output")
    close((np.stack(jax.tree.leaves(carry), -1), outputs), expected, 1e-12)
    assert worst(gradients_of(model, gradient[0]), theirs.gradients) < 1e-11
    assert name in ("li", "leaky_rate") or (0.05 < outputs.mean() < 0.95 and set(np.unique(outputs)) == {0, 1})
    assert model.modules[1].spikes == (name not in ("li", "leaky_rate"))


def test_an_ltc_is_its_equations_and_their_derivative(x64):
    """With a smooth function in place of spikes for difference quotients."""
    model, _, start, made, _ = measured("ltc")
    dense, cell = model.modules
    carry, outputs = made["scan"][1]
    close((carry[1], outputs), ltc_by_hand(cell, np.asarray(dense(jnp.asarray(X))), start[1]), 1e-12)
    assert 0.05 < outputs.mean() < 0.95 and cell.spikes

    class Smooth(Surrogate):
        def __call__(self, x):
            return jax.nn.sigmoid(2 * x)

    graphdef, params, rest = nnx.split(cell.replace(spike_fn=Smooth(jnp.ones_like)), nnx.Param, ...)
    run = jax.jit(lambda params, carry, x: unroll(nnx.merge(graphdef, params, rest), carry, x))
    check_grads(run, (params, start[1], jnp.asarray(X[..., :N])), order=1, modes=["rev"], rtol=1e-6)


@each
def test_every_way_to_run_and_to_differentiate_is_the_step(name):
    """Our own derivative of the scan, also along a line, and chunks with remat, against JAX's derivative of a loop."""
    *_, made, tangents = measured(name)
    gradient, states = made["steps"]
    for by_reverse, found in made.values():
        close(found, states, 1e-13)
        close(by_reverse, gradient, 1e-11)
    close(tangents["scan"], tangents["steps"], 1e-9)
    assert all(leaf.any() for leaf in jax.tree.leaves((gradient, tangents["steps"][0])))


def test_the_symplectic_form_is_the_code_of_its_authors(x64):
    """Spikes, last states and gradients by every parameter of a recurrent layer; see data/README.md."""
    data = dict(np.load(Path(__file__).parent / "data" / "se_adlif.npz"))
    decays = {"decay": time_constant(data["tau_u"], dt=1.0), "adaptation_decay": time_constant(data["tau_w"], dt=1.0)}
    options = {"threshold": 1.0, "q": 120.0, "reset": "zero", "stop_reset_gradient": True}
    options |= {name: data[name] for name in "ab"}
    model = pair([5, 4], [{"kind": "adlif", **decays, **options}], edges=[(0, 0, 1)]).model
    model.modules[1] = model.modules[1].replace(spike_fn=Surrogate(lambda x: jnp.exp(-5 * jnp.abs(x))))
    (dense, _), (recurrent,) = model.modules, model.synapses
    recurrent.bias[...] = jnp.zeros(4)
    for variable, name in ((dense.kernel, "kernel"), (dense.bias, "bias"), (recurrent.kernel, "recurrent")):
        variable[...] = jnp.asarray(data[name])

    @nnx.jit
    def gradient(model, x):
        def loss(model):
            (_, end), spikes = unroll(model, model.initialize_carry(x.shape[1:]), x)
            states = jnp.stack(end.carry)
            return jnp.vdot(data["weights"], spikes) + jnp.vdot(data["end_weights"], states), (states, spikes)

        return nnx.grad(loss, has_aux=True)(model)

    found, (states, spikes) = gradient(model, jnp.asarray(data["inputs"]))
    np.testing.assert_array_equal(spikes, data["recurrent_spikes"])
    close(tuple(states), (data["recurrent_u"], data["recurrent_w"]), 1e-9)
    theirs = {"decay": "decay_u", "adaptation_decay": "decay_w", "edge0_kernel": "recurrent"}
    slopes = gradients_of(model, found)[0]
    for name in ("kernel", "bias", "a", "b", *theirs):
        close(slopes[name], data[f"recurrent_gradient_{theirs.get(name, name)}"], 1e-9)


# ----------------------------------------------------------------------------------------------------- what neurons say


@each
def test_rest_dtypes_and_finite_gradients_under_large_currents(name):
    """In bfloat16: nothing happens without a current, and no gradient is infinite under one of 1,000."""
    neuron = layer_of(name, jnp.bfloat16)[0].modules[1]
    rest = neuron.initialize_carry((B, N))

    @nnx.jit
    def everything(neuron, x):
        def loss(neuron, x):
            return sum(leaf.astype(jnp.float32).sum() for leaf in jax.tree.leaves(unroll(neuron, rest, x)))

        return unroll(neuron, rest, 0 * x), nnx.grad(loss, argnums=(0, 1))(neuron, x)

    x = jnp.tile(jnp.asarray([1e3, -1e3, 3e2], jnp.bfloat16), (T, B, 1))
    (carry, outputs), gradient = everything(neuron, x)
    assert {leaf.dtype for leaf in jax.tree.leaves((carry, outputs, gradient))} == {jnp.dtype(jnp.bfloat16)}
    assert all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(gradient))
    assert not np.asarray(outputs, np.float32).any()
    if name == "ltc":  # whose adaptation goes from its threshold to its spikes
        assert (rest.b == jnp.bfloat16(0.2)).all()
    else:
        jax.tree.map(np.testing.assert_array_equal, carry, rest)
        assert name in MILLIVOLTS or not any(np.asarray(leaf, np.float32).any() for leaf in jax.tree.leaves(rest))


@elementwise
def test_the_reverse_pass_keeps_one_array_per_state(name):
    """And the current only where it is multiplied, as by the trainable factor 1 - decay of AdLIF, or passes a function."""
    neuron = layer_of(name, jnp.float32)[0].modules[1]
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)
    carry, x = neuron.initialize_carry((B, N)), jnp.asarray(normal(T, B, N), jnp.float32)
    outputs = lambda params, x: ours(unroll)(nnx.merge(graphdef, params, rest), carry, x)[1]  # noqa: E731
    kept = [leaf for leaf in jax.tree.leaves(jax.vjp(outputs, params, x)[1]) if leaf.size >= T * B * N]
    assert len(kept) <= len(jax.tree.leaves(carry)) + (name in ("adlif", "symplectic", "leaky_rate"))


@each
def test_copies_are_equal_and_share_nothing_and_parameters_are_what_is_named(name):
    neuron = layer_of(name, jnp.float32)[0].modules[1]
    before = jax.tree.map(np.array, nnx.state(neuron))
    for other in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron)), nnx.clone(neuron), neuron.replace()):
        assert nnx.graphdef(other) == nnx.graphdef(neuron)
        assert hash(nnx.graphdef(other)) == hash(nnx.graphdef(neuron))
        nnx.update(other, jax.tree.map(lambda leaf: leaf + 1, nnx.state(other)))
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.array, nnx.state(neuron)), before)
    parameters = {key for key, value in vars(neuron).items() if isinstance(value, Parameter)}
    assert parameters == LAYERS.get(name, {}).keys() - {"kind", "q", "dt", "surrogate"}


def test_every_neuron_is_tried():
    """The others have tests of their own: test_lru.py, test_sliding_psn.py, test_event_cuba_lif.py."""
    others = {"ltc", "lru", "rtu", "sliding_psn", "event_cuba_lif"}
    assert set(NEURONS) == {options["kind"] for options in LAYERS.values()} | others
