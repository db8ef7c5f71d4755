"""Laws that hold for each neuron in the table, with its default options: a new line there is tested here."""

import copy
import inspect
import pickle
import typing
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
from flax import nnx

from slax_neurons import NEURONS, Neuron, Surrogate, Trainable, connect, unroll
from slax_neurons.parameter import Parameter, ParameterValue
from slax_rules import OSTL, cross_entropy, gradients
from stacks import deviation, inputs, linear

T, B, N = 10, 3, 4
LABELS = jnp.array([0, 3, 2])

# What a current must be multiplied by to make a neuron fire now and then; 1 where nothing is said.
GAIN = {"adlif": 10.0, "brf": 200.0}


def parameters(kind):
    """The arguments of the constructor that are numbers or trainable, those of `**spike_options` included."""
    annotations = {}
    for argument in inspect.signature(NEURONS[kind].__init__).parameters.values():
        if argument.kind is argument.VAR_KEYWORD:
            annotations |= typing.get_type_hints(typing.get_args(argument.annotation)[0])
        else:
            annotations[argument.name] = argument.annotation
    return [name for name, annotation in annotations.items() if annotation == ParameterValue | Trainable]


neurons = pytest.mark.parametrize("kind", NEURONS)
elementwise = pytest.mark.parametrize("kind", [kind for kind in NEURONS if issubclass(NEURONS[kind], Neuron)])
each_parameter = pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in NEURONS for name in parameters(kind)]
)


def make(kind, **options):
    """A neuron of the table for N units: one that is not element-wise takes a size and random numbers."""
    if not issubclass(NEURONS[kind], Neuron):
        options = {"features": N, "rngs": nnx.Rngs(0), **options}
    return NEURONS[kind](**options)


def default(kind, name):
    return getattr(make(kind), name).number


def per_neuron(kind, name):
    """Numbers near the default, inside any domain around it."""
    return default(kind, name) * np.linspace(0.9, 1.0, N)


def trainable(kind, **options):
    """With all parameters trainable, one number per neuron."""
    return make(kind, **{name: Trainable(per_neuron(kind, name)) for name in parameters(kind)}, **options)


def currents(kind, dtype=None):
    return (GAIN.get(kind, 1.0) * (jax.random.normal(jax.random.key(0), (T, B, N)) + 0.3)).astype(dtype)


def run(neuron, x, **options):
    """By the scan with our derivative; that "plain", the default for so few steps, equals it is tested with the kernels."""
    return unroll(neuron, neuron.initialize_carry(x.shape[1:]), x, **{"kernel": "scan", **options})


def check_active(neuron, outputs):
    """No law may hold for want of spikes, or of silence."""
    assert not neuron.spikes or 0.02 < np.mean(outputs) < 0.98
    assert np.any(outputs)


def compare(kind, ours, theirs):
    """Equal, and up to the order of summation where units see each other."""
    exact = issubclass(NEURONS[kind], Neuron)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0 if exact else 1e-12, atol=0), ours, theirs)


def random_like(tree, seed):
    leaves, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    draws = [jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, draws)


