"""FPTT against loops in NumPy, each variant as its source writes it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from slax_rules import fptt
from slax_rules.rules.fptt import VARIANTS

pytestmark = pytest.mark.usefixtures("x64", "standard_promotion")
START = {"a": np.array([0.5, -1.0, 0.2]), "b": np.array([[1.0, 0.3], [-0.4, 2.0]])}


class Loop:
    """The rule as its sources write it, on one vector. `gradient` maps parameters to the gradient of this step's loss."""

    def __init__(self, variant, w, alpha=0.5, beta=0.5):
        self.variant, self.alpha, self.beta = variant, alpha, beta
        self.restart(w)

    def restart(self, w):
        self.multiplier, self.average = np.zeros_like(w), w

    def step(self, gradient, w):
        alpha, multiplier, average = self.alpha, self.multiplier, self.average
        if self.variant == "official":
            # The gradient of l_t - <lambda, W> + alpha/2 |W - Wbar|^2.
            new = w - 0.1 * (gradient(w) - multiplier + alpha * (w - average))
            self.multiplier = multiplier - alpha * (new - average)
            self.average = (1 - self.beta) * average + self.beta * new - self.beta / alpha * self.multiplier
            return new
        # The gradient of l_t + alpha/2 |W - Wbar - lambda / (2 alpha)|^2.
        new = w - 0.1 * (gradient(w) + alpha * (w - average - multiplier / (2 * alpha)))
        self.multiplier = multiplier - alpha * (new - average)
        self.average = (average + new) / 2 - self.multiplier / (2 * alpha)
        return new


def gradient_of_step(t):
    """A loss of its own for each step, not quadratic."""
    return lambda w: np.sin(w + t) + 0.3 * (w - np.cos(t * np.arange(w.size)))


def ours(transformation, n_steps):
    """The parameters after each step, as one vector, and the last state."""
    _, unravel = ravel_pytree(START)

    params = jax.tree.map(jnp.asarray, START)
    states = transformation.init(params)
    path = []
    for t in range(n_steps):
        gradient = unravel(jnp.asarray(gradient_of_step(t)(np.asarray(ravel_pytree(params)[0]))))
        updates, states = transformation.update(gradient, states, params)
        params = optax.apply_updates(params, updates)
        path.append(np.asarray(ravel_pytree(params)[0]))
    return path, states


def theirs(loop, n_steps, restart_every):
    w, path = np.asarray(ravel_pytree(START)[0]), []
    for t in range(n_steps):
        if restart_every and t % restart_every == 0:
            loop.restart(w)
        w = loop.step(gradient_of_step(t), w)
        path.append(w)
    return path


@pytest.mark.parametrize("reset_every", [None, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_loop_of_its_source(variant, reset_every):
    """A reset starts the rule anew after each sequence. Only one of the sources has a weight of the average."""
    options = {"alpha": 0.8, "beta": 0.3} if variant == "official" else {"alpha": 0.8}
    reference = Loop(variant, np.asarray(ravel_pytree(START)[0]), **options)
    path, state = ours(fptt(optax.sgd(0.1), variant=variant, reset_every=reset_every, **options), 8)
    np.testing.assert_allclose(path, theirs(reference, 8, reset_every), rtol=1e-12)
    np.testing.assert_allclose(ravel_pytree(state.multiplier)[0], reference.multiplier, rtol=1e-9)
    np.testing.assert_allclose(ravel_pytree(state.average)[0], reference.average, rtol=1e-9)
