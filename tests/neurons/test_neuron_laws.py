"""Every neuron: its equations in NumPy, and all ways to run and to differentiate it, from one program per neuron."""

import copy
import functools
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from oracle import neurons as by_hand
from oracle import spikes as spikes_by_hand
from slax_neurons import (
    ALIF,
    BRF,
    IF,
    LI,
    LIF,
    LTC,
    NEURONS,
    AdLIF,
    CuBaLIF,
    Edge,
    Neuron,
    NeuronCell,
    Parameter,
    Surrogate,
    Trainable,
    connect,
    fast_sigmoid,
    time_constant,
    unroll,
)

T, B, N = 9, 2, 3
SLOPE, DT, Q = 5.0, 0.01, 20.0
F64 = {"param_dtype": jnp.float64}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# ------------------------------------------------------------------------------------------------------------ equations
# A step (h, current, parameters, spike function, reset) -> (states after, output), in the words of the papers.


def heaviside(x):
    return (x >= 0).astype(float)


def smooth(x):
    """In place of the step: what has a derivative can be compared with difference quotients."""
    return 1 / (1 + np.exp(-2 * x))


class Smooth(Surrogate):
    """The same in JAX."""

    def __call__(self, x):
        return jax.nn.sigmoid(2 * x)


def after(reset, v, s, threshold):
    return {"subtract": v - threshold * s, "zero": v * (1 - s), "none": v}[reset]


def lif(h, i, p, spike, reset):
    v = p.get("decay", 1.0) * h[0] + i
    s = spike(v - p["threshold"])
    return (after(reset, v, s, p["threshold"]),), s


def li(h, i, p, spike, reset):
    u = p["decay"] * h[0] + i
    return (u,), u


def cuba_lif(h, i, p, spike, reset):
    current = p["synapse_decay"] * h[0] + i
    (u,), s = lif(h[1:], current, p, spike, reset)
    return (current, u), s


def alif(h, i, p, spike, reset):
    """Bellec et al.: the threshold rises with the spikes before this step."""
    v = p["decay"] * h[0] + i
    s = spike(v - p["threshold"] - p["beta"] * h[1])
    return (after(reset, v, s, p["threshold"]), p["adaptation_decay"] * h[1] + s), s


def adlif(h, i, p, spike, reset):
    """Bittar and Garner: the recovery current follows the membrane before its reset."""
    v = p["decay"] * h[0] + (1 - p["decay"]) * (i - h[1])
    s = spike(v - p["threshold"])
    return (after(reset, v, s, p["threshold"]), p["adaptation_decay"] * h[1] + p["a"] * v + p["b"] * s), s


def symplectic(h, i, p, spike, reset):
    """Baronig et al.: it follows the membrane after the reset, weighted by 1 - adaptation_decay."""
    (u, _), s = adlif(h, i, p, spike, reset)
    keep = p["adaptation_decay"]
    return (u, keep * h[1] + (1 - keep) * Q * (p["a"] * u + p["b"] * s)), s


def brf(h, i, p, spike, reset):
    """Higuchi et al., with the membrane as one complex number."""
    z, q = h[0] + 1j * h[1], h[2]
    damping = (np.sqrt(1 - (DT * p["omega"]) ** 2) - 1) / DT - p["b_offset"] - q
    z = z + DT * ((damping + 1j * p["omega"]) * z + i)
    s = spike(z.real - p["threshold"] - q)
    return (z.real, z.imag, p["refractory_decay"] * q + s), s


def ltc(h, i, p, spike, reset):
    """Yin, Corradi, Bohte: gates of the concatenated current and state."""
    u, b, before = h
    gates = [
        1 / (1 + np.exp(-(np.concatenate([i, x], -1) @ p[f"{name}_gate.kernel"] + p[f"{name}_gate.bias"])))
        for name, x in (("membrane", u), ("adaptation", b))
    ]
    b = gates[1] * b + (1 - gates[1]) * before
    v = u + gates[0] * (i - u)
    s = spike(v - (0.1 + 1.8 * b))
    return (v * (1 - s), b, s), s