def inner(a, b):
    return sum(float(jnp.vdot(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@neurons
def test_at_rest_nothing_happens_without_a_current(kind):
    neuron = make(kind)
    rest = neuron.initialize_carry((B, N))
    carry, output = neuron(rest, jnp.zeros((B, N)))
    assert not output.any()
    if isinstance(neuron, Neuron):
        assert not any(leaf.any() for leaf in jax.tree.leaves((rest, carry)))
    else:
        assert not rest.u.any()
        assert not carry.u.any()


@neurons
@pytest.mark.parametrize("shape", [(N,), (B, N), (B, 2, 5, N)])
def test_carry_has_the_shape_of_the_current(kind, shape):
    neuron = make(kind)
    carry, output = neuron(neuron.initialize_carry(shape), jnp.zeros(shape))
    assert {leaf.shape for leaf in jax.tree.leaves((neuron.initialize_carry(shape), carry, output))} == {shape}


@neurons
@pytest.mark.parametrize("build", [make, trainable], ids=["numbers", "trainable arrays"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_structure_and_dtype_of_the_carry_are_kept(kind, build, dtype):
    with jax.enable_x64(dtype == "float64"):
        neuron = build(kind, param_dtype=dtype)
        rest = jax.eval_shape(lambda: neuron.initialize_carry((B, N)))
        carry, outputs = jax.eval_shape(lambda x: run(neuron, x), currents(kind, dtype))
        assert jax.tree.structure(carry) == jax.tree.structure(rest)
        assert {leaf.dtype for leaf in jax.tree.leaves((rest, carry, outputs))} == {jnp.dtype(dtype)}
        assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(neuron))} <= {jnp.dtype(dtype)}


@neurons
def test_unroll_equals_step_by_step_and_the_stock_rnn(kind, x64, optimized):
    neuron, x = make(kind, param_dtype=jnp.float64), currents(kind)
    theirs = nnx.RNN(neuron, time_major=True, return_carry=True)(x)
    check_active(neuron, theirs[1])
    for chunk in (1, 3, None):
        compare(kind, run(neuron, x, chunk=chunk), theirs)
    step = jax.jit(lambda carry, current: neuron(carry, current))
    carry, outputs = neuron.initialize_carry((B, N)), []
    for current in x:
        carry, output = step(carry, current)
        outputs.append(output)
    compare(kind, (carry, jnp.stack(outputs)), theirs)


@neurons
def test_the_gradient_is_that_of_the_stock_rnn(kind, x64):
    """By all parameters, the currents and the first carry, of the outputs and the last carry."""
    neuron, x = trainable(kind, param_dtype=jnp.float64), currents(kind)
    start = random_like(neuron.initialize_carry((B, N)), 1)
    weights = random_like(jax.eval_shape(lambda: unroll(neuron, start, x)), 2)

    def stock(neuron, start, x):
        return nnx.RNN(neuron, time_major=True, return_carry=True)(x, initial_carry=start)

    def gradient(function):
        def loss(neuron, start, x):
            results = function(neuron, start, x)
            return sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (weights, results)), strict=True))

        return nnx.jit(nnx.grad(loss, argnums=(0, 1, 2)))(neuron, start, x)

    ours, theirs = gradient(unroll), gradient(stock)
    assert max(jax.tree.leaves(jax.tree.map(deviation, ours, theirs))) < 1e-11
    assert all(leaf.any() for leaf in jax.tree.leaves(theirs))


@neurons
def test_a_batch_equals_its_samples(kind, x64):
    neuron, x = trainable(kind, param_dtype=jnp.float64), currents(kind)
    batch = run(neuron, x)
    check_active(neuron, batch[1])
    for b in range(B):
        alone = run(neuron, x[:, b : b + 1])
        of_batch = jax.tree.map(lambda leaf, b=b: leaf[b : b + 1], batch[0]), batch[1][:, b : b + 1]
        # Programs of two shapes, which need not round alike.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=0), alone, of_batch)


@elementwise
def test_units_do_not_see_each_other(kind, x64):
    """The Jacobian of all outputs by all currents is zero across samples and units."""
    neuron, x = trainable(kind, param_dtype=jnp.float64), currents(kind)
    jacobian = jax.jacobian(lambda x: run(neuron, x)[1])(x)
    across = np.array(jacobian).reshape(T, B * N, T, B * N)
    assert across.any()
    across[:, np.arange(B * N), :, np.arange(B * N)] = 0
    assert not across.any()


@neurons
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_stay_finite_under_large_currents(kind, dtype):
    neuron, x = trainable(kind, param_dtype=dtype), 1e3 * jax.random.normal(jax.random.key(0), (T, B, N), dtype)

    def loss(neuron, x):
        carry, outputs = run(neuron, x)
        return sum(leaf.sum() for leaf in jax.tree.leaves((carry, outputs))), outputs

    by_neuron_and_current, outputs = nnx.jit(nnx.grad(loss, argnums=(0, 1), has_aux=True))(neuron, x)
    check_active(neuron, outputs)
    for leaf in jax.tree.leaves(by_neuron_and_current):
        assert leaf.dtype == jnp.dtype(dtype)
        assert jnp.isfinite(leaf).all()


