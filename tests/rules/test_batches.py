"""Batches from wherever they come: lists, loaders, functions; arrays of NumPy and JAX, tensors, frames of events."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from slax_neurons import LI, LIF, connect
from slax_rules import (
    OSTL,
    Checkpoints,
    Every,
    GradientAgreement,
    PerSequence,
    Sampler,
    accuracy,
    cross_entropy,
    evaluate,
    fit,
    predict,
    squared_error,
)

T, B, N, C = 6, 4, 5, 3
SGD = optax.sgd(0.1)


class Tensor:
    """What of a tensor of PyTorch counts here: it says no to NumPy as long as it is on a device and has a gradient."""

    def __init__(self, array, *, device="cuda", grad=True):
        self.array, self.device, self.grad = np.asarray(array), device, grad

    shape = property(lambda self: self.array.shape)

    def detach(self):
        return Tensor(self.array, device=self.device, grad=False)

    def cpu(self):
        return Tensor(self.array, device="cpu", grad=self.grad)

    def numpy(self):
        assert self.device == "cpu" and not self.grad
        return self.array

    def __array__(self, dtype=None, copy=None):
        return self.numpy()


class Loader:
    """Like a DataLoader: iterated over again in each epoch, no sequence and no function; its batches are lists."""

    def __init__(self, batches, convert=lambda array: array):
        self.batches, self.convert, self.epochs = batches, convert, 0

    def __iter__(self):
        self.epochs += 1
        return ([self.convert(array) for array in batch] for batch in self.batches)

    def __len__(self):
        return len(self.batches)


def batch(seed, *, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, (T, B, N)).astype(dtype), np.arange(B) % C


BATCHES = [batch(seed) for seed in range(3)]


def made(modules=None):
    rngs = nnx.Rngs(0)
    layers = [nnx.Linear(N, 6, rngs=rngs), LIF(threshold=0.5), nnx.Linear(6, C, rngs=rngs), LI()]
    model = connect(modules(rngs) if modules else layers)
    return model, nnx.Optimizer(model, SGD, wrt=nnx.Param)


def trained(source, loss_fn=cross_entropy, *, modules=None, **options):
    model, optimizer = made(modules)
    history = fit(model, optimizer, loss_fn, source, **options)
    return [history.losses, *map(np.asarray, jax.tree.leaves(nnx.state(model)))]


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


SOURCES = {
    "list": lambda: BATCHES,
    "tuple": lambda: tuple(BATCHES),
    "lists": lambda: list(map(list, BATCHES)),
    "function": lambda: lambda epoch: iter(BATCHES),
    "loader": lambda: Loader(BATCHES),
    "loader of tensors": lambda: Loader(BATCHES, Tensor),
    "loader of jax": lambda: Loader(BATCHES, jnp.asarray),
    "tensors on the host": lambda: Loader(BATCHES, lambda array: Tensor(array, device="cpu", grad=False)),
    "float64": lambda: [(inputs.astype(np.float64), labels) for inputs, labels in BATCHES],
    "booleans": lambda: [(inputs.astype(bool), labels) for inputs, labels in BATCHES],
    "bytes": lambda: [(inputs.astype(np.uint8), labels.astype(np.uint8)) for inputs, labels in BATCHES],
    "no mask": lambda: [(*one, None) for one in BATCHES],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_run_is_the_same_wherever_batches_come_from(kind):
    assert same(trained(SOURCES[kind](), epochs=2), trained(BATCHES, epochs=2))


def test_a_loader_is_iterated_over_once_for_each_epoch():
    loader = Loader(BATCHES)
    trained(loader, epochs=3)
    assert loader.epochs == 3


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "function"])
def test_held_out_sets_and_evaluation_take_the_same(kind):
    model, optimizer = made()
    numbers = evaluate(model, cross_entropy, SOURCES[kind](), metrics={"accuracy": accuracy})
    assert numbers == evaluate(model, cross_entropy, BATCHES, metrics={"accuracy": accuracy})
    held_out = SOURCES[kind]()
    history = fit(model, optimizer, cross_entropy, BATCHES, epochs=2, held_out=held_out, metrics={"accuracy": accuracy})
    assert [record["step"] for record in history.records] == [3, 6]


@pytest.mark.parametrize(
    "held_out",
    [lambda: iter(BATCHES), lambda epoch: iter(BATCHES), Sampler(lambda key: batch(0), jax.random.key(0), 1)],
)
def test_held_out_functions_are_called_for_each_evaluation(held_out):
    history = fit(*made(), cross_entropy, BATCHES, held_out=held_out, evaluate_every=1)
    assert len(history.records) == 3


def test_frames_of_events_in_a_sampler_and_before_a_callback():
    """Drawn as bytes, trained on as float32; callbacks and predictions get along with them too."""

    def sample(key, dtype):
        return jax.random.bernoulli(key, 0.4, (T, B, N)).astype(dtype), jnp.arange(B) % C

    def train(dtype):
        sampler = Sampler(lambda key: sample(key, dtype), jax.random.key(1), 4)
        model, optimizer = made()
        history = fit(model, optimizer, cross_entropy, sampler, rule=OSTL(), callbacks=[GradientAgreement(2)])
        return history.losses, history.records, np.asarray(predict(model, sample(jax.random.key(2), dtype)[0]))

    (losses, records, outputs), (expected, their_records, their_outputs) = train(jnp.uint8), train(jnp.float32)
    assert same([losses, outputs], [expected, their_outputs]) and records == their_records


def test_masks_and_targets_may_be_tensors_too():
    inputs, labels = BATCHES[0]
    mask = np.arange(T)[:, None] < np.array([6, 2, 3, 5])
    plain = trained([(inputs, labels, mask)])
    assert same(trained([(Tensor(inputs), Tensor(labels), Tensor(mask))]), plain)
    targets = np.ones((B, C), np.float32)
    expected = trained([(inputs, targets)], squared_error)
    assert same(trained([(inputs, PerSequence(Tensor(targets)))], squared_error), expected)
    tree = {"a": Tensor(targets[:, 0]), "b": Tensor(targets)}

    def loss_fn(outputs, targets):
        return squared_error(outputs, targets["b"]) + 0 * targets["a"]

    assert same(trained([(inputs, tree)], loss_fn), expected)


def test_integers_stay_integers_before_an_embedding():
    """A stack of one token per step; the same outputs where the embedding is looked up outside.

    In a process without the check of types, by which a stack takes floating-point inputs alone.
    """
    program = """