class Case(NamedTuple):
    make: Any
    step: Any
    values: dict[str, float]  # of the parameters
    gain: float = 1.0  # of the currents
    states: int = 1


CASES = {
    "if": Case(IF, lif, {"threshold": 1.3}),
    "lif": Case(LIF, lif, {"decay": 0.8, "threshold": 1.2}),
    "li": Case(LI, li, {"decay": 0.7}),
    "cuba_lif": Case(CuBaLIF, cuba_lif, {"synapse_decay": 0.6, "decay": 0.8, "threshold": 1.4}, states=2),
    "alif": Case(ALIF, alif, {"decay": 0.85, "adaptation_decay": 0.9, "beta": 0.2, "threshold": 0.8}, states=2),
    "adlif": Case(AdLIF, adlif, {"decay": 0.8, "adaptation_decay": 0.9, "a": 0.3, "b": 0.7, "threshold": 0.9}, 7.0, 2),
    "symplectic": Case(
        functools.partial(AdLIF, form="symplectic", q=Q),
        symplectic,
        {"decay": 0.8, "adaptation_decay": 0.9, "a": 0.2, "b": 0.4, "threshold": 0.9},
        7.0,
        2,
    ),
    "brf": Case(
        functools.partial(BRF, dt=DT),
        brf,
        {"omega": 30.0, "b_offset": 2.0, "threshold": 0.7, "refractory_decay": 0.8},
        80.0,
        3,
    ),
    "ltc": Case(LTC, ltc, {}, 2.0, 3),
}
FIRING = ["lif", "cuba_lif", "alif", "adlif", "symplectic"]  # with a reset, and in the oracle
RESETS = [(reset, stop) for reset in ("subtract", "zero", "none") for stop in (False, True)]
each = pytest.mark.parametrize("kind", CASES)
elementwise = pytest.mark.parametrize("kind", [kind for kind in CASES if kind != "ltc"])


def spread(value):
    """One number per neuron."""
    return value * np.linspace(0.9, 1.05, N)


def neuron_of(kind, *, spike_fn=None, **options):
    """With all parameters trainable, one per neuron."""
    case, options = CASES[kind], F64 | options
    if kind != "li":
        options["spike_fn"] = spike_fn or fast_sigmoid(SLOPE)
    if kind == "ltc":
        neuron = LTC(N, rngs=nnx.Rngs(0), **options)
        for seed, gate in enumerate((neuron.membrane_gate, neuron.adaptation_gate)):
            gate.bias[...] = jnp.asarray(normal(N, seed=seed), gate.bias.dtype)
        return neuron
    return case.make(**{name: Trainable(spread(value)) for name, value in case.values.items()}, **options)


def numbers(kind, neuron):
    """The parameters by name, as arrays in NumPy."""
    if kind == "ltc":
        gates = {"membrane_gate": neuron.membrane_gate, "adaptation_gate": neuron.adaptation_gate}
        return {
            f"{g}.{w}": np.asarray(getattr(gate, w)[...], np.float64)
            for g, gate in gates.items()
            for w in ("kernel", "bias")
        }
    return {name: np.asarray(getattr(neuron, name).value, np.float64) for name in CASES[kind].values}


def slopes(kind, neuron, gradient):
    """The gradient by each parameter itself, from that by what is trained in its place."""
    if kind == "ltc":
        return {
            name: np.asarray(gradient[name.split(".")[0]][name.split(".")[1]][...]) for name in numbers(kind, neuron)
        }
    found = {}
    for name, value in numbers(kind, neuron).items():
        low, high = getattr(neuron, name).domain.low, getattr(neuron, name).domain.high
        bounded = np.isfinite(high)
        chain = (value - low) * (high - value) / (high - low) if bounded else -np.expm1(low - value)
        found[name] = np.asarray(gradient[name]["unconstrained"][...]) / (chain if np.isfinite(low) else 1)
    return found


