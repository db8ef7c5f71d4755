"""The Hessian of the loss at the solution of a rule.

    H = d^2 L / dp^2,    L the mean cross entropy over steps and test samples, p all parameters

in the calculus of the surrogates, whatever the rule: see `slax_viz.curvature`. A rule other than BPTT does not end where
the gradient of L is zero, and with spikes BPTT does not either, so H may have large negative eigenvalues there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import random

from experiments.common.training import check_losses, loss_of_params, make_model, make_rule, model_accuracy, train
from slax_data import make_task
from slax_viz import hessian_eigenvalues, hessian_trace


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The results of `one_seed` for the seeds 0, 1, ..., computed by a single program."""
    program = jax.jit(partial(one_seed, config))
    seeds = []
    for seed in range(config["seeds"]):
        found, losses = program(random.key(seed))
        check_losses("curvature", seed, {config["rule"]: losses})
        numbers = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), found)
        if not np.isfinite(numbers["loss"] + sum(numbers["largest"]["values"]) + numbers["trace"]["mean"]):
            raise SystemExit(
                f"curvature: at the solution of {config['rule']}, seed {seed}, after {config['steps']} steps, the loss or its "
                "Hessian is not finite. A learning rate that is too high can cause this."
            )
        seeds.append({"seed": seed} | numbers)
    return {"seeds": seeds}


def one_seed(config: dict[str, Any], key: jax.Array) -> tuple[dict[str, Any], jax.Array]:
    """The accuracy, the loss and the norm of its gradient at the rule's solution; the largest and smallest eigenvalues of the
    Hessian, with the evidence for them, and its trace; and the training losses. The key determines all random draws."""
    task_key, model_key, rule_key, train_key, test_key, hessian_key = random.split(key, 6)
    layers = config["layers"]
    sizes = {"n_units": layers[0], "n_classes": layers[-1], "n_steps": config["n_steps"]}
    task = make_task("randman", task_key, code=config["code"], **sizes)
    model = make_model(config, nnx.Rngs(model_key))
    rule = make_rule(config["rule"], model, rule_key)
    sample = partial(task.sample, batch_size=config["batch_size"])
    losses = train(config, "offline", model, rule, sample, random.split(train_key, config["steps"]))

    test_set = task.sample(test_key, batch_size=config["test_size"], split="test")
    few = slice(config["samples"])
    loss = loss_of_params(model, test_set[0][:, few], test_set[1][few])
    params = nnx.state(model, nnx.Param)
    lanczos_key, trace_key = random.split(hessian_key)
    value, gradient = jax.value_and_grad(loss)(params)
    numbers = {
        "accuracy": model_accuracy(model, *test_set),
        "loss": value,
        "gradient": jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient))),
        **both_ends(config, loss, params, lanczos_key),
        "trace": hessian_trace(loss, params, trace_key, n_samples=config["trace_samples"])._asdict(),
    }
    return numbers, losses


def both_ends(config: dict[str, Any], loss: Callable, params: nnx.State, key: jax.Array) -> dict[str, Any]:
    """The largest eigenvalues of H, decreasing, and the smallest, increasing, from the same code, compiled once."""

    def largest(sign: jax.Array) -> dict[str, jax.Array]:
        found = hessian_eigenvalues(
            lambda params: sign * loss(params),
            params,
            key,
            n_top=config["eigenvalues"],
            n_steps=config["products"],
            tolerance=config["tolerance"],
            n_starts=1,
        )
        numbers = {name: getattr(found, name) for name in ("residuals", "converged", "asymmetry", "steps")}
        return numbers | {"values": sign * found.values}

    ends = jax.lax.map(largest, jnp.array([1.0, -1.0]))
    return {end: jax.tree.map(lambda leaf, i=i: leaf[i], ends) for i, end in enumerate(("largest", "smallest"))}