import jax, jax.numpy as jnp, numpy as np, optax
from flax import nnx
from slax_neurons import LI, LIF, connect
from slax_rules import OSTL, cross_entropy, evaluate, fit, predict
rngs = nnx.Rngs(0)
for nested in (True, False):
    first = [nnx.Embed(10, 5, rngs=rngs), lambda x: x[:, 0]]
    model = connect([*([connect(first)] if nested else first), LIF(threshold=0.1), nnx.Linear(5, 3, rngs=rngs), LI()])
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
    tokens = np.random.default_rng(0).integers(0, 10, (6, 4, 1))
    batch = (tokens, np.arange(4) % 3)
    losses = fit(model, optimizer, cross_entropy, [batch] * 3).losses
    assert losses[2] < losses[0]
    table = model.modules[0].modules[0] if nested else model.modules[0]
    rest = connect(list(model.modules)[1 if nested else 2:])
    np.testing.assert_allclose(predict(model, tokens), predict(rest, table(tokens[..., 0])), rtol=1e-6)
    assert evaluate(model, cross_entropy, [batch])["loss"] < losses[2]
"""
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray, Tensor])
def test_batch_first_is_an_error_that_says_so(convert):
    inputs, labels = BATCHES[0]
    swapped = [(convert(inputs.swapaxes(0, 1)), convert(labels))]
    message = (
        r"Got inputs of shape \[4, 6, 5\] with targets of shape \[4\], which is batch first.* inputs.swapaxes\(0, 1\)"
    )
    with pytest.raises(ValueError, match=message):
        fit(*made(), cross_entropy, swapped)
    with pytest.raises(ValueError, match=message):
        evaluate(made()[0], cross_entropy, swapped)


def test_an_iterator_serves_one_epoch_and_is_refused_for_more():
    assert same(trained(iter(BATCHES)), trained(BATCHES))
    with pytest.raises(ValueError, match=r"Got a list_iterator as batches of 2 epochs, but it can be read only once"):
        trained(iter(BATCHES), epochs=2)
    used_up = (one for one in BATCHES)
    list(used_up)
    with pytest.raises(
        ValueError, match=r"Epoch 0 gave no batches, .* A?.*a generator can be read only once: give a list"
    ):
        trained(used_up)


def test_a_loader_goes_on_from_a_checkpoint_at_the_batch_after(tmp_path):
    class Killed(Exception):
        pass

    def die(info):
        if info.step == 5:
            raise Killed

    checkpoints = Checkpoints(tmp_path / "run", every=2)
    with pytest.raises(Killed):
        trained(Loader(BATCHES), epochs=2, checkpoints=checkpoints, callbacks=[Every(1, die)])
    assert same(trained(Loader(BATCHES), epochs=2, checkpoints=checkpoints), trained(BATCHES, epochs=2))


def test_the_bar_knows_the_steps_of_what_has_a_length(capsys):
    fit(*made(), cross_entropy, Loader(BATCHES), epochs=2, progress=True)
    assert "6/6" in capsys.readouterr().err
