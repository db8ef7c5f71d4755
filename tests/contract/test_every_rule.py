"""Laws that hold for each rule in the registry; those of how rules are run are tried with one rule of each kind."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from covering import combinations
from experiments.common.styles import STYLES
from kinds_of_rules import OF_EACH_CLASS, OF_EACH_CLASS_AND_ROUTE, of_each_kind
from slax_neurons import connect, unroll
from slax_rules import (
    RULES,
    Adaptive,
    LayerRule,
    LearningRule,
    SequenceLoss,
    Target,
    cross_entropy,
    gradients,
    squared_error,
    train_offline,
    train_online,
)
from slax_rules.layerwise.passes import as_rule
from stacks import deviation, inputs, pair

T, B = 6, 3
LABELS = np.array([0, 3, 2])
SAME = 1e-11
EDGES = [(0, 0, 1), (1, 0, 1)]
OWN_EDGES = [(0, 0, 1)]

# A rule that is another one with an optimizer around it; those that draw random numbers for each sequence; those that have no
# gradient of parameters of a neuron; those whose hidden layers get the target in place of a gradient.
IN_THE_OPTIMIZER = {"fptt"}
RANDOM = {"uoro"}
FIXED_NEURONS = {"pp_prop", "s_tllr", "tess"}
PROJECTED_TARGETS = {name for name, entry in RULES.items() if entry.route is Target}
each = pytest.mark.parametrize("name", RULES)
each_gradient = pytest.mark.parametrize("name", [name for name in RULES if name not in IN_THE_OPTIMIZER])
each_kind = pytest.mark.parametrize("name", [name for name in of_each_kind() if name not in IN_THE_OPTIMIZER])
deterministic = pytest.mark.parametrize("name", [name for name in RULES if name not in RANDOM | IN_THE_OPTIMIZER])


def subject(name, *, edges=(), dtype=jnp.float32, fixed=True, last="li", head=None):
    """A layer of LIF and a read-out that integrates, without parameters of neurons: some rules are not defined for any."""
    neurons = [
        {"kind": "lif", "decay": 0.8, "threshold": 0.7, "fixed": fixed},
        {"kind": last, "decay": 0.9, "fixed": fixed},
    ]
    model = pair([5, 4, 4], neurons, edges=list(edges), dtype=dtype).model
    if head is not None:
        model.modules.append(connect([head]).modules[0])
    return model


def make(name, model):
    """The rule for a model, which draws the same numbers each time that it is made."""
    return RULES[name].make(rngs=nnx.Rngs(3), model=model)


def edges_of(name):
    return OWN_EDGES if name == "ostl_with_recurrence" else EDGES


def trained_by(model, rule):
    """The argument of an optimizer: the model, together with the rule if that has parameters."""
    return (model, rule) if jax.tree.leaves(nnx.state(rule, nnx.Param)) else model


def tripled(outputs, labels):
    return 3 * cross_entropy(outputs, labels)


def run(name, model, x, window=None, *, loss_fn=cross_entropy, labels=LABELS):
    return gradients(model, loss_fn, x, labels, rule=make(name, model), window=window)[1]


def furthest(ours, theirs):
    return max(deviation(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


@each
def test_every_line_of_the_registry_is_complete(name):
    entry = RULES[name]
    for field in dataclasses.fields(entry):
        value = getattr(entry, field.name)
        if isinstance(value, str):
            assert value.strip() == value, field.name
            assert value, field.name
    assert entry.exact.always == (name in ("bptt", "rtrl"))
    assert str(entry.exact)
    assert entry.updates
    assert set(entry.updates) <= {"offline", "online"}
    assert issubclass(entry.rule, LearningRule | LayerRule)
    assert isinstance(make(name, subject(name)), entry.rule)
    assert entry.bibtex.startswith("@")
    assert entry.bibtex.count("{") == entry.bibtex.count("}")


def test_no_two_rules_look_the_same():
    styles = [STYLES[name] for name in RULES]
    for look in (
        [(style.color,) for style in styles],
        [(style.marker,) for style in styles],
        [(style.hatch,) for style in styles],
    ):
        assert len(set(look)) == len(RULES)
    assert len({entry.title for entry in RULES.values()}) == len(RULES)


@each
def test_a_gradient_changes_nothing_of_the_model(name, x64):
    model = subject(name, edges=edges_of(name), dtype=jnp.float64)
    leaves = jax.tree.leaves(nnx.state(model))
    before = [np.asarray(leaf) for leaf in leaves]
    run(name, model, inputs(T, B, 5))
    for old, new in zip(before, jax.tree.leaves(nnx.state(model)), strict=True):
        np.testing.assert_array_equal(old, new)
    assert bool(jax.tree.leaves(nnx.state(make(name, model), nnx.Param))) == (RULES[name].route is Adaptive)


@pytest.mark.parametrize("wired", [False, True], ids=["chain", "edges"])
def test_a_rule_reads_the_outputs_of_the_plain_forward_pass(wired, optimized):
    """Bit for bit, with the carry after it; and its pass forward alone has the same outputs."""
    x = inputs(T, B, 5, dtype=jnp.float32)

    @jax.jit
    def plain(state, x):
        model = nnx.merge(graphdef, state)
        return unroll(model, model.initialize_carry(x.shape[1:]), x, chunk=T)

    @functools.partial(jax.jit, static_argnums=0)
    def under(name, state, x):
        model, seen = nnx.merge(graphdef, state), []
        rule = as_rule(make(name, model))

        class Nothing:
            probes = ()

            def __call__(self, heads):
                seen.append(heads.outputs)
                return jnp.zeros(()), jax.tree.map(jnp.zeros_like, heads)

            def targets(self, outputs):
                return jnp.zeros_like(outputs)

        plan = rule.plan(model, x.shape[2:])
        start = rule.initialize(
            plan, model, model.initialize_carry(x.shape[1:]), jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
        )
        after = rule.window(plan, model, start, x, Nothing()).state
        heads, alone = rule.forward(plan, model, start, x)
        return after, alone, seen[0], heads.outputs

    for name in OF_EACH_CLASS if wired else RULES:
        graphdef, state = nnx.split(subject(name, edges=edges_of(name) if wired else ()))
        carry, outputs = plain(state, x)
        after, alone, seen, heads = under(name, state, x)
        assert outputs.any()
        np.testing.assert_array_equal(seen, outputs, err_msg=name)
        np.testing.assert_array_equal(heads, outputs, err_msg=name)
        for found in (after, alone):
            mine = getattr(found, "carries", None) or getattr(found, "carry", None) or found
            # A rule for layers leaves out what is read late, of which the neurons' states are the rest.
            mine, theirs = jax.tree.leaves(mine), jax.tree.leaves(carry)
            assert len(mine) == len(theirs)
            jax.tree.map(np.testing.assert_array_equal, mine, theirs)


@deterministic
def test_gradient_is_a_linear_function_of_the_loss_in_the_structure_of_the_parameters(name, x64):
    """Also: the first kernel gets none from silence, and the order of samples is of no account.

    Where targets are projected, it is so for the last layer alone: the others do not see the loss.
    """
    model = subject(name, edges=edges_of(name), dtype=jnp.float64)
    x = inputs(T, B, 5)
    gradient, parameters = run(name, model, x), nnx.state(model, nnx.Param)
    assert jax.tree.structure(gradient) == jax.tree.structure(parameters)
    for mine, parameter in zip(jax.tree.leaves(gradient), jax.tree.leaves(parameters), strict=True):
        assert (mine.shape, mine.dtype) == (parameter.shape, parameter.dtype)
        assert mine.any()
    three_times = jax.tree.map(lambda g: 3 * g, gradient)
    if name in PROJECTED_TARGETS:
        three_times["modules"][0], three_times["synapses"] = gradient["modules"][0], gradient["synapses"]
    assert furthest(run(name, model, x, loss_fn=tripled), three_times) < SAME
    order = np.array([2, 0, 1])
    assert furthest(run(name, model, x[:, order], labels=LABELS[order]), gradient) < SAME
    silent = run(name, model, jnp.zeros_like(x))
    assert not silent["modules"][0]["kernel"][...].any()
    assert silent["modules"][0]["bias"][...].any()


def two_heads(outputs):
    return {"class": outputs, "track": 2 * outputs[..., :2]}


def loss_of_heads(outputs, targets):
    return cross_entropy(outputs["class"], targets["class"]) + squared_error(outputs["track"], targets["track"])


TRACK = np.random.default_rng(0).normal(size=(T, B, 2))
# The loss, the targets, the last neuron, and what is behind it.
LOSSES = {
    "of two heads in each step": (loss_of_heads, {"class": LABELS, "track": TRACK}, "li", two_heads),
    "of spike counts": (SequenceLoss(lambda y, t: cross_entropy(y.sum(axis=0), t)), LABELS, "lif", None),
}
WITH_A_LOSS = combinations([name for name in RULES if name not in IN_THE_OPTIMIZER], LOSSES, strength=1)


@pytest.mark.parametrize("name, loss", WITH_A_LOSS)
def test_loss_and_gradient_are_the_same_for_every_window(name, loss, x64):
    """Windows of one step or of 5, where the last is shorter, and the whole sequence."""
    loss_fn, targets, last, head = LOSSES[loss]
    model = subject(name, edges=edges_of(name), dtype=jnp.float64, fixed=name in FIXED_NEURONS, last=last, head=head)
    x = inputs(T, B, 5)
    found = [gradients(model, loss_fn, x, targets, rule=make(name, model), window=window) for window in (1, 5, T)]
    exact = gradients(model, loss_fn, x, targets)[0]
    for value, gradient in found:
        assert abs(float(value) - float(exact)) < 1e-12
        assert furthest(gradient, found[0][1]) < SAME
    assert all(leaf.any() for leaf in jax.tree.leaves(found[0][1]["modules"]))


@pytest.mark.parametrize("name", ["bptt", "otpe", "rtrl", "decolle"])
def test_a_loss_of_optax_is_the_loss_of_a_step(name, x64):
    model, x = subject(name, dtype=jnp.float64), inputs(T, B, 5)
    ours = gradients(model, cross_entropy, x, LABELS, rule=make(name, model), window=4)
    theirs = gradients(
        model,
        optax.losses.softmax_cross_entropy_with_integer_labels,
        x,
        LABELS,
        rule=make(name, model),
        window=4,
    )
    assert abs(float(ours[0]) - float(theirs[0])) < 1e-12
    assert furthest(ours[1], theirs[1]) < SAME


@pytest.mark.parametrize(
    "name", [name for name in of_each_kind() if "online" in RULES[name].updates and name not in {"tbptt", "fptt"}]
)
def test_steps_online_at_constant_parameters_sum_to_the_deferred_gradient(name, x64):
    """T15 of the rules: an optimizer that adds gradients up and moves nothing. TBPTT cuts at each window online."""
    model = subject(name, edges=edges_of(name), dtype=jnp.float64, fixed=name in FIXED_NEURONS)
    adds_up = optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda gradient, so_far, params: (
            jax.tree.map(jnp.zeros_like, gradient),
            jax.tree.map(jnp.add, so_far, gradient),
        ),
    )
    rule = make(name, model)
    optimizer = nnx.Optimizer(trained_by(model, rule), adds_up, wrt=nnx.Param)
    x = inputs(T, B, 5)
    train_online(model, optimizer, cross_entropy, x, LABELS, rule=rule, window=2)
    deferred = jax.tree.leaves(gradients(model, cross_entropy, x, LABELS, rule=make(name, model))[1])
    summed = jax.tree.map(lambda total: total * 2 / T, jax.tree.leaves(nnx.state(optimizer.opt_state)))
    assert furthest(summed[: len(deferred)], deferred) < SAME
    assert (len(summed) > len(deferred)) == (RULES[name].route is Adaptive)  # those of the rule follow


@pytest.mark.parametrize(
    "name",
    [name for name in of_each_kind() if name not in RANDOM | IN_THE_OPTIMIZER | FIXED_NEURONS],
)
def test_layer_without_synapse_is_the_neuron_on_its_inputs(name, x64):
    """A LIF that reads the inputs themselves: its gradients are those of a layer whose kernel is the identity.

    Not for rules without gradients of parameters of a neuron, nor UORO, whose draws are other ones.
    """
    neuron = {"kind": "lif", "decay": 0.8, "threshold": 0.7}
    model = pair([5, 5, 4], [neuron, {"kind": "li"}], dtype=jnp.float64, use_bias=False).model
    model.modules[0].kernel[...] = jnp.eye(5)
    x = inputs(T, B, 5)
    ours, theirs = (run(name, one, x)["modules"] for one in (connect(model.modules[1:]), model))
    assert furthest([ours[index] for index in ours], [theirs[index + 1] for index in ours]) < SAME


@each_gradient
def test_gradient_is_exact_for_as_many_steps_as_the_registry_says(name, x64):
    """One step for all but DECOLLE and the rules with another route, by which hidden layers get signals of their own."""
    exact = RULES[name].exact
    assert bool(exact.steps) == (name != "decolle" and RULES[name].route is None)
    model = subject(name, edges=edges_of(name), dtype=jnp.float64, fixed=name in FIXED_NEURONS)
    for steps in {1, min(exact.steps, T)} if exact.steps else ():
        x = inputs(steps, B, 5)
        assert furthest(run(name, model, x), run("bptt", model, x)) < SAME


@pytest.mark.parametrize(
    "name", [name for name, entry in RULES.items() if entry.exact.always or entry.exact.last_layers]
)
def test_gradient_is_exact_in_as_many_last_layers_as_the_registry_says(name, x64):
    """Of a stack without edges that meets the conditions of all rules: it ends in an LI, and no reset has a gradient."""
    neurons = [{"kind": "lif", "threshold": 0.7, "stop_reset_gradient": True}] * 2
    model = pair([5, 4, 4, 4], [*neurons, {"kind": "li"}], dtype=jnp.float64).model
    x, count = inputs(T, B, 5), 3 if RULES[name].exact.always else RULES[name].exact.last_layers
    ours, exact = (run(rule, model, x)["modules"] for rule in (name, "bptt"))
    last = range(6 - 2 * count, 6)
    assert furthest([ours[index] for index in last], [exact[index] for index in last]) < SAME
    if count < 3:
        assert deviation(ours[4 - 2 * count]["kernel"][...], exact[4 - 2 * count]["kernel"][...]) > 0.01


def test_memory_does_not_grow_with_time(optimized):
    """XLA's temporaries of 4 and of 16 windows, for each class of rules that work layer by layer, and each route."""
    for name in OF_EACH_CLASS_AND_ROUTE:
        if issubclass(RULES[name].rule, LayerRule):
            assert temporaries(name, 4) == temporaries(name, 16), name


