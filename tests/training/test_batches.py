"""Batches from wherever they come: lists, loaders, functions; arrays of NumPy and JAX, tensors, frames of events."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slax_rules as sr
from training.small import BATCHES, T, batch, made, same, trained


class Tensor:
    """What of a tensor of PyTorch counts here: it says no to NumPy until it has been detached and is on the CPU."""

    def __init__(self, array, left=2):
        self.array, self.left = np.asarray(array), left

    shape = property(lambda self: self.array.shape)

    def detach(self):
        return Tensor(self.array, self.left - 1)

    cpu = detach

    def __array__(self, dtype=None, copy=None):
        assert self.left == 0
        return self.array

    numpy = __array__


class Loader:
    """Like a DataLoader: iterated over again in each epoch, no sequence and no function; its batches are lists."""

    def __init__(self, batches, convert=lambda array: array):
        self.batches, self.convert, self.epochs = batches, convert, 0

    def __iter__(self):
        self.epochs += 1
        return ([self.convert(array) for array in one] for one in self.batches)


SOURCES = {
    "lists": lambda: list(map(list, BATCHES)),
    "tuple": lambda: tuple(BATCHES),
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
    model, metrics = made()[0], {"accuracy": sr.accuracy}
    ours, theirs = (sr.evaluate(model, sr.cross_entropy, each, metrics=metrics) for each in (SOURCES[kind](), BATCHES))
    assert ours == theirs


def test_sources_are_read_once_for_each_epoch():
    """A loader, a function, and an iterator, which serves one epoch."""
    loader = Loader(BATCHES)
    assert same(trained(loader, epochs=3), trained(lambda epoch: iter(BATCHES), epochs=3)) and loader.epochs == 3
    assert same(trained(iter(BATCHES)), trained(BATCHES))


@pytest.mark.parametrize("held_out", [Loader(BATCHES), sr.Sampler(lambda key: batch(0), jax.random.key(0), 1)])
def test_held_out_sets_are_read_at_each_evaluation(held_out):
    model, optimizer = made()
    history = sr.fit(model, optimizer, sr.cross_entropy, BATCHES[:3], held_out=held_out, evaluate_every=1)
    assert [record["step"] for record in history.records] == [1, 2, 3]
    assert sr.evaluate(model, sr.cross_entropy, held_out)["loss"] == history.records[-1]["loss"]


def test_masks_and_targets_may_be_tensors_too():
    inputs, labels = BATCHES[0]
    mask = np.arange(T)[:, None] < np.array([6, 2, 3, 5])
    plain = trained([(inputs, labels, mask)])
    assert same(trained([(Tensor(inputs), Tensor(labels), Tensor(mask))]), plain)
    padded = np.where(mask[..., None], inputs, np.nan)
    assert same(trained([(padded, labels, mask)]), plain)  # nor does it matter what is behind the mask
    ours, theirs = (
        jax.tree.leaves(sr.gradients(made()[0], sr.cross_entropy, *of, rule=sr.OTPE()))
        for of in (map(Tensor, (padded, labels, mask)), map(jnp.asarray, (inputs, labels, mask)))
    )
    assert same(ours, theirs)