@neurons
def test_forward_and_reverse_mode_agree(kind, x64):
    """<cotangent, J tangent> = <J^T cotangent, tangent>, by the currents, the first carry and all parameters."""
    neuron, x = trainable(kind, param_dtype=jnp.float64), currents(kind)
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)
    point = (params, neuron.initialize_carry((B, N)), x)
    tangents = random_like(point, 1)

    @jax.jit
    def products(point, tangents):
        def function(params, carry, x):
            return unroll(nnx.merge(graphdef, params, rest), carry, x, kernel="scan")

        results, forward = jax.jvp(function, point, tangents)
        cotangents = random_like(results, 2)
        return results, forward, cotangents, jax.vjp(function, *point)[1](cotangents)

    results, forward, cotangents, reverse = products(point, tangents)
    check_active(neuron, results[1])
    assert inner(cotangents, forward) == pytest.approx(inner(reverse, tangents), rel=1e-10)
    assert all(leaf.any() for leaf in jax.tree.leaves(reverse))


@elementwise
def test_the_reverse_pass_keeps_one_array_per_state_and_the_current_only_where_it_is_multiplied(kind):
    """Whatever is trainable; only AdLIF has a trainable factor of the current, 1 - decay."""
    neuron, x = trainable(kind), currents(kind)
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)
    states = len(jax.tree.leaves(neuron.initialize_carry((B, N))))
    _, pull = jax.vjp(lambda params, x: run(nnx.merge(graphdef, params, rest), x)[1], params, x)
    kept = [leaf for leaf in jax.tree.leaves(pull) if leaf.size >= T * B * N]
    assert len(kept) <= states + (kind == "adlif")


@elementwise
def test_every_parameter_is_an_attribute_of_its_name(kind):
    attributes = {name for name, value in vars(make(kind)).items() if isinstance(value, Parameter)}
    assert attributes == set(parameters(kind))


@each_parameter
def test_a_parameter_can_be_a_number_or_an_array_and_either_can_be_trainable(kind, name, x64):
    """One step from any state: an array is a number for each neuron, and a trainable one computes the same."""

    def step(value):
        neuron = make(kind, **{name: value}, param_dtype=jnp.float64)
        carry = random_like(neuron.initialize_carry((20_000, N)), 0)
        return neuron(carry, GAIN.get(kind, 1.0) * random_like(jnp.zeros((20_000, N)), 1))

    values = per_neuron(kind, name)
    alone = [step(value) for value in values]
    expected = jax.tree.map(lambda *leaves: np.stack([leaf[:, n] for n, leaf in enumerate(leaves)], axis=1), *alone)
    check_active(make(kind), expected[1])
    for ours, theirs in (
        (step(values), expected),
        (step(Trainable(values)), expected),
        (step(Trainable(values[0])), alone[0]),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), ours, theirs)
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, expected, alone[0])))


@each_parameter
@pytest.mark.parametrize("mark", [lambda value: value, Trainable], ids=["fixed", "trainable"])
def test_a_parameter_of_another_size_is_an_error(kind, name, mark):
    neuron = make(kind, **{name: mark(np.full(N - 1, default(kind, name)))})
    message = rf"{NEURONS[kind].__name__} {name} has shape \(3,\), but .* features of shape \(4,\)"
    with pytest.raises(ValueError, match=message):
        run(neuron, currents(kind))


@each_parameter
def test_a_parameter_is_a_param_only_where_it_is_marked(kind, name):
    for value in (default(kind, name), per_neuron(kind, name)):
        assert not jax.tree.leaves(nnx.state(make(kind, **{name: value}), nnx.Param))
        marked = nnx.state(make(kind, **{name: Trainable(value)}), nnx.Param)
        assert [path for path, _ in nnx.to_flat_state(marked)] == [(name, "unconstrained")]