def currents_of(kind, seed=1):
    return CASES[kind].gain * (normal(T, B, N, seed=seed) + 0.3)


def run_by_hand(kind, currents, p, start, spike, reset="subtract"):
    h, outputs = start, []
    for current in currents:
        h, s = CASES[kind].step(h, current, p, spike, reset)
        outputs.append(s)
    return np.stack(h), np.stack(outputs)


WEIGHTS, ENDS = normal(T, B, N, seed=2), normal(3, B, N, seed=3)


def weighted(ends, outputs):
    """A number that depends on all outputs and last states, differently on each."""
    return (WEIGHTS[: len(outputs)] * outputs).sum() + (ENDS[: len(ends)] * ends).sum()


@functools.cache
def measured(kind):
    """All ways to run a neuron, with their gradients and second derivatives, from one compiled program, in float64."""
    with jax.enable_x64(True):
        neuron = neuron_of(kind)
        graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)
        start = jax.tree.map(
            lambda leaf: leaf + 0.3 * jnp.asarray(normal(B, N, seed=4)), neuron.initialize_carry((B, N))
        )
        point = (params, start, jnp.asarray(currents_of(kind)))
        along = jax.tree.map(lambda leaf: jnp.asarray(normal(*leaf.shape, seed=5)), point)

        def by(**options):
            def run(params, carry, x):
                neuron = nnx.merge(graphdef, params, rest)
                ends, outputs = unroll(neuron, carry, x, **options)
                return jnp.stack(jax.tree.leaves(ends)), outputs

            return run

        def stepped(params, carry, x):
            neuron = nnx.merge(graphdef, params, rest)
            ends, outputs = jax.lax.scan(lambda carry, x: neuron(carry, x), carry, x)
            return jnp.stack(jax.tree.leaves(ends)), outputs

        ways = {
            "steps": stepped,
            "scan": by(kernel="scan"),
            "plain": by(kernel="plain"),
            "chunks": by(chunk=4),
            "remat": by(chunk=4, remat=True),
        }

        def squared(run):
            def number(*point):
                ends, outputs = run(*point)
                return weighted(ends, outputs) + weighted(ends**2, outputs**2) / 2

            return number

        @jax.jit
        def program(point, along):
            made = {}
            for name, run in ways.items():
                gradient = jax.grad(squared(run), argnums=(0, 1, 2))
                second = name in ("steps", "scan")
                made[name] = run(*point), *(jax.jvp(gradient, point, along) if second else (gradient(*point), None))
            forward = jax.jvp(squared(ways["scan"]), point, along)[1]
            alone = ways["scan"](params, jax.tree.map(lambda leaf: leaf[:1], point[1]), point[2][:, :1])
            return made, forward, alone

        return neuron, jax.tree.map(np.asarray, (point, along, *program(point, along)))


def close(ours, theirs, bound=1e-11):
    pairs = list(zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))
    assert pairs
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound * max(1.0, float(np.abs(b).max())))


@each
def test_states_and_spikes_are_those_of_the_equations(kind, x64):
    neuron, (point, _, made, *_) = measured(kind)
    ends, outputs = made["scan"][0]
    start = tuple(np.asarray(leaf) for leaf in jax.tree.leaves(point[1]))
    theirs = run_by_hand(kind, currents_of(kind), numbers(kind, neuron), start, heaviside)
    close((ends, outputs), theirs, 1e-12)
    assert kind == "li" or (0.05 < outputs.mean() < 0.95 and set(np.unique(outputs)) == {0, 1})
    assert neuron.spikes == (kind != "li")


