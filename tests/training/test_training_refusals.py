"""What training cannot do is an error that says what came, what is taken, and what to do: one example each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import ALIF, LI, Dropout, RunningNorm, connect, sigmoid
from training.small import BATCHES, SAMPLER, B, C, N, T, made, numbers, optimizer_of, same

ERRORS = (TypeError, ValueError, KeyError, FloatingPointError, OSError, UserWarning)  # warnings are errors here
pytestmark = pytest.mark.usefixtures("no_shape_checks")  # as users run it, so that the packages' own errors are seen


def rngs():
    return nnx.Rngs(0)


def train(batches=BATCHES, loss_fn=sr.cross_entropy, **options):
    return sr.fit(*made(), loss_fn, batches, **options)


def evaluated(batches, **options):
    return sr.evaluate(made()[0], sr.cross_entropy, batches, **options)


def before(*modules):
    return connect([nnx.Linear(N, C, rngs=rngs()), *modules])


def calls_back(returned, **options):
    return train(callbacks=[sr.Every(1, lambda info: returned)], **options)


X, LABELS = BATCHES[0]
NO_ENTRY, TRACK = np.zeros((T, B), bool), np.zeros((T, B), int)


def stream(model=None, shape=(B, N), **options):
    model = model or made()[0]
    return sr.start_stream(model, optimizer_of(model), sr.cross_entropy, shape, **({"rule": sr.SLTT()} | options))


def trial(rule=None, model=None):
    return sr.start_trial(model or made()[0], (B, N), rule=rule or sr.OSTL())


def acts(x=X, act=lambda y: y.argmax(axis=-1), loss_fn=sr.cross_entropy, **options):
    return sr.extend_trial(made()[0], trial(), loss_fn, jnp.asarray(x), act, rule=sr.OSTL(), **options)


def trains_nothing(model):
    typo = nnx.All(nnx.Param, lambda path, _: path[0] == "layers")  # modules
    return sr.fit(model, nnx.Optimizer(model, optax.sgd(0.1), wrt=typo), sr.cross_entropy, BATCHES)


def swept(make_model=lambda rngs: made()[0], optimizer=optax.sgd, **changes):
    given = {"rules": {"bptt": sr.BPTT(), "ottt": sr.OTTT()}, "rates": [0.1, 0.2]}
    given |= {"seeds": 2, "validation": BATCHES[:1]}
    return sr.sweep(make_model, optimizer, sr.cross_entropy, BATCHES, **given | changes)


CALLS = {  # a call, and words of its error
    "update": (lambda: train(update="onlin"), "'onlin'.*\"online\""),
    "optimizer of a rule": (lambda: train(rule=sr.EProp(route=sr.Adaptive(made()[0], rngs=rngs()))), "model, rule"),
    "optimizer of nothing": (lambda: trains_nothing(made()[0]), "without any parameter of the model"),
    "steps under a BatchNorm": (
        lambda: sr.gradients(before(nnx.BatchNorm(C, rngs=rngs()), LI()), sr.cross_entropy, X, LABELS, rule=sr.RTRL()),
        "RunningNorm",
    ),
    "metric without a mask": (
        lambda: evaluated([(X, LABELS, ~NO_ENTRY)], metrics={"a": lambda y, t: 0.0}), "got a mask"
    ),
    "callback of a metric": (lambda: calls_back({"loss": 1}, held_out=BATCHES[:1]), "A callback returned 'loss'"),
    "online without a window": (lambda: train(update="online"), "BPTT and no window"),
    "labels of a column": (lambda: train([(X, LABELS[:, None])]), r"labels.squeeze\("),
    "no samples": (lambda: train([(X[:, :0], LABELS[:0])]), "6 steps of 0 samples"),
    "no batches": (lambda: train(lambda epoch: []), "Epoch 0 gave no batches"),
    "no features": (lambda: train([(X[:, 0], np.zeros(T, int))]), r"\[6, 5\], expected \[T, B, features...\]"),
    "iterator of two epochs": (lambda: train(iter(BATCHES), epochs=2), "list_iterator as batches, which can be read only once"),
    "no entry to evaluate": (lambda: evaluated([(X, LABELS, NO_ENTRY)]), "true entry"),
    "a sampled mask without an entry": (
        lambda: train(sr.Sampler(lambda key: (X, LABELS, NO_ENTRY), jax.random.key(0), 2)), "mask is False everywhere"
    ),
    "stream: statistics": (lambda: stream(connect([RunningNorm(nnx.Linear(N, C, rngs=rngs())), LI()])), "end of a sequence"),
    "stream: inputs": (lambda: sr.extend_stream(stream(), X[:, :2], TRACK), r"expected \[L, 4, 5\]"),
    "stream: reset": (lambda: sr.extend_stream(stream(), X, TRACK, reset=np.ones(B)), r"expected bool\[4\]"),
    "trial: keys of a rule": (lambda: trial(sr.UORO(rngs=rngs())), "random key in the state"),
    "trial: parameters": (lambda: trial(sr.OSTL(route=sr.Adaptive(made()[0], rngs=rngs()))), "with parameters of its"),
    "trial: masks of steps": (lambda: trial(model=before(LI(), Dropout(0.5, per="step", rngs=rngs()))), r"model.eval\(\)"),
    "trial: mask": (lambda: acts(mask=jnp.ones((B, T), bool)), r"expected bool\[6, 4\]"),
    "trial: rewards": (lambda: sr.reward_gradient(trial(), jnp.ones((T, B))), r"rewards of shape \[6, 4\]"),
    "sweep: validation": (lambda: swept(validation=None), "expected validation="),
    "sweep: test": (lambda: swept(test=BATCHES[:1]), "the same samples for validation and test"),
    "sweep: copies": (lambda: swept(rules={"bptt": sr.BPTT()}, rates=[0.1], validation=None), "same network from the seeds"),
    "sweep: windows": (lambda: swept(window={"bptt": None}), "none for ottt"),
    "sweep: few batches": (lambda: swept(evaluate_at=(9,)), "4 batches for seed 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_cannot_be_served(name):
    call, match = CALLS[name]
    with pytest.raises(ERRORS, match=f"(?s){match}"):
        call()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of `fit`, weights, and what is neither."""
    folder = tmp_path_factory.mktemp("files")
    sr.fit(*made(), sr.cross_entropy, SAMPLER, checkpoints=sr.Checkpoints(folder / "run", every=2))
    sr.save_weights(folder / "weights", made()[0])
    return folder


