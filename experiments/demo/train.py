"""Train the network of the first notebook under one rule, and keep its parameters along the way as the notebook does.

The numbers are losses. The arrays have one entry for each path of a parameter, [seeds, checkpoints + 1, ...].
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import random
from tqdm import tqdm

from experiments.common.training import check_losses, loss_of_params, make_optimizer, make_rule, training_step
from experiments.demo.notebooks import first_keys, first_network, random_bits, sampler
from slax_neurons import Connect
from slax_rules import cross_entropy, train_offline, train_online
from slax_rules.training.paths import by_path


def compute(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The losses and the parameters of the seeds 0, 1, ...; the notebook has the seed 0. All seeds have its manifolds."""
    program = jax.jit(partial(one_seed, config))
    seeds, trained = [], []
    for seed in tqdm(range(config["seeds"]), desc=config["rule"], unit="seed", disable=None):
        with random_bits():
            numbers, params, losses = jax.tree.map(np.asarray, program(random.key(seed)))
        check_losses(f"demo: under {config['rule']}", seed, losses)
        seeds.append({"seed": seed} | {name: values.tolist() for name, values in numbers.items()})
        trained.append(params)
    return {"seeds": seeds}, {path: np.stack([params[path] for params in trained]) for path in trained[0]}


def one_seed(config: dict[str, Any], key: jax.Array) -> tuple[dict[str, jax.Array], dict[str, jax.Array], jax.Array]:
    """The test loss of each checkpoint and of the parameters at the end; the checkpoints, leaves [checkpoints + 1, ...] by
    path; and the losses of all batches.

    A checkpoint is taken before the training and after every `checkpoint_every` batches. The last of them is replaced by the
    parameters with the lowest loss on one validation batch; `best_after` is the number of batches before it.
    """
    model = first_network(config["layers"], key)
    sample = sampler(config["layers"], config["n_steps"])
    training, validation = first_keys(key, config["checkpoints"] * config["checkpoint_every"])
    checkpoints, last, best_after, losses = train(config, model, sample, training, validation)
    loss = loss_of_params(model, *sample(training[-1], batch_size=config["test_size"]))
    numbers = {"loss": jax.lax.map(loss, checkpoints), "loss_at_the_end": loss(last), "best_after": best_after}
    return numbers, by_path(checkpoints), losses


def train(
    config: dict[str, Any], model: Connect, sample: Any, training: jax.Array, validation: jax.Array
) -> tuple[nnx.State, nnx.State, jax.Array, jax.Array]:
    """The checkpoints, the parameters at the end, the number of batches before the best of them, and the losses of all
    batches."""
    rule = make_rule(config["rule"], model, random.key(0))
    optimizer = make_optimizer(config, model, rule, config["learning_rate"])
    of_batch = partial(sample, batch_size=config["batch_size"])

    def train_on(model: Connect, rule: Any, optimizer: nnx.Optimizer, key: jax.Array) -> jax.Array:
        if config["update"] == "offline":
            return train_offline(model, optimizer, cross_entropy, *of_batch(key), rule=rule)
        return train_online(model, optimizer, cross_entropy, *of_batch(key), rule=rule, window=1)

    step, start = training_step((model, rule, optimizer), train_on)

    def batch(
        carry: tuple[Any, Any], keys: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[tuple[Any, Any], jax.Array]:
        state, best = carry
        number, training, validation = keys
        state, loss = step(state, training)
        params = nnx.filter_state(state[0], nnx.Param)
        new = (loss_of_params(model, *of_batch(validation))(params), number, params)
        return (state, keep_better(best, new)), loss

    def part(carry: tuple[Any, Any], keys: Any) -> tuple[tuple[Any, Any], tuple[nnx.State, jax.Array]]:
        before = nnx.filter_state(carry[0][0], nnx.Param)
        carry, losses = jax.lax.scan(batch, carry, keys)
        return carry, (before, losses)

    numbers = jnp.arange(1, len(training) + 1)
    keys = jax.tree.map(lambda x: x.reshape(config["checkpoints"], -1), (numbers, training, validation))
    nothing_yet: Any = (jnp.inf, 0, nnx.filter_state(start[0], nnx.Param))
    (state, best), (checkpoints, losses) = jax.lax.scan(part, (start, nothing_yet), keys)
    _, best_after, best_params = best
    checkpoints = jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), checkpoints, best_params)
    return checkpoints, nnx.filter_state(state[0], nnx.Param), best_after, losses.ravel()


def keep_better(old: Any, new: Any) -> Any:
    """Of two tuples whose first entry is a loss, the one with the lower loss, and the old one if they are equal."""
    return jax.tree.map(lambda before, after: jnp.where(new[0] < old[0], after, before), old, new)
