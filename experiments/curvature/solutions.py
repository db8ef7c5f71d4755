"""The Hessian of the loss at the solution of a rule.

    H = d^2 L / dp^2,    L the mean cross entropy over steps and test samples, p all parameters

in the calculus of the surrogates, whatever the rule: see `slax_viz.curvature`. A rule other than BPTT does not end where
the gradient of L is zero, and with spikes BPTT does not either, so H may have large negative eigenvalues there.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import random

from experiments.common.learning import at_one_rate
from experiments.common.measures import loss_of_params
from experiments.common.samples import Samples, key_of, make_sampler
from slax_neurons import Connect
from slax_viz import hessian_eigenvalues, hessian_trace


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """The results of `measure` at the end of training, for all seeds."""
    sampler, where = make_sampler(config, None), f"curvature: under {config['rule']}"
    measured = nnx.jit(lambda model, *samples: measure(config, model, *samples))
    seeds = []
    for run in at_one_rate(config, sampler, where):
        found = measured(run.network()[0], sampler(run.seed).test, key_of(run.seed, "measurements"))
        numbers = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), found)
        if not np.isfinite(numbers["loss"] + sum(numbers["largest"]["values"]) + numbers["trace"]["mean"]):
            raise SystemExit(
                f"curvature: at the solution of {config['rule']}, seed {run.seed}, after {config['steps']} steps, the loss or "
                "its Hessian is not finite. A learning rate that is too high can cause this."
            )
        seeds.append({"seed": run.seed, "accuracy": run.test[config["steps"]]} | numbers)
    return {"seeds": seeds}


def measure(config: dict[str, Any], model: Connect, test: Samples, key: jax.Array) -> dict[str, Any]:
    """The loss and the norm of its gradient at the rule's solution; the largest and smallest eigenvalues of the
    Hessian, with the evidence for them, and its trace. The key is for the random starts."""
    few = slice(config["samples"])
    loss = loss_of_params(model, test[0][:, few], test[1][few])
    params = nnx.state(model, nnx.Param)
    lanczos_key, trace_key = random.split(key)
    value, gradient = jax.value_and_grad(loss)(params)
    return {
        "loss": value,
        "gradient": jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient))),
        **both_ends(config, loss, params, lanczos_key),
        "trace": hessian_trace(loss, params, trace_key, n_samples=config["trace_samples"])._asdict(),
    }


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
