"""What training cannot do is an error that says what came, what is taken, and what to do: one example each."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import ALIF, LI, LIF, Dropout, RunningNorm, connect
from slax_rules import (
    BPTT,
    OSTL,
    OTPE,
    OTTT,
    UORO,
    Adaptive,
    Checkpoints,
    EarlyStopping,
    EProp,
    Every,
    History,
    Interval,
    Sampler,
    SequenceLoss,
    accuracy,
    agreement,
    correct,
    cost,
    cross_entropy,
    evaluate,
    extend_stream,
    extend_trial,
    fit,
    fptt,
    fptt_average,
    load_weights,
    look_ahead,
    predict,
    reward_gradient,
    run_stream,
    save_weights,
    start_stream,
    start_trial,
    sweep,
    train_online,
)
from training.small import BATCHES, MOMENTUM, SAMPLER, B, C, N, T, made, numbers, optimizer_of, same, sample

ERRORS = (TypeError, ValueError, KeyError, FloatingPointError, OSError)
pytestmark = pytest.mark.usefixtures("no_shape_checks")  # as users run it, so that the packages' own errors are seen


def refused(call, match):
    with pytest.raises(ERRORS, match=f"(?s){match}"):
        call()


def rngs():
    return nnx.Rngs(0)


def train(batches=BATCHES, loss_fn=cross_entropy, nodes=None, **options):
    model, optimizer = nodes or made()
    return fit(model, options.pop("optimizer", optimizer), loss_fn, batches, **options)


def evaluated(batches, loss_fn=cross_entropy, **options):
    return evaluate(made()[0], loss_fn, batches, **options)


X, LABELS = BATCHES[0]
ONE, HELD, NO_ENTRY = BATCHES[0], {"held_out": BATCHES}, np.zeros((T, B), bool)
OF_SEQUENCE = SequenceLoss(lambda outputs, labels: cross_entropy(outputs.mean(axis=0), labels))
IMAGES = [(np.ones((3, 2, 4, 4, 1), np.float32), np.array([0, 1]))]


def unhashable():
    convolution = nnx.Conv(1, 2, (3, 3), strides=[2, 2], rngs=rngs())
    model = connect([convolution, LIF(), lambda x: x.reshape(x.shape[0], -1)])
    return model, optimizer_of(model)


def nan(outputs, labels):
    return jnp.nan * outputs.sum()


FIT = {
    "no epochs": (lambda: train(epochs=0), "epochs=0"),
    "half an epoch": (lambda: train(epochs=2.5), "epochs=2.5"),
    "update": (lambda: train(update="deferred"), "update='deferred', expected .* \"offline\" or \"online\""),
    "window": (lambda: train(window=0), "window=0, expected at least 1"),
    "class of a rule": (lambda: train(rule=OSTL), r"Got the class OSTL as the rule, expected a rule .* rule=OSTL\(\)"),
    "loss": (lambda: train(loss_fn=3), "got int as loss_fn, expected a function such as cross_entropy"),
    "loss online": (lambda: train(loss_fn=OF_SEQUENCE, update="online"), "got a SequenceLoss, expected the loss of one"),
    "transformation": (lambda: train(optimizer=optax.adam(0.1)), "Wrap the Optax transformation: nnx.Optimizer"),
    "optimizer of a rule": (
        lambda: train(rule=EProp(route=Adaptive(made()[0], rngs=rngs()))), r"nnx.Optimizer\(\(model, rule\), ...\)"
    ),
    "options": (lambda: train(IMAGES, nodes=unhashable()), r"Got strides=\[2, 2\], expected hashable values"),
    "metrics alone": (lambda: train(metrics={"accuracy": accuracy}), "expected held_out"),
    "one metric": (lambda: train(metrics=accuracy, **HELD), "got the function accuracy as metrics, expected a table"),
    "metric loss": (lambda: train(metrics={"loss": accuracy}, **HELD), 'a metric named "loss"'),
    "evaluation of nothing": (lambda: train(evaluate_every=3), "expected held_out"),
    "no such metric": (lambda: train(early_stopping=EarlyStopping("accuracy"), **HELD), "'accuracy', expected one of: loss"),
    "no such best": (lambda: train(checkpoints=Checkpoints("x", best="accuracy"), **HELD), "expected one of: loss"),
    "folder": (lambda: train(checkpoints="runs"), r"expected Checkpoints\('runs'\)"),
    "number as patience": (lambda: train(early_stopping=5, **HELD), "got 5 as early_stopping, expected one such as Early"),
    "empty held-out set": (lambda: train(held_out=[]), "evaluate got no batches"),
    "held-out iterator": (lambda: train(held_out=iter(BATCHES)), "as held_out, but it can be read only once"),
    "callbacks at no step": (lambda: train(callbacks=[Every(0, print)]), "every 0 steps"),
    "function as a callback": (lambda: train(callbacks=[print]), r"got print among the callbacks, .* Every\(100, print\)"),
    "one callback": (lambda: train(callbacks=Every(1, print)), "got Every as callbacks, expected a list"),
    "class of a callback": (lambda: train(callbacks=[Every]), r"Make one: Every\(...\)"),
    "no batches": (lambda: train(lambda epoch: []), "Epoch 0 gave no batches, .* a generator can be read only once"),
    "one batch": (lambda: train(ONE), r"Got one batch as batches, expected many .* batches=\[\(inputs, targets\)\]"),
    "one array": (lambda: train(X), "Got one array as batches"),
    "inputs alone": (lambda: train([ONE[:1]]), r"a batch of 1 entries, expected \(inputs, targets\)"),
    "batch by name": (lambda: train([{"inputs": 1}]), r"a batch of a dict, expected .*: \(batch\['inputs'\], "),
    "text": (lambda: train([("abc", LABELS)]), "Got str 'abc' as inputs, expected an array of numbers"),
    "batch first": (lambda: train([(X.swapaxes(0, 1), LABELS)]), r"which is batch first.*inputs.swapaxes\(0, 1\)"),
    "images batch first": (lambda: train([(np.ones((B, T, 2, 2)), LABELS)]), "which is batch first"),
    "no mask entry": (lambda: train([(X, LABELS, NO_ENTRY)]), "a mask without a single true entry, expected at least one"),
    "number of batches": (lambda: train(7), "Got int 7 as batches, expected a list of batches"),
    "class of a sampler": (lambda: train(Sampler), r"Got the class Sampler as batches, .* Make one: Sampler\(...\)"),
    "iterator of two epochs": (lambda: train(iter(BATCHES), epochs=2), "a list_iterator as batches of 2 epochs, but it"),
    "number to evaluate": (lambda: evaluated(7), "Got int 7 as batches, expected a list of batches"),
    "no entry to evaluate": (lambda: evaluated([(X, LABELS, NO_ENTRY)]), "masks without a single true entry"),
    "options to evaluate": (lambda: evaluate(unhashable()[0], cross_entropy, IMAGES), r"Got strides=\[2, 2\]"),
    "options to predict": (lambda: predict(unhashable()[0], IMAGES[0][0]), r"Got strides=\[2, 2\]"),
    "losses of steps": (lambda: evaluated(BATCHES, SequenceLoss(cross_entropy)), r"SequenceLoss made \[6, 4\] of outputs"),
    "carry for several": (lambda: predict(made()[0], [X], carry=()), "a carry for several batches, expected it for one"),
    "patience": (lambda: EarlyStopping(patience=0), "patience=0"),
    "early stopping without a mode": (lambda: EarlyStopping("error"), "got mode=None for the metric 'error'"),
    "metric that is NaN": (lambda: EarlyStopping().update(None, float("nan"), 1), "NaN"),
    "steps of a sampler": (lambda: Sampler(sample, jax.random.key(0), 0), "0 steps per epoch"),
    "checkpoints at no step": (lambda: Checkpoints("x", every=0), "every=0, keep=3"),
    "no checkpoints": (lambda: Checkpoints("x", keep=0), "keep=0"),
    "best without a mode": (lambda: Checkpoints("x", best="error"), "expected \"min\" if less is better"),
    "series": (lambda: History(np.zeros(0), [{"step": 1, "epoch": 0, "loss": 1.0}]).series("error"), "expected one of: loss"),
    "paths": (
        lambda: agreement({"a": jnp.ones(1)}, {"b": jnp.ones(1)}),
        r"got \['a \[1\]'\] in the gradient alone and \['b \[1\]'\] in the reference",
    ),
    "shape of a cost": (lambda: cost(made()[0], OSTL(), (B, N)), r"expected that of inputs, \[T, B, features...\]"),
    "repeats": (lambda: cost(made()[0], OSTL(), (T, B, N), repeats=0), "repeats=0, expected 1 or more"),
}  # fmt: skip


@pytest.mark.parametrize("name", FIT)
def test_a_run_that_cannot_be_made(name):
    refused(*FIT[name])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of `fit`, weights, and what is neither."""
    folder = tmp_path_factory.mktemp("files")
    fit(*made(), cross_entropy, SAMPLER, checkpoints=Checkpoints(folder / "run", every=2))
    (folder / "renamed").mkdir()
    (folder / "renamed" / "2").write_bytes((folder / "run" / "2").read_bytes())
    (folder / "renamed" / "99").write_bytes((folder / "run" / "4").read_bytes())
    save_weights(folder / "weights", made()[0])
    (folder / "text").write_text("not weights")
    np.savez(folder / "arrays.npz", a=np.zeros(3))
    np.save(folder / "array.npy", np.zeros(3))
    return folder