@each
def test_every_way_to_run_and_to_differentiate_is_the_step(kind):
    """Chunks, remat, the plain scan, and our own derivative of the scan, against JAX's derivative of steps in a loop."""
    _, (_, along, made, forward, alone) = measured(kind)
    outputs, gradient, second = made["steps"]
    for name, (theirs, by_reverse, by_second) in made.items():
        close(theirs, outputs, 1e-13)
        close(by_reverse, gradient)
        if by_second is not None and name != "steps":
            close(by_second, second, 1e-9)
    assert all(leaf.any() for leaf in jax.tree.leaves((gradient, second)))
    along_gradient = sum((a * g).sum() for a, g in zip(*map(jax.tree.leaves, (along, gradient)), strict=True))
    assert forward == pytest.approx(along_gradient, rel=1e-10)
    close(alone, jax.tree.map(lambda leaf: leaf[:, :1], outputs), 1e-12)  # a sample does not see the others


@pytest.mark.parametrize(
    ("kind", "reset"), [*((kind, "subtract") for kind in CASES), ("symplectic", "zero"), ("lif", "none")]
)
def test_gradients_are_difference_quotients_of_the_equations(kind, reset, x64):
    """With a smooth function in place of spikes: by each parameter, the first states and the currents."""
    options = {"reset": reset} if kind in FIRING else {}
    neuron = neuron_of(kind, spike_fn=Smooth(jnp.ones_like), **options)
    x, p = currents_of(kind), numbers(kind, neuron)
    start = tuple(0.3 * normal(B, N, seed=6 + index) for index in range(CASES[kind].states))

    def loss(neuron, start, x):
        carry = jax.tree.unflatten(jax.tree.structure(neuron.initialize_carry((B, N))), start)
        ends, outputs = unroll(neuron, carry, x, kernel="scan")
        return weighted(jnp.stack(jax.tree.leaves(ends)), outputs)

    value, (by_neuron, *others) = nnx.jit(nnx.value_and_grad(loss, argnums=(0, 1, 2)))(
        neuron, tuple(map(jnp.asarray, start)), jnp.asarray(x)
    )
    found = slopes(kind, neuron, by_neuron) | {"currents": others[1]}
    found |= {f"state {index}": leaf for index, leaf in enumerate(others[0])}
    at = p | {"currents": x} | {f"state {index}": leaf for index, leaf in enumerate(start)}

    def by_equations(at):
        states = tuple(at[f"state {index}"] for index in range(len(start)))
        return weighted(*run_by_hand(kind, at["currents"], at, states, smooth, reset))

    assert value == pytest.approx(by_equations(at), rel=1e-12)
    for name, array in at.items():
        along = normal(*np.shape(array), seed=7)
        eps = 1e-4 * max(1.0, np.abs(array).max() / 10)
        values = [by_equations(at | {name: array + step * eps * along}) for step in (-2, -1, 1, 2)]
        quotient = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * eps)
        assert abs(quotient) > 1e-6, f"{name} changes nothing"
        assert (np.asarray(found[name]) * along).sum() == pytest.approx(quotient, rel=1e-6), name


OF_ORACLE = {
    "lif": lambda p, **o: by_hand.LIF(p["decay"], p["threshold"], **o),
    "cuba_lif": lambda p, **o: by_hand.CuBaLIF(p["synapse_decay"], p["decay"], p["threshold"], **o),
    "alif": lambda p, **o: by_hand.ALIF(p["decay"], p["adaptation_decay"], p["beta"], p["threshold"], **o),
    "adlif": lambda p, **o: by_hand.AdLIF(p["decay"], p["adaptation_decay"], p["a"], p["b"], p["threshold"], **o),
    "symplectic": lambda p, **o: by_hand.AdLIF(
        p["decay"], p["adaptation_decay"], p["a"], p["b"], p["threshold"], q=Q, **o
    ),
}
NAMES = {"synapse_decay": "current_decay", "beta": "adaptation"}


