"""Train one task under one rule with several seeds, and compare its gradient with BPTT's before and after training.

The rule trains the network twice from the same start, offline (one optimizer step for a sequence) and online (one for
each window). Before and after training, it measures the test accuracy, the firing rates of the hidden layers, and
layer by layer the cosine between the gradients of the rule and of BPTT at the same parameters and on the same batch.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import random

from experiments.common.tasks import task_maker
from experiments.common.training import (
    activity,
    check_losses,
    gradient_rule,
    layer_of,
    loss_at_the_end,
    make_model,
    make_rule,
    model_accuracy,
    plain_layers,
    train,
)
from slax_data import held_out
from slax_neurons import Connect
from slax_rules import RULES, cross_entropy, gradients
from slax_viz import cosine_similarity


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The results of `one_seed` for the seeds 0, 1, ..., computed by a single program."""
    program = jax.jit(partial(one_seed, config))
    numbers = []
    for seed in range(config["seeds"]):
        stages, losses = program(random.key(seed))
        named = {f"{config['rule']} {update}": of_update for update, of_update in losses.items()}
        check_losses(f"rules_table of {config['task']}", seed, named)
        numbers.append({"seed": seed, **{name: as_json(stage) for name, stage in stages.items()}})
    return {"seeds": numbers}


def one_seed(config: dict[str, Any], key: jax.Array) -> tuple[dict[str, dict[str, Any]], dict[str, jax.Array]]:
    """The numbers of `measure` at initialization and after training with each update mode, and the losses of all steps; the key
    determines all random draws."""
    task_key, model_key, rule_key, train_key, batch_key, test_key = random.split(key, 6)
    task = task_maker(config, None)(task_key)
    model = make_model(config, nnx.Rngs(model_key))
    rule = make_rule(config["rule"], model, rule_key)
    sample = partial(task.sample, batch_size=config["batch_size"])
    batch = task.sample(batch_key, batch_size=config["eval_size"], split="test")
    test_set = held_out(task, test_key, config["test_size"])

    start = nnx.split((model, rule))
    graphdef, params, rest = nnx.split((model, rule), nnx.Param, ...)
    stages, losses = {"initial": params}, {}
    for update in RULES[config["rule"]].updates:
        copy, rule = nnx.merge(*start, copy=True)
        losses[update] = train(config, update, copy, rule, sample, random.split(train_key, config["steps"]))
        stages[update] = nnx.state((copy, rule), nnx.Param)

    def numbers(params: nnx.State) -> dict[str, Any]:
        model, rule = nnx.merge(graphdef, params, rest, copy=True)
        return measure(model, gradient_rule(config["rule"], rule), batch, test_set)

    # One stage after another through the same code, so that it is compiled once.
    measured = jax.lax.map(numbers, jax.tree.map(lambda *params: jnp.stack(params), *stages.values()))
    of_stages = {
        name: jax.tree.map(lambda values, stage=stage: values[stage], measured) for stage, name in enumerate(stages)
    }
    return of_stages | {
        update: of_stages[update] | {"loss": loss_at_the_end(losses[update])} for update in losses
    }, losses


def measure(model: Connect, rule: Any, batch: tuple, test_set: tuple) -> dict[str, Any]:
    """The test accuracy, the spikes per step and neuron of each hidden layer, and the agreement of each layer with BPTT."""
    _, reference = gradients(model, cross_entropy, *batch)
    _, gradient = gradients(model, cross_entropy, *batch, rule=rule)
    agreement = cosine_similarity(gradient, reference, group=layer_of)
    return {
        "accuracy": model_accuracy(model, *test_set),
        "spikes": activity(model, test_set[0]),
        "layers": {
            layer: {"cosine": cosine.value, "norm_ratio": cosine.norm_ratio, "defined": cosine.defined}
            for layer, cosine in agreement.items()
        },
    }


def as_json(stage: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a stage as plain numbers."""
    numbers = {name: jax.tree.map(float, values) for name, values in stage.items() if name != "layers"}
    return numbers | {"layers": plain_layers(stage["layers"])}
