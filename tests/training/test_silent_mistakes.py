"""Mistakes that would be silent and wrong: each gets a warning, an error that names the cure, or the result that was meant."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_data import bin_events
from slax_neurons import LI, LIF, SpikingNeuron, connect
from slax_neurons.nir import from_nir, to_nir

INPUTS = jax.random.bernoulli(jax.random.key(0), 0.4, (12, 4, 8)).astype(jnp.float32)
LABELS = jnp.array([0, 1, 2, 0])
BATCH = (INPUTS, LABELS)


def stack(*middle, seed=0):
    rngs = seed if isinstance(seed, nnx.Rngs) else nnx.Rngs(seed)
    return connect([nnx.Linear(8, 6, rngs=rngs), *(middle or [LIF()]), nnx.Linear(6, 3, rngs=rngs), LI()])


def run(batches, model=None, optimizer=None, **how):
    model = model or stack()
    optimizer = optimizer or nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    return sr.fit(model, optimizer, sr.cross_entropy, batches, progress=False, **how)


class Own(SpikingNeuron):
    """A neuron whose `fire` or `integrate` a test replaces."""

    def integrate(self, carry, inputs):
        return 0.9 * carry + inputs

    def fire(self, membrane):
        return self.spike(membrane)


def draw(key):
    return jax.random.bernoulli(key, 0.4, (12, 4, 8)).astype(jnp.float32), LABELS


@pytest.mark.parametrize("how", [{}, {"update": "online", "window": 5, "rule": sr.OTPE()}], ids=["offline", "online"])
def test_calls_with_one_sampler_and_optimizer_draw_other_batches(how):
    """With one update per batch, they are one call with more epochs. A window may have no update."""
    drawn = []
    batches = sr.Sampler(lambda key: (*draw(key), sr.last_step(jnp.full(4, 12), 12)), jax.random.key(3), steps=2)
    models = stack(), stack()
    optimizers = [nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param) for model in models]
    look = sr.Every(1, lambda info: drawn.append(np.asarray(info.batch[0]).tobytes()))
    apart = [run(batches, models[0], optimizers[0], callbacks=[look], **how).losses for _ in range(3)]
    assert len(set(drawn)) == 6
    if not how:
        once = run(batches, models[1], optimizers[1], epochs=3).losses
        np.testing.assert_array_equal(np.concatenate(apart), once)


def test_a_run_with_a_sampler_resumes_in_the_same_process(tmp_path):
    batches = sr.Sampler(draw, jax.random.key(3), steps=4)
    models = stack(), stack()
    optimizers = [nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param) for model in models]
    for epochs in (2, 3):
        found = run(batches, models[0], optimizers[0], epochs=epochs, checkpoints=sr.Checkpoints(tmp_path, every=2))
    np.testing.assert_array_equal(found.losses, run(batches, models[1], optimizers[1], epochs=3).losses)


def swapped(neuron, membrane):
    return neuron.spike(membrane)[::-1]


def test_errors_of_an_own_neuron_name_it(monkeypatch):
    monkeypatch.setattr(Own, "fire", swapped)
    for rule in (sr.BPTT(), sr.OTPE()):
        with pytest.raises(TypeError, match=r"Own, whose outputs are no whole numbers.*return carry, spikes"):
            sr.gradients(stack(Own()), sr.cross_entropy, *BATCH, rule=rule)


KEY = jax.random.key(0)
TIMES = np.arange(20.0)


def dropped():
    rngs = nnx.Rngs(0)
    model = stack(LIF(), nnx.Dropout(0.5, rngs=rngs))
    model.eval()
    return run([BATCH], model)


def ended():
    model = stack()
    rate = lambda count: jnp.where(count < 5, 0.1, 0.0)  # noqa: E731
    run([BATCH] * 30, model, nnx.Optimizer(model, optax.sgd(rate), wrt=nnx.Param))


SAMPLER = sr.Sampler(draw, KEY, steps=1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: run(SAMPLER, held_out=sr.Sampler(draw, KEY, steps=3)), "the training batches as held_out"),
        (lambda: run([((255 * INPUTS).astype(jnp.uint8), LABELS)]), "inputs up to 255"),
        (dropped, "whose Dropout is off"),
        (ended, "The last 25 of 30 steps changed no parameter"),
        (lambda: to_nir(stack(), dt=1e-3, input_shape=(8,)), "which other frameworks read as a reset to zero"),
        (lambda: bin_events(TIMES, np.zeros(20, int), n_units=1, n_steps=2, duration=2.0, outside="drop"), "18 of 20"),
        (lambda: streamed(stack(), sr.BPTT()), "start_stream got BPTT and no window"),
        (
            lambda: run([BATCH] * 2, held_out=[(1 - INPUTS, LABELS)], evaluate_every=3),
            "took 2 steps, and evaluate_every=3",
        ),
    ],
)
def test_is_warned_of(call, says):
    with pytest.warns(UserWarning, match=says):
        call()


OF_OTPE = sr.OTPE()


def streamed(model, rule=OF_OTPE):
    optimizer = nnx.Optimizer(model, optax.sgd(0.5), wrt=nnx.Param)
    return sr.start_stream(model, optimizer, sr.cross_entropy, (4, 8), rule=rule)


def test_a_stream_gives_its_own_model_alone_what_it_learned():
    model = stack()
    before = model.modules[0].kernel[...]
    stream = sr.extend_stream(streamed(model), INPUTS, jnp.tile(LABELS, (12, 1))).stream
    np.testing.assert_array_equal(model.modules[0].kernel[...], before)
    for other in (model, stack(seed=1)):
        stream.copy_to(other)
        np.testing.assert_array_equal(other.modules[0].kernel[...], stream.model.modules[0].kernel[...])
    assert not np.array_equal(model.modules[0].kernel[...], before)
    for other in (stack(nnx.Linear(6, 6, rngs=nnx.Rngs(0)), LIF()), connect(model.modules[2:])):
        with pytest.raises(ValueError, match="copy_to got another model"):
            stream.copy_to(other)


def test_resistance_may_go_into_the_weights_for_readers_that_ignore_it():
    model = stack(LIF(reset="zero"))
    plain, folded = (to_nir(model, dt=1e-3, input_shape=(8,), fold_r=fold) for fold in (False, True))
    for name in ("lif_1", "li_3"):
        assert np.all(folded.nodes[name].r == 1) and np.all(plain.nodes[name].r != 1)
    again = from_nir(folded, dt=1e-3)
    one, other = (net.outputs(net.initialize_carry((4, 8)), INPUTS)[1][-1] for net in (model, again))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
