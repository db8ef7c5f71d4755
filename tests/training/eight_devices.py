"""Several devices give the numbers of one, and share the work: tests for a process with eight virtual devices of a CPU.

`in_a_process` runs them, since the number of devices is fixed when JAX starts.
"""

import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import LI, LIF, Dropout, Edge, RunningNorm, connect
from slax_rules.devices import as_mesh
from slax_rules.step import Step
from training.small import MOMENTUM as SGD
from training.small import optimizer_of

T, B, N, H, C = 6, 8, 3, 4, 3
DEVICES = 8
MEAN = sr.SequenceLoss(lambda y, labels, *mask: sr.cross_entropy(y.mean(axis=0), labels))
PENALTIES = (sr.firing_rate(0.1, 3.0),)
KINDS = ["e_prop_adaptive"]  # traces, and weights of the rule that learn; the others are for the night
NOISY = {"uoro", "kf_rtrl", "forward_gradient", "node_perturbation", "opzo"}  # whose noise is of a full batch
WITH_EDGES = ("bptt", "ostl_with_recurrence", "e_prop_random", "e_prop_adaptive")
DRAWS = np.random.default_rng(0)
INPUTS, LABELS = (DRAWS.random((T, B, N)) < 0.5).astype(float), np.arange(B) % C
# Some devices have samples that do not count, and of eight one has nothing but such; one window is masked whole.
MASK = (DRAWS.random((T, B)) < 0.5) & (np.arange(B) > 0) & (np.arange(T) > 1)[:, None]


def in_a_process(selected):
    """Runs the tests of this file whose names are selected; returns the code of the exit and what was printed."""
    # A device waits for the others in a thread of XLA's pool, which has one for each device and processor.
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    command = [sys.executable, "-m", "pytest", "-xq", "-n", "0", "-p", "no:cacheprovider", __file__, "-k", selected]
    env = os.environ | {"NPROC": "64", "XLA_FLAGS": flags}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1800)
    return done.returncode, done.stdout


def make(*, dtype=jnp.float64, modules=(), edges=False):
    """Two layers of spiking neurons and a read-out, with a delayed edge or not."""
    options = {"rngs": nnx.Rngs(0), "param_dtype": dtype}
    layers = [nnx.Linear(N, H, **options), *modules, LIF(decay=0.8, threshold=0.4, param_dtype=dtype)]
    layers += [nnx.Linear(H, H, **options), LIF(decay=0.6, threshold=0.3, param_dtype=dtype)]
    layers += [nnx.Linear(H, C, **options), LI(param_dtype=dtype)]
    return connect(layers, [Edge(1, 0, 2)] if edges else [], rngs=options["rngs"])


def batch_norm(rngs):
    """A BatchNorm in float64: Flax makes its statistics in float32, and JAX warns of what is written to them."""
    norm = nnx.BatchNorm(H, rngs=rngs, param_dtype=jnp.float64, dtype=jnp.float64)
    norm.mean, norm.var = (nnx.BatchStat(jnp.asarray(one[...], jnp.float64)) for one in (norm.mean, norm.var))
    return norm


def batch(devices, dtype=np.float64):
    """Inputs, labels and mask, split over devices."""
    whole = tuple(map(jnp.asarray, (INPUTS.astype(dtype), LABELS, MASK)))
    return sr.split_batch(whole, jax.devices()[:devices]) if devices > 1 else whole


def deviation(measure, devices=DEVICES):
    """The largest difference of what is measured on several devices and on one, relative to the largest number."""
    assert jax.device_count() == DEVICES
    ours, theirs = (list(map(np.asarray, jax.tree.leaves(jax.device_get(measure(count))))) for count in (devices, 1))
    scale = max(np.abs(b).max() for b in theirs)
    return float(max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True)) / scale)


def of_rule(name):
    """The gradient in windows under a mask, or the loss and the parameters after training online, which rules have in turn."""
    entry = sr.RULES[name]

    def measure(devices):
        model = make(edges=name in WITH_EDGES)
        rule = entry.make(rngs=nnx.Rngs(5), model=model)
        optimizer = optimizer_of(model, rule, entry.optimizer(SGD) if entry.optimizer else SGD)
        inputs, labels, mask = batch(devices)
        options = {"rule": rule, "window": 2, "penalties": PENALTIES}
        if "online" not in entry.updates or list(sr.RULES).index(name) % 2:
            found = sr.gradients(model, MEAN, inputs, labels, mask, **options)
        else:
            found = sr.train_online(model, optimizer, sr.cross_entropy, inputs, labels, mask, **options)
        return found, nnx.state((model, rule), nnx.Param)

    return measure


def of_norms(devices):
    """Loss, gradient and statistics of norms that add up over the sequence or take a batch, and on a late edge."""
    options = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
    norms = [RunningNorm(nnx.Linear(n, H, **options)) for n in (N, H)]
    layers = [norms[0], LIF(threshold=0.4, param_dtype=jnp.float64), batch_norm(options["rngs"])]
    model = connect([*layers, nnx.Linear(H, C, **options)], [Edge(1, 0, 2, norms[1])])
    inputs, labels, mask = batch(devices)
    return sr.gradients(model, sr.cross_entropy, inputs, labels, mask), nnx.state(model, nnx.BatchStat)


