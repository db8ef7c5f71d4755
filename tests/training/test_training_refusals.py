"""What training cannot do is an error that says what came, what is taken, and what to do: one example each."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import slax_rules as sr
from slax_neurons import ALIF, LI, Dropout, RunningNorm, connect, sigmoid
from training.small import BATCHES, SAMPLER, B, C, N, T, made, numbers, optimizer_of, same, sample

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


def vectorized(function):
    return jax.vmap(function)(jax.random.split(jax.random.key(0), 2))


def evaluated_of(key):
    return sr.evaluate(connect([nnx.Linear(N, C, rngs=nnx.Rngs(key)), LI()]), sr.cross_entropy, BATCHES)["loss"]


def calls_back(returned, **options):
    return train(callbacks=[sr.Every(1, lambda info: returned)], **options)


class Three:
    """An environment of three actions."""

    n_actions = 3

    def reset(self, key):
        return jnp.zeros(()), jnp.zeros(N)

    def step(self, key, state, action):
        return state, jnp.zeros(N), state, state > 0


def rewarded(rule=None, **options):
    """For a model without an output for the value."""
    model, optimizer = made()
    episodes = sr.start_episodes(model, Three(), B, rule=sr.OSTL(), key=jax.random.key(0))
    options |= {"rule": rule or sr.OSTL(), "updates": 1}
    return sr.train_on_rewards(model, optimizer, Three(), episodes, **options)


X, LABELS = BATCHES[0]
NO_ENTRY, TRACK = np.zeros((T, B), bool), np.zeros((T, B), int)


def stream(model=None, shape=(B, N), **options):
    model = model or made()[0]
    return sr.start_stream(model, optimizer_of(model), sr.cross_entropy, shape, **({"rule": sr.SLTT()} | options))


def runs(*pieces, **options):
    return list(sr.run_stream(stream(), pieces, **options))


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
    "no epochs": (lambda: train(epochs=0), "epochs=0"),
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
    "metrics alone": (lambda: train(metrics={"accuracy": sr.accuracy}), "expected held_out"),
    "empty held-out set": (lambda: train(held_out=[]), "evaluate got no batches"),
    "function as a callback": (lambda: train(callbacks=[print]), r"print among the callbacks.*Every\(100, print\)"),
    "callback every 1.5 steps": (lambda: train(callbacks=[sr.Every(1.5, print)]), "every=1.5"),
    "callback without names": (lambda: calls_back(True), "numbers by name.* raise StopTraining"),
    "callback of words": (lambda: calls_back({"a": "b"}), "'b' as 'a'"),
    "callback of a metric": (lambda: calls_back({"loss": 1}, held_out=BATCHES[:1]), "A callback returned 'loss'"),
    "folder as checkpoints": (lambda: train(checkpoints="runs"), "expected Checkpoints"),
    "logger": (lambda: sr.LogTo("runs/first"), "LogTo got str, expected a function"),
    "class of a logger": (lambda: sr.LogTo(logging.Logger), "LogTo got the class Logger, expected"),
    "more outputs than actions": (lambda: rewarded(), r"outputs \[3\], expected \[4\]: logits and a value"),
    "episodes of another rule": (lambda: rewarded(rule=sr.RTRL()), "episodes of another rule than"),
    "rewards without a window": (lambda: rewarded(rule=sr.BPTT()), "BPTT and no window"),
    "trace decay": (lambda: rewarded(trace_decay=1.5), r"trace_decay=1.5, expected a number in \[0, 1\]"),
    "online without a window": (lambda: train(update="online"), "BPTT and no window"),
    "line search": (
        lambda: sr.fit(*made(optax.scale_by_backtracking_linesearch(3)), sr.cross_entropy, BATCHES), "keyword-only"
    ),
    "many models": (lambda: vectorized(evaluated_of), r"inside jax.vmap.*sweep\(...\)"),
    "labels of a column": (lambda: train([(X, LABELS[:, None])]), r"labels.squeeze\("),
    "early stopping by an array": (lambda: sr.EarlyStopping("m", mode="max").update(None, np.zeros(3), 1), r"shape \[3\]"),
    "early stopping by what": (lambda: sr.EarlyStopping("acc"), 'the metric "loss" or "accuracy"'),
    "no samples": (lambda: train([(X[:, :0], LABELS[:0])]), "6 steps of 0 samples"),
    "function without arguments": (lambda: train(lambda: BATCHES), "without arguments as batches.*Call it"),
    "function without a result": (lambda: train(lambda epoch: None), "returned None"),
    "no batches": (lambda: train(lambda epoch: []), "Epoch 0 gave no batches"),
    "one batch": (lambda: train(BATCHES[0]), r"one batch as batches.*\[\(inputs, targets\)\]"),
    "inputs alone": (lambda: train([(X,)]), "a batch of 1 entries"),
    "no features": (lambda: train([(X[:, 0], np.zeros(T, int))]), r"\[6, 5\], expected \[T, B, features...\]"),
    "iterator of two epochs": (lambda: train(iter(BATCHES), epochs=2), "list_iterator as batches, which can be read only once"),
    "no entry to evaluate": (lambda: evaluated([(X, LABELS, NO_ENTRY)]), "true entry"),
    "a sampled mask without an entry": (
        lambda: train(sr.Sampler(lambda key: (X, LABELS, NO_ENTRY), jax.random.key(0), 2)), "mask is False everywhere"
    ),
    "several batches": (lambda: sr.predict(made()[0], BATCHES), r"\[predict\(model, x\) for"),
    "number as a key": (lambda: sr.Sampler(sample, np.int64(7), 4), r"jax.random.key\(7\)"),
    "number as a key of episodes": (
        lambda: sr.start_episodes(made()[0], None, B, rule=sr.OSTL(), key=0), r"jax.random.key\(0\)"
    ),
    "shape of a cost": (lambda: sr.cost(made()[0], sr.OSTL(), (B, N)), r"\(T, B, features...\)"),
    "part of a step of a cost": (lambda: sr.cost(made()[0], sr.OTTT(), (T, B, N), window=1.5), "window=1.5, expected"),
    "number of devices": (lambda: train(devices=2), r"devices=2.*jax.devices\(\)\[:2\]"),
    "stream: shape": (lambda: stream(shape=(N,)), r"\(B, features...\)"),
    "stream: statistics": (lambda: stream(connect([RunningNorm(nnx.Linear(N, C, rngs=rngs())), LI()])), "end of a sequence"),
    "stream: inputs": (lambda: sr.extend_stream(stream(), X[:, :2], TRACK), r"expected \[L, 4, 5\]"),
    "stream: reset": (lambda: sr.extend_stream(stream(), X, TRACK, reset=np.ones(B)), r"expected bool\[4\]"),
    "stream: no targets": (lambda: runs((X, None)), "targets None for inputs"),
    "stream: shape of a metric": (
        lambda: runs((X[:1], TRACK[:1]), metrics={"error": lambda y, _: 0 * y[:, :1]}), "metric 'error'"
    ),
    "trial: keys of a rule": (lambda: trial(sr.UORO(rngs=rngs())), "random key in the state"),
    "trial: parameters": (lambda: trial(sr.OSTL(route=sr.Adaptive(made()[0], rngs=rngs()))), "with parameters of its"),
    "trial: masks of steps": (lambda: trial(model=before(LI(), Dropout(0.5, per="step", rngs=rngs()))), r"model.eval\(\)"),
    "trial: samples": (lambda: acts(X[:, :2]), "got inputs of 2 samples"),
    "trial: mask": (lambda: acts(mask=jnp.ones((B, T), bool)), r"expected bool\[6, 4\]"),
    "trial: rewards": (lambda: sr.reward_gradient(trial(), jnp.ones((T, B))), r"rewards of shape \[6, 4\]"),
    "fptt: no parameters": (lambda: (it := sr.fptt(optax.sgd(0.1))).update(X, it.init(X)), "no parameters"),
    "sweep: model": (lambda: swept(made()[0]), "got a Connect, expected a function that maps nnx.Rngs"),
    "sweep: no cell": (lambda: swept(lambda rngs: nnx.Linear(2, 2, rngs=rngs)), "expected a cell"),
    "sweep: optimizer": (lambda: swept(optimizer=optax.adam(0.1)), "a function that maps a learning rate"),
    "sweep: list of rules": (lambda: swept(rules=[sr.BPTT()]), "rules by name"),
    "sweep: validation": (lambda: swept(validation=None), "expected validation="),
    "sweep: test": (lambda: swept(test=BATCHES[:1]), "the same samples for validation and test"),
    "sweep: names": (lambda: swept(lambda rngs, rate: made()[0], settings={"rate": [1, 2]}), "settings named rate, expected"),
    "sweep: copies": (lambda: swept(rules={"bptt": sr.BPTT()}, rates=[0.1], validation=None), "same network from the seeds"),
    "sweep: windows": (lambda: swept(window={"bptt": None}), "none for ottt"),
    "sweep: evaluated before": (lambda: swept(evaluate_at=(-1,)), "batches of at least 0"),
    "sweep: evaluated within": (lambda: swept(evaluate_at=(1.5,)), r"evaluate_at=\(1.5,\), expected integers"),
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
    "options": (lambda f: resumed(f, nodes=lambda: changed(threshold=0.25)), "threshold/number: .* 0.25 here"),
    "another neuron": (lambda f: loaded(f, adaptive()), "do not match this model: 1 ALIF: LIF saved, ALIF here"),
    "nothing": (lambda f: loaded(f, made()[0], "nothing"), "does not exist"),
    "no checkpoint": (lambda f: loaded(f, made()[0], ""), "holds no checkpoint"),
    "no folder": (lambda f: sr.save_weights(f / "none" / "weights", made()[0]), "there is no folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_does_not_fit(name, folder):
    call, match = FILES[name]
    with pytest.raises(ERRORS, match=match):
        call(folder)