@neurons
def test_it_spikes_if_it_says_so(kind):
    neuron, x = make(kind), currents(kind)
    outputs = run(neuron, x)[1]
    assert neuron.spikes == (set(np.unique(outputs)) == {0, 1})
    assert neuron.spikes == isinstance(getattr(neuron, "spike_fn", None), Surrogate)


@neurons
def test_membrane_is_what_integrates_the_current(kind, x64):
    """One array of the carry: a small current reaches it within the step, in the sign of the current."""
    neuron = make(kind, param_dtype=jnp.float64)
    rest = neuron.initialize_carry((B, N))
    response = jax.jvp(
        lambda current: neuron.membrane(neuron(rest, current)[0]), (jnp.zeros((B, N)),), (jnp.ones((B, N)),)
    )[1]
    assert response.shape == (B, N)
    assert any(neuron.membrane(rest) is leaf for leaf in jax.tree.leaves(rest))
    assert (response > 0).all()


@elementwise
@pytest.mark.parametrize("mark", [lambda value: value, Trainable], ids=["fixed", "trainable"])
def test_membrane_decay_is_the_derivative_of_the_membrane_where_nothing_fires(kind, mark, x64):
    """Of u_t by u_{t-1}, with a spike function without derivative; of each unit its own if there is no single number."""
    options = {name: mark(default(kind, name)) for name in parameters(kind)}
    neuron = make(kind, **options, param_dtype=jnp.float64)
    if neuron.spikes:
        neuron = neuron.replace(spike_fn=Surrogate(jnp.zeros_like))
    rest = neuron.initialize_carry((B, N))

    def membrane(u):
        carry = rest._replace(u=u) if hasattr(rest, "_replace") else u
        return neuron.membrane(neuron(carry, jnp.zeros((B, N)))[0])

    _, slope = jax.jvp(membrane, (neuron.membrane(rest),), (jnp.ones((B, N)),))
    if kind == "brf":  # two states that turn into each other
        assert neuron.membrane_decay is None
    else:
        np.testing.assert_allclose(slope, np.full((B, N), neuron.membrane_decay), rtol=1e-12)
    if "decay" in parameters(kind):
        assert make(kind, decay=mark(per_neuron(kind, "decay"))).membrane_decay is None


@neurons
def test_a_copy_with_another_attribute_steps_as_a_neuron_that_was_made_with_it(kind, x64):
    x, name = currents(kind), parameters(kind)[-1] if parameters(kind) else "threshold"
    value = 3 * getattr(make(kind), name) if kind == "ltc" else Trainable(per_neuron(kind, name))
    neuron = make(kind, param_dtype=jnp.float64)
    before = run(neuron, x)
    copy = neuron.replace(**{name: value})
    expected = run(make(kind, **{name: value}, param_dtype=jnp.float64), x)
    jax.tree.map(np.testing.assert_array_equal, run(copy, x), expected)
    jax.tree.map(np.testing.assert_array_equal, run(neuron, x), before)
    assert not np.array_equal(before[1], expected[1])
    assert type(copy) is type(neuron)


@elementwise
def test_parameters_per_channel_and_per_unit_of_an_image(kind):
    """The last axes of the state are those of an array; the others share it."""
    image = GAIN.get(kind, 1.0) * jax.random.normal(jax.random.key(0), (B, 5, 2, N))

    def step(shape):
        options = {name: np.broadcast_to(per_neuron(kind, name), shape) for name in parameters(kind)}
        neuron = make(kind, **options)
        return neuron(random_like(neuron.initialize_carry(image.shape), 1), image)

    channels, units = step((N,)), step((5, 2, N))
    check_active(make(kind), channels[1])
    jax.tree.map(np.testing.assert_array_equal, channels, units)