def there(devices):
    return {"devices": jax.devices()[:devices] if devices > 1 else None}


def of_fit(devices):
    """What `fit` makes of a BatchNorm and a Dropout, and numbers of a held-out set whose last batch cannot be split."""
    rngs = nnx.Rngs(1)
    model = make(modules=[batch_norm(rngs), Dropout(0.3, per="sequence", rngs=rngs)])
    optimizer, where = optimizer_of(model), there(devices)
    batches = [(INPUTS, LABELS, MASK), (INPUTS[::-1], LABELS, MASK)]
    history = sr.fit(model, optimizer, sr.cross_entropy, batches, epochs=2, **where)
    held_out = [(INPUTS, LABELS), (INPUTS[:, :5], LABELS[:5])]
    found = sr.evaluate(model, sr.cross_entropy, held_out, metrics={"accuracy": sr.accuracy}, **where)
    floats = [leaf for leaf in jax.tree.leaves(nnx.state((model, optimizer))) if leaf.dtype == jnp.float64]
    return floats, history.losses, found, sr.predict(model, INPUTS, **where)


def of_sampled_fit(devices):
    """Batches by key, with targets per step and an optimizer step for each window."""

    def sample(key):
        inputs = jax.random.bernoulli(key, 0.4, (T, B, N)).astype(float)
        return inputs, jnp.tile(jnp.arange(B) % C, (T, 1)), inputs[..., 0] > 0

    model, sampler = make(), sr.Sampler(sample, jax.random.key(3), 3)
    options = {"rule": sr.RULES["ottt"].make(), "update": "online", "window": 3, **there(devices)}
    history = sr.fit(model, optimizer_of(model), sr.cross_entropy, sampler, **options)
    return nnx.state(model, nnx.Param), history.losses


@pytest.mark.parametrize("name", KINDS)
def test_a_rule_gives_the_numbers_of_one_device(name, x64):
    assert deviation(of_rule(name)) < 1e-12


@pytest.mark.parametrize("name", sorted(sr.RULES.keys() - {*NOISY, *KINDS}))
def test_another_rule_gives_the_numbers_of_one_device(name, x64):
    assert deviation(of_rule(name), 2 if name in ("ottt", "rtrl") else DEVICES) < 1e-12


def test_a_certificate_is_that_of_one_device_and_leaves_the_model_where_it_is(x64):
    layer, rule = nnx.Linear(N, C, rngs=nnx.Rngs(0), param_dtype=float), sr.SketchedRTRL(1)
    model = connect([layer, LIF(threshold=0.4, param_dtype=float)])
    options = {"rule": rule, "window": 2, "penalties": PENALTIES}
    assert deviation(lambda devices: sr.certified_gradient(model, MEAN, *batch(devices), **options)) < 1e-12
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(nnx.state(model)))


@pytest.mark.filterwarnings("ignore:scatter inputs have incompatible types")
def test_norms_are_those_of_one_device(x64):
    """Flax's BatchNorm keeps its statistics in float32."""
    with jax.numpy_dtype_promotion("standard"):
        assert deviation(of_norms) < 1e-12


@pytest.mark.parametrize("measure", [of_fit, of_sampled_fit])
def test_another_training_is_that_of_one_device(measure, x64):
    with jax.numpy_dtype_promotion("standard"):
        assert deviation(measure) < 1e-12


def test_each_device_works_on_its_share_alone():
    """Products have the rows of a device's samples, of all steps, and only sums go from device to device."""
    inputs, labels, _ = batch(DEVICES, np.float32)
    graph, state = nnx.split((make(dtype=jnp.float32), sr.RULES["ostl"].make(), None))
    program = Step(graph, sr.cross_entropy, "none", None, mesh=as_mesh(jax.devices()))
    text = jax.jit(program).lower(state, inputs, labels, None, None).compile().as_text()
    rows = {int(count) for count in re.findall(r"= f32\[(\d+),\d+\]\S* dot\(", text)}
    assert T * B // DEVICES in rows and not {T * B, B} & rows
    assert set(re.findall(r" (all-[a-z]+|collective-permute|reduce-scatter)\(", text)) == {"all-reduce"}


def shared(model, **options):
    return sr.gradients(model, sr.cross_entropy, *batch(DEVICES)[:2], **options)


REFUSED = {
    "per=.sequence": lambda: shared(make(modules=[Dropout(0.3, per="step", rngs=nnx.Rngs(1))])),
    "UORO": lambda: shared(make(), rule=sr.UORO(rngs=nnx.Rngs(5))),
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_cannot_be_split_is_told(word, x64):
    with pytest.raises((TypeError, ValueError), match=word):
        REFUSED[word]()
