# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#   "slax==0.0.1", "jax==0.4.25", "jaxlib==0.4.25", "flax==0.8.2", "numpy<2", "scipy<1.13", "orbax-checkpoint==0.5.18"
# ]
# ///
"""Writes the first batches of slax 0.0.1's demonstration to original_demo.npz, for test_demo.py.

    uv run record_original_demo.py

It has the network, the keys, the optimizer and the training functions of example.ipynb at commit c1bca26. For each rule, the
file holds the loss of each batch, and the parameters after `KEPT` batches: the biases and weights of the two layers, in this
order, each raveled.
"""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import slax as sl
from jax.tree_util import tree_leaves, tree_map, tree_structure, tree_unflatten

FILE = Path(__file__).parent / "original_demo.npz"
BATCHES, KEPT = 10, 4
SIZES = dict(nb_classes=10, nb_units=50, nb_steps=10, nb_samples=100, batch_sz=128, dim_manifold=2, alpha=2.0)


def network():
    return sl.connect([nn.Dense(50), sl.LIF(), nn.Dense(10), sl.LIF()])


def flat(params):
    return np.concatenate([np.ravel(leaf) for leaf in tree_leaves(params)])


def main() -> None:
    key = jax.random.PRNGKey(0)
    zeros = jnp.zeros((SIZES["batch_sz"], SIZES["nb_units"]))
    start = network().init(key, zeros)["params"]
    optimizer = optax.adamax(0.01)
    found = {"start": flat(start), "jax": np.array(jax.__version__)}
    for rule, model, train in (
        ("bptt", network(), sl.train_offline),
        ("rtrl", sl.connect([sl.RTRL([network()])]), sl.train_online),
    ):
        variables = dict(model.init(key, zeros))
        variables["params"] = tree_unflatten(tree_structure(variables["params"]), tree_leaves(start))
        variables = {name: tree_map(jnp.float32, tree) for name, tree in variables.items()}
        state = optimizer.init(variables["params"])
        step = jax.jit(train(model, optax.softmax_cross_entropy, optimizer))
        seed, losses = key, []
        for number in range(1, BATCHES + 1):
            seed, _ = jax.random.split(seed)
            variables, state, _, loss = step(variables, sl.randman(key, seed, **SIZES), state)
            losses.append(float(jnp.mean(loss)))
            if number == KEPT:
                found[f"{rule}/params"] = flat(variables["params"])
        found[f"{rule}/losses"] = np.array(losses, np.float32)
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main()