def temporaries(name, windows):
    graphdef, state = nnx.split(subject(name))

    @jax.jit
    def gradient(state, x):
        model = nnx.merge(graphdef, state)
        return gradients(model, cross_entropy, x, jnp.asarray(LABELS), rule=make(name, model), window=8)[1]

    return gradient.lower(state, jnp.zeros((8 * windows, B, 5))).compile().memory_analysis().temp_size_in_bytes


@each_kind
def test_a_second_call_traces_nothing(name):
    """Of `gradients` and of the training step, called as they are; with other numbers, and a rule that is made anew."""
    traced = 0

    def counting(outputs, labels):
        nonlocal traced
        traced += 1
        return cross_entropy(outputs, labels)

    def call(seed):
        x, labels = inputs(T, B, 5, seed, jnp.float32), jnp.asarray(np.roll(LABELS, seed))
        gradients(model, counting, x, labels, rule=make(name, model))
        train_offline(model, optimizer, counting, x, labels, rule=make(name, model))
        if "online" in RULES[name].updates:
            train_online(model, optimizer, counting, x, labels, rule=make(name, model), window=2)

    model = subject(name)
    optimizer = nnx.Optimizer(trained_by(model, make(name, model)), optax.sgd(0.1), wrt=nnx.Param)
    call(0)
    first = traced
    assert first
    for seed in range(1, 3):
        call(seed)
    assert traced == first