@neurons
def test_neurons_that_are_built_alike_are_traced_once(kind):
    one, other = nnx.graphdef(trainable(kind)), nnx.graphdef(trainable(kind))
    assert one == other
    assert hash(one) == hash(other)
    assert one != nnx.graphdef(trainable(kind, param_dtype=jnp.bfloat16))


class Whole(Neuron):
    """A neuron of one's own that defines `__call__` alone."""

    def __init__(self):
        super().__init__()
        self.gain = nnx.Param(jnp.ones(()))

    def __call__(self, carry, inputs):
        return carry + jnp.tanh(self.gain * inputs), carry


CELLS = {kind: partial(trainable, kind) for kind in NEURONS} | {
    "without integrate and fire": Whole,
    "a Flax cell": lambda: nnx.SimpleCell(N, N, rngs=nnx.Rngs(0)),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_change_of_the_parameters_shows_in_the_next_unroll(name):
    """Outside jit, where JAX keeps what it once traced."""
    neuron, x = CELLS[name](), 10 * currents("lif")

    def run(neuron, x):
        return unroll(neuron, neuron.initialize_carry((B, N), nnx.Rngs(0)), x)

    before = run(neuron, x)
    nnx.update(neuron, jax.tree.map(lambda leaf: leaf - 1, nnx.state(neuron)))
    after = run(neuron, x)
    jax.tree.map(np.testing.assert_array_equal, after, run(nnx.clone(neuron), x))
    assert not np.array_equal(before[1], after[1])


@neurons
def test_a_neuron_can_be_made_inside_a_traced_function(kind):
    _, outputs = jax.eval_shape(lambda x: run(trainable(kind), x), currents(kind))
    assert outputs.shape == (T, B, N)


@neurons
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda neuron: pickle.loads(pickle.dumps(neuron)), nnx.clone])
def test_a_copy_is_equal_and_shares_nothing(kind, copied):
    neuron = trainable(kind)
    other = copied(neuron)
    assert nnx.graphdef(other) == nnx.graphdef(neuron)
    before = jax.tree.map(np.array, nnx.state(neuron))
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.array, nnx.state(other)), before)
    nnx.update(other, jax.tree.map(lambda leaf: leaf + 1, nnx.state(other)))
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.array, nnx.state(neuron)), before)


@neurons
def test_a_model_comes_back_from_a_checkpoint(kind, tmp_path):
    """Written by orbax and read into a model with other numbers, trained and fixed ones alike."""

    def model(seed, factor):
        marks = [Trainable, lambda value: value]
        options = {
            name: marks[i % 2](factor * per_neuron(kind, name)) for i, name in enumerate(reversed(parameters(kind)))
        }
        options = options if issubclass(NEURONS[kind], Neuron) else {"rngs": nnx.Rngs(seed)}
        return connect([linear(7, N, seed, jnp.float32), make(kind, **options)])

    saved, other = model(0, 1.0), model(1, 0.9)
    x = GAIN.get(kind, 1.0) * inputs(T, B, 7, dtype=jnp.float32)
    expected = run(saved, x)
    check_active(saved.modules[1], expected[1])
    assert not np.array_equal(run(other, x)[1], expected[1])
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", nnx.state(saved))
        checkpointer.wait_until_finished()
        nnx.update(other, checkpointer.restore(tmp_path / "state", nnx.state(other)))
    jax.tree.map(np.testing.assert_array_equal, run(other, x), expected)


@elementwise
def test_ostl_is_exact_where_the_neuron_is_the_last_layer(kind, x64):
    model = connect([linear(7, N, 0), trainable(kind, param_dtype=jnp.float64)])
    model.modules[0].kernel[...] *= GAIN.get(kind, 1.0)
    x = inputs(T, B, 7)
    check_active(model.modules[1], run(model, x)[1])
    exact = gradients(model, cross_entropy, x, LABELS)[1]
    online = gradients(model, cross_entropy, x, LABELS, rule=OSTL(), window=5)[1]
    assert max(jax.tree.leaves(jax.tree.map(deviation, online, exact))) < 1e-11
    assert all(leaf.any() for leaf in jax.tree.leaves(exact))
