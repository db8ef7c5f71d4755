"""Train the network of the first notebook under one rule, and keep its parameters along the way as the notebook does.

The numbers are losses. The arrays have one entry for each path of a parameter, [seeds, checkpoints + 1, ...].
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import random

from experiments.common.learning import fit_or_stop, transformation
from experiments.common.measures import loss_of_params
from experiments.common.samples import random_bits
from experiments.demo.notebooks import Batch, first_keys, first_network, sampler
from slax_neurons import Connect
from slax_rules import RULES, Every, StepInfo
from slax_rules.train.agreement import by_path


def compute(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The losses and the parameters of the seeds 0, 1, ...; the notebook has the seed 0. All seeds have its manifolds."""
    with random_bits():
        sample = sampler(config["layers"], config["n_steps"])
        draw = jax.jit(partial(sample, batch_size=config["batch_size"]))
        found = [one_seed(config, sample, draw, seed) for seed in range(config["seeds"])]
    return {"seeds": [numbers for numbers, _ in found]}, {
        path: np.stack([params[path] for _, params in found]) for path in found[0][1]
    }


def one_seed(
    config: dict[str, Any], sample: Callable[..., Batch], draw: Callable[..., Batch], seed: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The test loss of each checkpoint and of the parameters at the end, and the checkpoints, [checkpoints + 1, ...] by path.

    A checkpoint is taken before the training and after every `checkpoint_every` batches. The last of them is replaced by the
    parameters with the lowest loss on one validation batch; `best_after` is the number of batches before it.
    """
    key = random.key(seed)
    model = first_network(config["layers"], key)
    training, validation = first_keys(key, config["checkpoints"] * config["checkpoint_every"])
    test_set = sample(training[-1], batch_size=config["test_size"])
    kept = [nnx.state(nnx.clone(model), nnx.Param)]
    best: tuple[float, int, Any] = (np.inf, 0, None)

    def after_step(info: StepInfo) -> None:
        nonlocal best
        params = nnx.state(nnx.clone(info.model), nnx.Param)
        loss = float(loss_on(info.model, params, *draw(validation[info.step - 1])))
        if loss < best[0]:
            best = loss, info.step, params
        if info.step % config["checkpoint_every"] == 0:
            kept.append(params)

    rule: Any = RULES[config["rule"]].make(rngs=nnx.Rngs(random.key(0)), model=model)
    made, batches = transformation(config, config["learning_rate"]), map(draw, training)
    window = {"window": 1} if config["update"] == "online" else {}
    where = f"demo: under {config['rule']}, seed {seed}"
    callbacks = [Every(1, after_step)]
    fit_or_stop(where, model, rule, made, batches, update=config["update"], callbacks=callbacks, **window)
    checkpoints = [*kept[:-1], best[2]]
    losses = [float(loss_on(model, params, *test_set)) for params in [*checkpoints, kept[-1]]]
    numbers = {"seed": seed, "loss": losses[:-1], "loss_at_the_end": losses[-1], "best_after": best[1]}
    paths = [by_path(params) for params in checkpoints]
    return numbers, {path: np.stack([of[path] for of in paths]) for path in paths[0]}


@nnx.jit
def loss_on(model: Connect, params: nnx.State, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    return loss_of_params(model, inputs, labels)(params)