def another(neuron):
    return connect([nnx.Linear(N, 6, rngs=rngs()), neuron, nnx.Linear(6, C, rngs=rngs()), LI()])


DAMAGED = "is damaged, or holds no weights: .* Expected a file that save_weights wrote"
RUNS = {  # options of a run that finds the checkpoints of another one
    "wider": ({"nodes": made(hidden=7)}, r"model/modules/0/bias: float32\[6\] saved, float32\[7\] here"),
    "adamax": ({"nodes": made(optax.adamax(0.1))}, r"optimizer/opt_state/0/count: nothing saved, int32\[\] here"),
    "rule": ({"rule": OSTL()}, r"rule: BPTT\(remat=False\) saved, OSTL\(route=Symmetric\(\), recurrence=False\) here"),
    "key": ({"batches": Sampler(sample, jax.random.key(3), steps=4)}, r"key: \[0, 1\] saved, \[0, 3\] here"),
    "window": ({"window": 2}, "window: None saved, 2 here"),
    "update": ({"update": "online"}, "update: offline saved, online here"),
    "step": ({"folder": "renamed"}, r"step 99 in .* is damaged: it was saved as that of step 4\. .*/99 to continue"),
    "best": ({"best": "nan", "metrics": {"nan": nan}, **HELD}, "Checkpoints got NaN for 'nan' at step 4, expected a comp"),
}  # fmt: skip
MODELS = {  # models that load weights of another one, or what are no weights
    "wider": (made(hidden=7)[0], "weights", r"0 Linear/bias: float32\[6\] saved, float32\[7\] here"),
    "half precision": (made(dtype=jnp.float16)[0], "weights", r"0 Linear/bias: float32\[6\] saved, float16\[6\] here"),
    "another neuron": (another(ALIF()), "weights", "1 ALIF: LIF saved, ALIF here"),
    "no stack": (nnx.Linear(N, 6, rngs=rngs()), "weights", "model: Connect saved, Linear here.*; and 2 more"),
    "one neuron": (
        connect([LI()]),
        "weights",
        r"0 LI: Linear saved, LI here; .* nothing here\. Make the model",
    ),  # eight
    "nothing": (made()[0], "nothing", "nothing, which does not exist"),
    "text": (made()[0], "text", DAMAGED),
    "arrays": (made()[0], "arrays.npz", DAMAGED),
    "one array": (made()[0], "array.npy", DAMAGED),
    "no checkpoint": (made()[0], "", "holds no checkpoint, expected one that fit wrote"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_of_another_run_is_refused_and_says_what_differs(name, folder, tmp_path):
    options, match = RUNS[name]
    options = {"batches": SAMPLER, "folder": tmp_path if name == "best" else "run", "mode": "min"} | options
    where = Checkpoints(folder / options.pop("folder"), best=options.pop("best", None), mode=options.pop("mode"))
    refused(lambda: train(checkpoints=where, **options), match)


@pytest.mark.parametrize("name", MODELS)
def test_weights_of_another_model_are_refused_and_the_model_stays(name, folder):
    model, file, match = MODELS[name]
    before = numbers(model)
    refused(lambda: load_weights(folder / file, model), match)
    assert same(numbers(model), before)
    refused(lambda: save_weights(folder / "none" / "weights", model), r"there is no folder .*none\. Make it first")


def stream(model=None, optimizer=None, loss_fn=cross_entropy, rule=OTPE(), **options):  # noqa: B008
    model = made()[0] if model is None else model
    return start_stream(model, optimizer or optimizer_of(model), loss_fn, (B, N), rule=rule, **options)


def extend(*arguments, **options):
    return extend_stream(stream(), *arguments, **options)


def ahead(inputs):
    start = stream()
    return look_ahead(start, start.state, inputs)


def runs(*pieces, **options):
    return list(run_stream(stream(), pieces, **options))


def norm():
    return connect([RunningNorm(nnx.Linear(N, C, rngs=rngs())), LI()])


TRACK = np.zeros((T, B), int)
STREAMS = {
    "window": (lambda: stream(window=0), "window=0"),
    "loss of a sequence": (lambda: stream(loss_fn=OF_SEQUENCE), "a SequenceLoss"),
    "optimizer": (lambda: stream(optimizer=MOMENTUM), "start_stream got .* as the optimizer"),
    "statistics": (lambda: stream(norm(), rule=BPTT()), "end of a sequence"),
    "inputs": (lambda: extend(X[:, :2], TRACK), r"extend_stream got .* expected \[L, 4, 5\]"),
    "targets": (lambda: extend(X, TRACK[0]), "targets"),
    "mask": (lambda: extend(X, TRACK, np.ones((2, B), bool)), "mask"),
    "reset": (lambda: extend(X, TRACK, reset=np.ones(B)), r"expected bool\[4\]"),
    "inputs ahead": (lambda: ahead(X[..., 1:]), r"look_ahead got .*, expected \[L, 4, 5\]"),
    "no targets": (lambda: runs((X, None)), "gave targets of None .* with a mask that is false"),
    "few targets": (lambda: runs((X, TRACK[1:])), "expected one per step and sample"),
    "one step": (lambda: runs((X[0], TRACK[0])), r"gave inputs of shape \[4, 5\], expected \[L, B, features"),
    "no inputs": (lambda: runs((None, TRACK)), "gave inputs of None"),
    "no step": (lambda: runs((X[:0], TRACK[:0])), "with L at least 1"),
    "half-life": (lambda: runs(half_life=0.0), "half_life=0.0"),
    "by name": (lambda: runs({"inputs": 1}), "gave dict, expected a Piece"),
    "inputs alone": (lambda: runs((X,)), "gave tuple, expected a Piece"),
    "metric loss": (lambda: runs(metrics={"loss": correct}), "metrics that are not functions"),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_what_cannot_be_a_stream(name):
    refused(*STREAMS[name])


def drops(mask="sequence"):
    return connect([nnx.Linear(N, C, rngs=rngs()), LI(), Dropout(0.5, mask=mask, rngs=rngs())])


def trial(rule=OSTL(), model=None):  # noqa: B008
    return start_trial(model or made()[0], (B, N), rule=rule)


def acts(x=X, act=lambda y: y.argmax(axis=-1), loss_fn=cross_entropy, **options):
    return extend_trial(made()[0], trial(), loss_fn, jnp.asarray(x), act, rule=OSTL(), **options)


def paper(params, *arguments):
    transformation = fptt(optax.sgd(0.1), variant="paper")
    return transformation.update(params, transformation.init(params), *arguments)


TRIALS = {
    "keys of a rule": (lambda: trial(UORO(rngs=rngs())), "random key in the state"),
    "parameters of a rule": (lambda: trial(OSTL(route=Adaptive(made()[0], rngs=rngs()))), "with parameters of its own"),
    "masks of a sequence": (lambda: trial(model=drops()), r"call model.eval\(\) to switch dropout off"),
    "masks of steps": (lambda: trial(model=drops("step")), r"call model.eval\(\) to switch dropout off"),
    "discount": (lambda: acts(discount=1.5), r"discount=1.5, expected a number in \[0, 1\]"),
    "loss of a sequence": (lambda: acts(loss_fn=OF_SEQUENCE), "got a SequenceLoss.*pass it to reward_gradient"),
    "samples": (lambda: acts(X[:, :2]), r"so 2 samples, expected the 4 samples.*Start another trial"),
    "mask": (lambda: acts(mask=jnp.ones((B, T), bool)), r"mask of bool\[4, 6\], expected bool\[6, 4\]"),
    "actions": (lambda: acts(act=lambda y: y[-1].argmax(-1)), r"actions of shape \[4\] .* expected \[6, 4, ...\]"),
    "rewards": (lambda: reward_gradient(trial(), jnp.ones((T, B))), r"rewards of shape \[6, 4\], expected \[4\]"),
    "alpha of FPTT": (lambda: fptt(optax.sgd(0.1), alpha=0.0), "fptt got alpha=0.0, .*expected alpha > 0"),
    "beta of FPTT": (lambda: fptt(optax.sgd(0.1), beta=0.0), "fptt got .*beta=0.0"),
    "reset of FPTT": (lambda: fptt(optax.sgd(0.1), reset_every=0), "fptt got .*reset_every=0"),
    "no parameters": (lambda: paper(jnp.ones(3)), "fptt got no parameters"),
    "no gradient": (lambda: paper(jnp.ones(3), jnp.ones(3)), 'fptt got no gradient_at for variant="paper"'),
    "no FPTT": (lambda: fptt_average(optax.sgd(0.1).init(X), X), "an optimizer state with 0 states of fptt in it"),
    "optimizer of both": (
        lambda: train_online(
            (model := made()[0]), nnx.Optimizer(model, MOMENTUM, wrt=nnx.Param), cross_entropy, jnp.asarray(X), LABELS,
            rule=EProp(route=Adaptive(model, rngs=rngs())),
        ),
        r"EProp has parameters of its own: nnx.Optimizer\(\(model, rule\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRIALS)
def test_what_cannot_be_a_trial_or_fptt(name):
    refused(*TRIALS[name])


def swept(make_model=another, optimizer=optax.sgd, loss_fn=cross_entropy, batches=BATCHES, **changes):
    make = make_model if make_model is not another else lambda rngs: made()[0]
    given = {"rules": {"bptt": BPTT(), "ottt": OTTT()}, "rates": [0.1, 0.2], "seeds": 2, "validation": BATCHES[:1]}
    return sweep(make, optimizer, loss_fn, batches, **given | changes)


SWEEPS = {
    "model": (lambda: swept(made()[0]), "expected a function that maps nnx.Rngs"),
    "no cell": (lambda: swept(lambda rngs: nnx.Linear(2, 2, rngs=rngs)), "expected a cell"),
    "optimizer": (lambda: swept(optimizer=optax.adam(0.1)), "expected a function that maps a learning rate"),
    "list of rules": (lambda: swept(rules=[BPTT()]), "expects rules by name"),
    "class of a rule": (lambda: swept(rules={"ottt": OTTT}), "Got the class OTTT as the rule"),
    "rates": (lambda: swept(rates=[0.1, -0.1]), "expected different positive numbers"),
    "seeds": (lambda: swept(trial_seeds=3), "expected different seeds"),
    "validation": (lambda: swept(validation=None), "no validation samples to choose by"),
    "update": (lambda: swept(update="on"), 'expected "offline" or "online"'),
    "loss of a sequence": (lambda: swept(update="online", loss_fn=OF_SEQUENCE), "got a SequenceLoss"),
    "iterator": (lambda: swept(test=iter(BATCHES)), "as test, which can be read only once"),
    "windows": (lambda: swept(window={"bptt": None}), "got window by rule and none for ottt"),
    "no entry": (lambda: swept(batches=[(X, LABELS, NO_ENTRY)]), "a mask without a single true entry"),
    "few batches": (lambda: swept(evaluate_at=(9,)), "got 4 batches for seed 0, expected at least 9"),
    "no numbers": (lambda: Interval.of([]), "Got 0 numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", SWEEPS)
def test_what_cannot_be_a_sweep(name):
    refused(*SWEEPS[name])
