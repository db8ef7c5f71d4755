"""Train the network of a task under one rule with several seeds, and keep its parameters along the way.

The numbers are losses and accuracies. The arrays have one entry for each path of a parameter, [seeds, checkpoints, ...].
"""

from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jax import random

from experiments.common.learning import fit_or_stop
from experiments.common.measures import loss_of_params
from experiments.common.samples import draws, in_parts, seeds_of
from experiments.landscapes.problem import make_problem
from slax_neurons import Connect, unroll
from slax_rules import RULES, TBPTT, Every, accuracy
from slax_rules.train.agreement import by_path


def compute(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The test losses and test accuracies of all checkpoints, for all seeds, and the parameters.

    A checkpoint is taken before training and after every `checkpoint_every` batches. Online training updates after each step,
    as in slax; TBPTT updates after its own number of steps.
    """
    draw = draws(lambda key, keys: jax.lax.map(make_problem(config, key).sample, keys))
    transformation = optax.adamax(config["learning_rate"])
    seeds, trained = [], []
    for seed in seeds_of(config):
        problem = make_problem(config, random.key(seed))
        model, test_set, params, numbers = problem.model, problem.test_set, [], []

        def keep(model: Connect, test_set: Any = test_set, params: Any = params, numbers: Any = numbers) -> None:
            params.append({path: np.asarray(leaf) for path, leaf in by_path(nnx.state(model, nnx.Param)).items()})
            numbers.append(jax.device_get(measure(model, *test_set)))

        keep(model)
        rule: Any = RULES[config["rule"]].make(rngs=nnx.Rngs(problem.rule_key), model=model)
        window = {"window": rule.steps if isinstance(rule, TBPTT) else 1} if config["mode"] == "online" else {}
        keys = random.split(problem.train_key, (config["checkpoints"], config["checkpoint_every"])).ravel()
        batches = in_parts(partial(draw, random.key(seed)), keys)
        callbacks = [Every(config["checkpoint_every"], lambda info, keep=keep: keep(info.model))]
        where = f"landscapes of {config['task']}: under {config['rule']} {config['mode']}, seed {seed}"
        fit_or_stop(where, model, rule, transformation, batches, update=config["mode"], callbacks=callbacks, **window)
        seeds.append({"seed": seed} | {name: [float(of[name]) for of in numbers] for name in numbers[0]})
        trained.append({path: np.stack([of[path] for of in params]) for path in params[0]})
    return {"seeds": seeds}, {path: np.stack([of_seed[path] for of_seed in trained]) for path in trained[0]}


@nnx.jit
def measure(model: Connect, inputs: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """The loss and the accuracy on some samples."""
    _, outputs = unroll(model, model.initialize_carry(inputs.shape[1:]), inputs)
    loss = loss_of_params(model, inputs, labels)(nnx.state(model, nnx.Param))
    return {"loss": loss, "accuracy": accuracy(outputs, labels)}
