"""One cell of the experiment: one task and one seed, at several points of training with BPTT.

For each learning rule, the cosine similarity of its gradient to that of BPTT, at the same parameters and on the same
batches, layer by layer; and the test accuracy of the parameters at which they are compared.

    python -m experiments.gradient_similarity.run --task randman_shallow --seed 0 --output result.json
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import yaml
from flax import nnx
from jax import random
from tqdm import trange

from experiments.command_line import cell_parser
from experiments.record import recorded
from slax_data import held_out, make_task
from slax_neurons import LIF, Connect, connect, unroll
from slax_rules import RULES, accuracy, cross_entropy, gradients, train_offline
from slax_viz import cosine_similarity

STEPS_PER_CALL = 50


def main() -> None:
    parser = cell_parser(__file__, __doc__, "task")
    parser.add_argument("--seed", type=int, required=True, help="of manifolds, weights and batches")
    arguments = parser.parse_args()
    config = cell_config(yaml.safe_load(arguments.config.read_text()), arguments.scale, arguments.task)
    with recorded(arguments.output, config=config, seed=arguments.seed) as result:
        result["stages"] = compute(config, arguments.seed)


def cell_config(config: dict[str, Any], scale: str, name: str) -> dict[str, Any]:
    """The values that the cells of one task depend on, out of the whole config.yaml."""
    settings = config["scales"][scale]
    if name not in settings["tasks"]:
        raise SystemExit(f"There is no task {name!r}, expected one of: {', '.join(settings['tasks'])}.")
    # Those that are a rule of gradients, and need nothing but the model.
    known = [key for key, rule in RULES.items() if not rule.options and rule.optimizer is None]
    unknown = set(settings["rules"]) - set(known)
    if unknown:
        raise SystemExit(f"There is no rule {', '.join(sorted(unknown))}, expected some of: {', '.join(known)}.")
    steps = settings["measure_at"]
    if steps != sorted(set(steps)):
        raise SystemExit(f"measure_at is {steps}, expected steps in rising order.")
    return {key: value for key, value in settings.items() if key not in ("seeds", "tasks")} | {
        "scale": scale,
        "task": name,
        **settings["tasks"][name],
    }


def compute(config: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """The numbers of one cell: after each of the steps to measure at, test accuracy and each rule's agreement with BPTT."""
    task_key, model_key, train_key, batch_key, test_key = random.split(random.key(seed), 5)
    task = make_task(config["dataset"], task_key, **_task_options(config))
    if config["layers"][0] != task.n_units or config["layers"][-1] != task.n_classes:
        raise SystemExit(
            f"The layers of {config['task']} are {config['layers']}, but its data have {task.n_units} units and "
            f"{task.n_classes} classes, which the first and the last layer have to match."
        )
    model = make_model(config["layers"], nnx.Rngs(model_key))
    sample = partial(task.sample, batch_size=config["batch_size"])
    batches = [sample(key) for key in random.split(batch_key, config["eval_batches"])]
    test_set = held_out(task, test_key, config["test_size"])

    optimizer = nnx.Optimizer(model, optax.adamax(config["learning_rate"]), wrt=nnx.Param)
    keys = random.split(train_key, max(config["measure_at"]))
    stages, done = [], 0
    for step in config["measure_at"]:
        train(model, optimizer, sample, keys[done:step])
        done = step
        stages.append({"step": step, **measure(model, config["rules"], batches, test_set)})
    return stages


def make_model(layers: list[int], rngs: nnx.Rngs) -> Connect:
    """Linear and LIF for each pair of sizes, the read-out too."""
    sizes = itertools.pairwise(layers)
    return connect([module for n_in, n_out in sizes for module in (nnx.Linear(n_in, n_out, rngs=rngs), LIF())])


def train(model: Connect, optimizer: nnx.Optimizer, sample: Callable, keys: jax.Array) -> None:
    """Trains with BPTT, on a new batch for each key."""
    # A bar for a person at a terminal, nothing for a log.
    for start in (bar := trange(0, len(keys), STEPS_PER_CALL, unit_scale=STEPS_PER_CALL, unit="steps", disable=None)):
        losses = train_steps(model, optimizer, sample, keys[start : start + STEPS_PER_CALL])
        if not jnp.isfinite(losses).all():
            raise SystemExit(
                "The training loss is not finite. A label out of range makes it so, or a learning rate too high."
            )
        bar.set_postfix(loss=f"{losses.mean():.3f}")


@partial(nnx.jit, static_argnames="sample")
def train_steps(model: Connect, optimizer: nnx.Optimizer, sample: Callable, keys: jax.Array) -> jax.Array:
    """Several optimiser steps in one call; returns their losses."""
    graphdef, state = nnx.split((model, optimizer))

    def step(state: nnx.State, key: jax.Array) -> tuple[nnx.State, jax.Array]:
        model, optimizer = nnx.merge(graphdef, state)
        loss = train_offline(model, optimizer, cross_entropy, *sample(key))
        return nnx.state((model, optimizer)), loss

    state, losses = jax.lax.scan(step, state, keys)
    nnx.update((model, optimizer), state)
    return losses


def measure(model: Connect, rules: list[str], batches: list, test_set: tuple) -> dict[str, Any]:
    """Test accuracy, and for each rule and layer the mean over batches of cosine and norm ratio to BPTT.

    A batch on which either gradient is zero has no cosine. It is left out of the means; where no batch is left, they are
    None.
    """
    per_batch = [compare_with_bptt(model, tuple(rules), *batch) for batch in batches]
    by_rule = {
        name: {layer: _mean_over_batches([batch[name][layer] for batch in per_batch]) for layer in layers}
        for name, layers in per_batch[0].items()
    }
    return {"test_accuracy": float(test_accuracy(model, *test_set)), "rules": by_rule}


@partial(nnx.jit, static_argnames="rules")
def compare_with_bptt(model: Connect, rules: tuple[str, ...], inputs: jax.Array, labels: jax.Array) -> dict[str, Any]:
    def gradient(name: str) -> nnx.State:
        rule = RULES[name]
        return gradients(rule.wrap(model), cross_entropy, inputs, labels, window=rule.window)[1]

    reference = gradient("bptt")
    return {name: cosine_similarity(gradient(name), reference, group=layer_of) for name in rules}


def layer_of(path: str) -> str:
    """The layer, counted from 1, of a parameter's path like "modules/2/kernel": two modules are a layer."""
    return str(int(path.split("/")[1]) // 2 + 1)


@nnx.jit
def test_accuracy(model: Connect, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    _, outputs = unroll(model, model.initialize_carry(inputs.shape[1:]), inputs)
    return accuracy(outputs, labels)


def _mean_over_batches(cosines: list) -> dict[str, Any]:
    defined = [cosine for cosine in cosines if cosine.defined]
    return {
        "batches": len(defined),
        "cosine": float(np.mean([cosine.value for cosine in defined])) if defined else None,
        "norm_ratio": float(np.mean([cosine.norm_ratio for cosine in defined])) if defined else None,
    }


def _task_options(config: dict[str, Any]) -> dict[str, Any]:
    sizes = (
        {"n_units": config["layers"][0], "n_classes": config["layers"][-1]} if config["dataset"] == "randman" else {}
    )
    return {"n_steps": config["n_steps"], "code": config["code"], **sizes}


if __name__ == "__main__":
    main()