@pytest.mark.parametrize("kind", FIRING)
def test_surrogates_and_stopped_resets_are_those_of_the_oracle(kind, x64):
    """The gradient by currents and parameters, backward through the oracle's five blocks, for every reset."""
    resets = RESETS if kind != "alif" else RESETS[:2]  # the oracle's ALIF has one
    models = [neuron_of(kind, reset=reset, stop_reset_gradient=stop) for reset, stop in resets]
    x = currents_of(kind)

    @nnx.jit
    def all_gradients(models, x):
        def loss(model, x):
            ends, outputs = unroll(model, model.initialize_carry((B, N)), x)
            return weighted(jnp.stack(jax.tree.leaves(ends)), outputs)

        return [nnx.grad(loss, argnums=(0, 1))(model, x) for model in models]

    for (reset, stop), model, (by_neuron, by_current) in zip(
        resets, models, all_gradients(models, jnp.asarray(x)), strict=True
    ):
        options = {"stop_reset_gradient": stop, "spike": spikes_by_hand.fast_sigmoid(SLOPE)}
        oracle = OF_ORACLE[kind](numbers(kind, model), **options, **({} if kind == "alif" else {"reset": reset}))
        steps, states = [], np.zeros((B, N, oracle.n_states))
        for current in x:
            steps.append(oracle.step(states, current))
            states = steps[-1].states
        backward, total, currents = np.moveaxis(ENDS[: oracle.n_states], 0, -1), {}, []
        for step, weight in zip(reversed(steps), WEIGHTS[::-1], strict=True):
            currents.insert(0, (backward * step.d).sum(-1) + weight * step.psi)
            for name in oracle.parameters:
                here = ((backward * step.dh[name]).sum(-1) + weight * step.ds[name]).sum(0)
                total[name] = total.get(name, 0) + here
            backward = np.einsum("bns,bnsr->bnr", backward, step.D) + weight[..., None] * step.o
        close(by_current, np.stack(currents), 1e-10)
        for name, slope in slopes(kind, model, by_neuron).items():
            close(slope, total[NAMES.get(name, name)], 1e-10)


DATA = np.load(Path(__file__).parent / "data" / "se_adlif.npz")


@pytest.mark.parametrize("name", ["feedforward", "recurrent"])
def test_the_symplectic_form_is_the_code_of_its_authors(name, x64):
    """Spikes, last states and gradients by every parameter; see data/README.md."""

    def synapse(kernel, bias=None):
        layer = nnx.Linear(*kernel.shape, use_bias=bias is not None, rngs=nnx.Rngs(0), **F64)
        layer.kernel[...] = jnp.asarray(kernel)
        if bias is not None:
            layer.bias[...] = jnp.asarray(bias)
        return layer

    decays = {"decay": time_constant(DATA["tau_u"], dt=1.0), "adaptation_decay": time_constant(DATA["tau_w"], dt=1.0)}
    neuron = AdLIF(
        **{key: Trainable(value) for key, value in decays.items()},
        **{key: Trainable(DATA[key]) for key in "ab"},
        form="symplectic",
        reset="zero",
        stop_reset_gradient=True,
        spike_fn=Surrogate(lambda x: jnp.exp(-5 * jnp.abs(x))),
        **F64,
    )
    edges = [Edge(1, 0, synapse=synapse(DATA["recurrent"]))] if name == "recurrent" else []
    model = connect([synapse(DATA["kernel"], DATA["bias"]), neuron], edges)

    @nnx.jit
    def gradient(model, inputs):
        def loss(model):
            ends, spikes = unroll(model, model.initialize_carry(inputs.shape[1:]), inputs)
            state = getattr(ends[1], "carry", ends[1])
            total = jnp.sum(jnp.asarray(DATA["weights"]) * spikes)
            return total + jnp.sum(jnp.asarray(DATA["end_weights"]) * jnp.stack(state)), (state, spikes)

        return nnx.grad(loss, has_aux=True)(model)

    found, (state, spikes) = gradient(model, jnp.asarray(DATA["inputs"]))
    theirs = {key.removeprefix(f"{name}_"): DATA[key] for key in DATA if key.startswith(f"{name}_")}
    np.testing.assert_array_equal(spikes, theirs["spikes"])
    close(tuple(state), (theirs["u"], theirs["w"]), 1e-9)
    by_neuron = found["modules"][1]
    ours = {key: found["modules"][0][key][...] for key in ("kernel", "bias")}
    ours |= {key: by_neuron[key]["unconstrained"][...] for key in "ab"}
    for key, value in decays.items():
        ours[key] = by_neuron[key]["unconstrained"][...] / (value * (1 - value))
    ours["decay_u"], ours["decay_w"] = ours.pop("decay"), ours.pop("adaptation_decay")
    if edges:
        ours["recurrent"] = found["synapses"][0]["kernel"][...]
    for key, value in ours.items():
        close(value, theirs[f"gradient_{key}"], 1e-9)


