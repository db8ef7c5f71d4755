"""The draws of slax's demonstration notebooks: the same manifolds, initial weights and batches.

The third notebook has the weights and the manifolds of the first, and one batch, whose key is theirs, too. JAX has two ways to
generate random bits, and these are those of JAX before 0.5: call everything here within `random_bits()`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import random

from experiments.common.tasks import demo_model
from slax_data import upstream_randman
from slax_neurons import Connect

MANIFOLD_SEED = 0
SAMPLES_PER_CLASS = 100  # in a draw, the first of which form a batch
# In the second notebook, two networks of three layers are drawn from the same `nnx.Rngs(0)` before the one that is measured.
DRAWN_BEFORE = 12

Batch = tuple[jax.Array, jax.Array]


def sampler(layers: Sequence[int], n_steps: int) -> Callable[..., Batch]:
    """`sample(key, batch_size=...)`: Randman in the time code with the manifolds of the notebooks."""
    sizes = {"n_classes": layers[-1], "n_units": layers[0], "n_steps": n_steps}
    return partial(upstream_randman, random.key(MANIFOLD_SEED), samples_per_class=SAMPLES_PER_CLASS, **sizes)


class _Weights(linen.Module):
    """The Linear layers of a stack under the names that they have in slax 0.0.1, which Flax Linen draws them by."""

    layers: Sequence[int]

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for index, size in enumerate(self.layers[1:]):
            x = linen.Dense(size, name=f"chain_{2 * index}")(x)
        return x


def first_network(layers: Sequence[int], key: jax.Array) -> Connect:
    """The network of the first and third notebook, with the weights that slax 0.0.1 draws from a key."""
    weights = _Weights(layers).init(key, jnp.zeros((1, layers[0])))["params"]
    model = demo_model(layers, nnx.Rngs(0))
    for index in range(0, len(model.modules), 2):
        for name, value in weights[f"chain_{index}"].items():
            getattr(model.modules[index], name)[...] = value
    return model


def first_keys(key: jax.Array, n_batches: int) -> tuple[jax.Array, jax.Array]:
    """The keys of the training batches and of the validation batches of the first notebook. The test set has the last training
    key."""

    def split(key: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        training, validation = random.split(key)
        return training, (training, validation)

    _, keys = jax.lax.scan(split, key, length=n_batches)
    return keys


def second_network(layers: Sequence[int]) -> Connect:
    """The network of the second notebook."""
    rngs = nnx.Rngs(0)
    for _ in range(DRAWN_BEFORE):
        rngs.params()
    return demo_model(layers, rngs)


def second_keys(n_batches: int) -> list[jax.Array]:
    """The keys of the batches of the second notebook, which adds 0, 1, ... to both words of a key."""
    return [random.wrap_key_data(jnp.array([word, word], jnp.uint32)) for word in range(n_batches)]
