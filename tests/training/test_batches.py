"""Batches from wherever they come: lists, loaders, functions; arrays of NumPy and JAX, tensors, frames of events."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
from training.small import BATCHES, B, C, Killed, N, T, batch, made, numbers, same


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
        return ([self.convert(array) for array in one] for one in self.batches)


def trained(source, loss_fn=cross_entropy, **options):
    model, optimizer = made()
    history = fit(model, optimizer, loss_fn, source, **options)
    return [history.losses, *numbers(model)]


SOURCES = {
    "lists": lambda: list(map(list, BATCHES)),
    "tuple": lambda: tuple(BATCHES),
    "function": lambda: lambda epoch: iter(BATCHES),
    "loader": lambda: Loader(BATCHES),
    "loader of tensors": lambda: Loader(BATCHES, Tensor),
    "loader of jax": lambda: Loader(BATCHES, jnp.asarray),
    "float64": lambda: [(inputs.astype(np.float64), labels) for inputs, labels in BATCHES],
    "bytes": lambda: [(inputs.astype(np.uint8), labels.astype(np.uint8)) for inputs, labels in BATCHES],
    "no mask": lambda: [(*one, None) for one in BATCHES],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_run_and_its_evaluation_are_the_same_wherever_batches_come_from(kind):
    assert same(trained(SOURCES[kind](), epochs=2), trained(BATCHES, epochs=2))
    if kind != "function":
        model, _ = made()
        found, expected = (
            evaluate(model, cross_entropy, source, metrics={"accuracy": accuracy})
            for source in (SOURCES[kind](), BATCHES)
        )
        assert found == expected


def test_a_loader_is_iterated_over_once_for_each_epoch():
    loader = Loader(BATCHES)
    trained(loader, epochs=3)
    assert loader.epochs == 3


@pytest.mark.parametrize(
    "held_out",
    [
        Loader(BATCHES),
        lambda: iter(BATCHES),
        lambda epoch: iter(BATCHES),
        Sampler(lambda key: batch(0), jax.random.key(0), 1),
    ],
)
def test_held_out_sets_are_read_at_each_evaluation(held_out):
    history = fit(*made(), cross_entropy, BATCHES[:3], held_out=held_out, evaluate_every=1)
    assert [record["step"] for record in history.records] == [1, 2, 3]


def test_frames_of_events_in_a_sampler_and_before_a_callback():
    """Drawn as bytes, trained on as float32; callbacks and predictions get along with them too."""

    def train(dtype):
        def sample(key):
            return jax.random.bernoulli(key, 0.4, (T, B, N)).astype(dtype), jnp.arange(B) % C

        sampler, (model, optimizer) = Sampler(sample, jax.random.key(1), 4), made()
        history = fit(model, optimizer, cross_entropy, sampler, rule=OSTL(), callbacks=[GradientAgreement(2)])
        return history.losses, history.records, np.asarray(predict(model, sample(jax.random.key(2))[0]))

    (losses, records, outputs), (expected, their_records, their_outputs) = train(jnp.uint8), train(jnp.float32)
    assert same([losses, outputs], [expected, their_outputs]) and records == their_records


def test_masks_and_targets_may_be_tensors_too():
    inputs, labels = BATCHES[0]
    mask = np.arange(T)[:, None] < np.array([6, 2, 3, 5])
    plain = trained([(inputs, labels, mask)])
    assert same(trained([(Tensor(inputs), Tensor(labels), Tensor(mask))]), plain)
    padded = np.where(mask[..., None], inputs, 1 - inputs)
    assert same(trained([(padded, labels, mask)]), plain)  # nor does it matter what is behind the mask
    targets = np.ones((B, C), np.float32)
    expected = trained([(inputs, targets)], squared_error)
    assert same(trained([(inputs, PerSequence(Tensor(targets)))], squared_error), expected)

    def loss_fn(outputs, targets):
        return squared_error(outputs, targets["b"]) + 0 * targets["a"]

    tree = {"a": Tensor(targets[:, 0]), "b": Tensor(targets)}
    assert same(trained([(inputs, tree)], loss_fn), expected)


def test_integers_stay_integers_before_an_embedding():
    """The same outputs where the embedding is looked up outside, in a stack and in one within another.

    In a process without the check of types, by which a stack takes floating-point inputs alone.
    """
    program = """
import numpy as np, optax
from flax import nnx
from slax_neurons import LI, LIF, connect
from slax_rules import cross_entropy, evaluate, fit, predict
rngs = nnx.Rngs(0)
first = connect([nnx.Embed(10, 5, rngs=rngs), lambda x: x[:, 0]])
model = connect([first, LIF(threshold=0.1), nnx.Linear(5, 3, rngs=rngs), LI()])
optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
tokens = np.random.default_rng(0).integers(0, 10, (6, 4, 1))
batch = (tokens, np.arange(4) % 3)
losses = fit(model, optimizer, cross_entropy, [batch] * 3).losses
assert losses[2] < losses[0]
expected = predict(connect(list(model.modules)[1:]), first.modules[0](tokens[..., 0]))
np.testing.assert_allclose(predict(model, tokens), expected, rtol=1e-6)
assert evaluate(model, cross_entropy, [batch])["loss"] < losses[2]
"""
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_iterator_serves_one_epoch_and_a_used_one_is_refused():
    assert same(trained(iter(BATCHES)), trained(BATCHES))
    used_up = iter(BATCHES)
    list(used_up)
    with pytest.raises(ValueError, match=r"Epoch 0 gave no batches, .* a generator can be read only once: give a list"):
        trained(used_up)


def test_a_loader_goes_on_from_a_checkpoint_at_the_batch_after_and_needs_the_batches_that_it_had(tmp_path):
    def die(info):
        if info.step == 7:
            raise Killed

    checkpoints = Checkpoints(tmp_path / "run", every=2)
    with pytest.raises(Killed):
        trained(Loader(BATCHES), epochs=2, checkpoints=checkpoints, callbacks=[Every(1, die)])
    with pytest.raises(ValueError, match="Epoch 1 gave 1 batches, expected the 2"):
        trained(Loader(BATCHES[:1]), epochs=2, checkpoints=checkpoints)
    assert same(trained(Loader(BATCHES), epochs=2, checkpoints=checkpoints), trained(BATCHES, epochs=2))