@each_kind
def test_a_rule_is_an_argument_of_nnx_jit(name, x64):
    model, x = subject(name, edges=edges_of(name), dtype=jnp.float64), inputs(T, B, 5)

    @nnx.jit
    def gradient(model, rule):
        return gradients(model, cross_entropy, x, LABELS, rule=rule)

    expected = gradients(model, cross_entropy, x, LABELS, rule=make(name, model))
    assert furthest(gradient(model, make(name, model)), expected) < SAME


@each_kind
def test_gradient_is_the_same_inside_jit_and_vmap_over_models(name, x64):
    models = [subject(name, edges=edges_of(name), dtype=jnp.float64) for _ in range(2)]
    models[1].modules[0].kernel[...] *= 0.9
    graphdef, _ = nnx.split(models[0])
    xs = jnp.stack([inputs(T, B, 5, seed) for seed in (0, 1)])
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(nnx.state(model) for model in models))

    @jax.jit
    @jax.vmap
    def gradient(state, x):
        model = nnx.merge(graphdef, state)
        return gradients(model, cross_entropy, x, LABELS, rule=make(name, model))

    loss, found = gradient(states, xs)
    for index, model in enumerate(models):
        expected = gradients(model, cross_entropy, xs[index], LABELS, rule=make(name, model))
        assert furthest(jax.tree.map(lambda leaf, index=index: leaf[index], (loss, found)), expected) < SAME


