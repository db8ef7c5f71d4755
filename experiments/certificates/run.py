"""Compare the gradients of all rules with the exact one in a recurrent network, and the bound of sketched RTRL with its error.

At each point of a training with BPTT, all rules have the same parameters and the same batch. The error of sketched RTRL, and
the bound that it gives for it, are divided by the norm of the exact gradient.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments.common.learning import at_one_rate
from experiments.common.measures import layer_of
from experiments.common.samples import key_of, make_sampler
from experiments.common.tasks import make_model, with_own_spikes
from slax_neurons import Connect
from slax_rules import RULES, SketchedRTRL, agreement, certified_gradient, cross_entropy, gradients

RECURRENT = "1"  # the layer


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """For all seeds, and at each step of `measure_at`, the cosine of each rule, and the numbers of each rank."""
    training = config | {"rule": "bptt", "steps": max(1, config["measure_at"][-1])}
    sampler, at = make_sampler(training, None), config["measure_at"]
    seeds = []
    for run in at_one_rate(training, sampler, "certificates: under bptt", network=network, evaluate_at=at):
        spikes, labels = (part[0] for part in sampler(run.seed).others(1))
        batch = jnp.asarray(spikes, jnp.float32), jnp.asarray(labels)
        stages = {
            str(step): measure(config, run.network(step)[0], key_of(run.seed, "measurements"), batch) for step in at
        }
        seeds.append({"seed": run.seed, "stages": stages})
    return {"seeds": seeds}


def network(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """A layer of LIF that gets its own spikes one step later, and a read-out of LI."""
    return with_own_spikes(make_model(config, rngs), rngs)


def rules_of(config: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    """The functions that make the rules that are compared, by name."""
    return {
        name: entry.make for name, entry in RULES.items() if entry.optimizer is None and name not in config["without"]
    }


def measure(config: dict[str, Any], model: Connect, key: jax.Array, batch: tuple[jax.Array, ...]) -> dict[str, Any]:
    """The agreement of each rule in the recurrent layer, and the error and the bound of each rank in all parameters.

    The error of a layer is at most that of all parameters, so a bound also guarantees the recurrent layer a cosine.
    """
    exact, layer = gradients(model, cross_entropy, *batch)[1], layer_of(model)
    rules, ranks = {}, {}
    for name, make in rules_of(config).items():
        rule = make(rngs=nnx.Rngs(key), model=model)
        ours = gradients(model, cross_entropy, *batch, rule=rule)[1]
        found = agreement(ours, exact, group=layer)[RECURRENT]
        rules[name] = float(found.cosine) if found.defined else None
    for rank in config["ranks"]:
        found = certified_gradient(model, cross_entropy, *batch, rule=SketchedRTRL(rank))
        error, size = (optax.tree.norm(tree) for tree in (jax.tree.map(jnp.subtract, found.gradient, exact), exact))
        of_paths = {"/".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(found.gradient)}
        recurrent = {path: leaf[...] for path, leaf in of_paths.items() if layer(path) == RECURRENT}
        ranks[str(rank)] = {
            "error": float(error / size),
            "bound": float(found.bound / size),
            "cosine": float(agreement(found.gradient, exact, group=layer)[RECURRENT].cosine),
            "least_cosine": float(found._replace(gradient=recurrent).cosine),
        }
    return {"rules": rules, "ranks": ranks}