# ----------------------------------------------------------------------------------------------------- what neurons say


@each
def test_rest_dtypes_and_finite_gradients_under_large_currents(kind):
    """In bfloat16: nothing happens without a current, and no gradient is infinite under one of 1,000."""
    neuron = neuron_of(kind, param_dtype=jnp.bfloat16)
    rest = neuron.initialize_carry((B, N))

    @nnx.jit
    def everything(neuron, x):
        def loss(neuron, x):
            ends, outputs = unroll(neuron, rest, x)
            return sum(leaf.astype(jnp.float32).sum() for leaf in jax.tree.leaves((ends, outputs)))

        return unroll(neuron, rest, 0 * x), nnx.grad(loss, argnums=(0, 1))(neuron, x)

    x = jnp.tile(jnp.asarray([1e3, -1e3, 3e2], jnp.bfloat16), (T, B, 1))
    (carry, outputs), gradient = everything(neuron, x)
    assert {leaf.dtype for leaf in jax.tree.leaves((carry, outputs, gradient))} == {jnp.dtype(jnp.bfloat16)}
    assert jax.tree.structure(carry) == jax.tree.structure(rest)
    assert all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(gradient))
    assert not np.asarray(outputs, np.float32).any()
    if kind != "ltc":  # whose adaptation goes to its spikes
        assert not any(np.asarray(leaf, np.float32).any() for leaf in jax.tree.leaves(carry))


@elementwise
def test_the_reverse_pass_keeps_one_array_per_state(kind):
    """And the current only where it is multiplied: AdLIF has a trainable factor, 1 - decay."""
    neuron = neuron_of(kind, param_dtype=jnp.float32)
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)
    x = jnp.asarray(currents_of(kind), jnp.float32)

    def run(params, x):
        return unroll(nnx.merge(graphdef, params, rest), neuron.initialize_carry((B, N)), x, kernel="scan")[1]

    kept = [leaf for leaf in jax.tree.leaves(jax.vjp(run, params, x)[1]) if leaf.size >= T * B * N]
    assert len(kept) <= CASES[kind].states + (kind in ("adlif", "symplectic"))


@each
def test_copies_are_equal_and_share_nothing_and_parameters_are_what_is_named(kind):
    neuron = neuron_of(kind, param_dtype=jnp.float32)
    assert isinstance(neuron, NeuronCell)
    before = jax.tree.map(np.array, nnx.state(neuron))
    for other in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron)), nnx.clone(neuron), neuron.replace()):
        assert nnx.graphdef(other) == nnx.graphdef(neuron)
        assert hash(nnx.graphdef(other)) == hash(nnx.graphdef(neuron))
        nnx.update(other, jax.tree.map(lambda leaf: leaf + 1, nnx.state(other)))
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.array, nnx.state(neuron)), before)
    if kind == "ltc":
        return
    assert {name for name, value in vars(neuron).items() if isinstance(value, Parameter)} == set(CASES[kind].values)
    assert not jax.tree.leaves(nnx.state(CASES[kind].make(), nnx.Param))