def test_kernels_of_a_last_layer_are_exact_where_the_registry_says_so_of_kernels(x64):
    """Of a read-out without spikes; its bias has no trace, and the hidden layer's gradient is another one."""
    found = {name: entry for name, entry in RULES.items() if "kernels of" in str(entry.exact)}
    assert set(found) == {"s_tllr", "tess", "etlp"}
    model, x = subject("bptt", dtype=jnp.float64), inputs(T, B, 5)
    exact = run("bptt", model, x)["modules"]
    for name in found:
        ours = run(name, model, x)["modules"]
        assert deviation(ours[2]["kernel"][...], exact[2]["kernel"][...]) < SAME
        assert deviation(ours[2]["bias"][...], exact[2]["bias"][...]) > 0.01
        assert deviation(ours[0]["kernel"][...], exact[0]["kernel"][...]) > 0.01


def test_a_last_layer_without_memory_is_exact_where_the_registry_says_so(x64):
    neurons = [{"kind": "lif", "threshold": 0.7, "fixed": True}, {"kind": "none"}]
    model, x = pair([5, 4, 4], neurons).model, inputs(T, B, 5)
    exact = run("bptt", model, x)["modules"]
    for name in ("dfa", "drtp"):
        assert "the last layer, where its neurons have no memory" in str(RULES[name].exact)
        ours = run(name, model, x)["modules"]
        assert furthest(ours[2], exact[2]) < SAME
        assert deviation(ours[0]["kernel"][...], exact[0]["kernel"][...]) > 0.01