def resumed(folder, nodes=made, **options):
    return sr.fit(*nodes(), sr.cross_entropy, SAMPLER, checkpoints=sr.Checkpoints(folder / "run"), **options)


def loaded(folder, model, file="weights"):
    """A model that refuses weights stays as it is."""
    before = numbers(model)
    try:
        sr.load_weights(folder / file, model)
    finally:
        assert same(numbers(model), before)


def adaptive():
    linear = functools.partial(nnx.Linear, rngs=rngs())
    return connect([linear(N, 6), ALIF(), linear(6, C), LI()])


def changed(**options):
    """The model with other options of its neuron, and an optimizer."""
    model, optimizer = made()
    model.modules[1] = model.modules[1].replace(**options)
    return model, optimizer


FILES = {
    "wider": (lambda f: resumed(f, nodes=lambda: made(hidden=7)), r"bias: .*\[6\] saved, .*\[7\] here"),
    "rule": (lambda f: resumed(f, rule=sr.OSTL(recurrence=True)), r"OSTL\(.*=True\) here"),
    "surrogate": (
        lambda f: resumed(f, nodes=lambda: changed(spike_fn=sigmoid(3.0))), r"spike_fn: .*options=\[3.0\]\) here"
    ),
    "another neuron": (lambda f: loaded(f, adaptive()), "do not match this model: 1 ALIF: LIF saved, ALIF here"),
    "no checkpoint": (lambda f: loaded(f, made()[0], ""), "holds no checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_does_not_fit(name, folder):
    call, match = FILES[name]
    with pytest.raises(ERRORS, match=match):
        call(folder)