@elementwise
def test_membranes_and_their_decay(kind, x64):
    """The decay is du_t/du_{t-1} where nothing fires, one number for the layer or None."""
    case = CASES[kind]
    neuron = case.make(**{name: Trainable(value) for name, value in case.values.items()}, **F64)
    if neuron.spikes:
        neuron = neuron.replace(spike_fn=Surrogate(jnp.zeros_like))
    rest = neuron.initialize_carry((B, N))

    def membrane(u, current):
        carry = rest._replace(u=u) if hasattr(rest, "_replace") else u
        return neuron.membrane(neuron(carry, current)[0])

    zeros = jnp.zeros((B, N))
    _, slope = jax.jvp(membrane, (zeros, zeros), (zeros + 1, zeros))
    assert (np.asarray(jax.jvp(membrane, (zeros, zeros), (zeros, zeros + 1))[1]) > 0).all()
    if kind == "brf":  # two states that turn into each other
        assert neuron.membrane_decay is None
    else:
        close(slope, np.full((B, N), neuron.membrane_decay), 1e-12)
    if "decay" in case.values:
        assert case.make(decay=spread(case.values["decay"])).membrane_decay is None
        assert type(case.make(decay=0.75).membrane_decay) is float


def test_both_forms_of_adlif_are_stable_between_the_borders_of_the_docstring(x64):
    """Eigenvalues of the linear recursion: those of a step without spikes."""
    alpha, beta = 0.6, 0.9
    options = {"decay": alpha, "adaptation_decay": beta, "threshold": 1e100, **F64}
    for border in ((1 + alpha) * (1 + beta) / (1 - alpha), -(1 - beta)):
        for factor, grows in ((0.99, False), (1.01, True)):
            c = factor * border
            for neuron in (AdLIF(a=c, **options), AdLIF(a=c / ((1 - beta) * Q), form="symplectic", q=Q, **options)):
                state = type(neuron.initialize_carry((2,)))
                after = neuron(state(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])), jnp.zeros(2))[0]
                size = np.abs(np.linalg.eigvals(np.stack(after))).max()
                assert (size > 1) == grows
    assert (AdLIF(form="symplectic").q, AdLIF(form="symplectic").replace(a=0.3).q) == (120.0, 120.0)


def test_ltc_takes_other_thresholds_and_adaptations(x64):
    """threshold + beta b, by one step from a state at which either decides; both gates are one half."""
    neuron = LTC(N, threshold=0.5, beta=2.0, rngs=nnx.Rngs(0), **F64)
    for gate in (neuron.membrane_gate, neuron.adaptation_gate):
        gate.kernel[...] = jnp.zeros((2 * N, N))
    rest = neuron.initialize_carry((1, N))
    np.testing.assert_array_equal(rest.b, 0.5)
    carry, spikes = neuron(rest._replace(b=jnp.full((1, N), 0.25)), jnp.array([[1.4, 1.5, 1.6]]))
    np.testing.assert_array_equal(spikes, [[0, 1, 1]])  # v is half the current, the threshold 0.5 + 2 x 0.125
    close((carry.u, carry.b), (np.array([[0.7, 0, 0]]), np.full((1, N), 0.125)), 1e-15)


def test_a_change_of_parameters_shows_in_the_next_unroll_and_defaults_are_those_of_the_docstrings():
    """Outside jit, where JAX keeps what it once traced."""
    neuron, x = neuron_of("lif", param_dtype=jnp.float32), jnp.asarray(currents_of("lif"), jnp.float32)
    before = unroll(neuron, neuron.initialize_carry((B, N)), x)[0]
    nnx.update(neuron, jax.tree.map(lambda leaf: leaf - 1, nnx.state(neuron)))
    assert not np.array_equal(unroll(neuron, neuron.initialize_carry((B, N)), x)[0], before)
    assert LIF().decay.number == LI().decay.number == pytest.approx(1 / (1 + np.exp(-2.0)), rel=1e-15)
    assert set(NEURONS.values()) == {case.make for case in CASES.values() if isinstance(case.make, type)} | {BRF}
    assert [kind for kind, cell in NEURONS.items() if not issubclass(cell, Neuron)] == ["ltc"]
