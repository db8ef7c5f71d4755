"""One small model, with one optimizer and one loss, so that the tests of training share their compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from slax_neurons import LI, LIF, connect
from slax_rules import Every, Sampler, cross_entropy, fit

T, B, N, C = 6, 4, 5, 3
MOMENTUM = optax.sgd(0.1, momentum=0.9)  # one object: another one would be another program


class Killed(Exception):
    """What ends a run in the middle."""


def killed_at(step):
    """A callback that ends a run."""

    def look(info):
        if info.step == step:
            raise Killed

    return Every(1, look)


def optimizer_of(model, rule=None, transformation=MOMENTUM):
    """An optimizer of a model, and of a rule that has parameters."""
    learns = rule is not None and jax.tree.leaves(nnx.state(rule, nnx.Param))
    return nnx.Optimizer((model, rule) if learns else model, transformation, wrt=nnx.Param)


def made(transformation=MOMENTUM, *, hidden=6, modules=(), dtype=jnp.float32):
    """The model and an optimizer of it."""
    rngs = nnx.Rngs(0)
    first, second = (nnx.Linear(*sizes, rngs=rngs, param_dtype=dtype) for sizes in ((N, hidden), (hidden, C)))
    model = connect([first, *modules, LIF(threshold=0.5, param_dtype=dtype), second, LI(param_dtype=dtype)])
    return model, optimizer_of(model, transformation=transformation)


def batch(seed, dtype=np.float32):
    draws = np.random.default_rng(seed)
    return (draws.random((T, B, N)) < 0.4).astype(dtype), np.arange(B) % C


BATCHES = [batch(seed) for seed in range(4)]


class Shuffled:
    """A loader in an order from its own random numbers, another one each time."""

    def __init__(self, batches):
        self.batches, self.rng = batches, np.random.default_rng(0)

    def __iter__(self):
        return iter([self.batches[index] for index in self.rng.permutation(len(self.batches))])


def sample(key):
    return jax.random.bernoulli(key, 0.4, (T, B, N)).astype(jnp.float32), jnp.arange(B) % C


SAMPLER = Sampler(sample, jax.random.key(1), steps=4)


def trained(source, loss_fn=cross_entropy, **options):
    """The losses and the numbers of the model after a run."""
    model, optimizer = made()
    history = fit(model, optimizer, loss_fn, source, **options)
    return [history.losses, *numbers(model)]


def numbers(*nodes):
    """All arrays of modules, rules and optimizers."""
    leaves = jax.tree.leaves(nnx.state(nodes))
    return [
        np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x) for x in leaves
    ]


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def close(ours, theirs, rtol=1e-5, atol=1e-6):
    return all(np.allclose(a, b, rtol=rtol, atol=atol) for a, b in zip(ours, theirs, strict=True))
