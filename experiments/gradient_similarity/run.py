"""Compare the gradients of the rules with the exact one, for one task and all seeds, at several points of training with BPTT.

At each point, with the same parameters and batches for all rules, it measures layer by layer the agreement of each learning
rule's gradient with BPTT, its bias and its variance over batches, and the terms of the exact gradient, some of which each rule
omits. It also measures the test accuracy and the firing rates of the hidden layers.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import random

from experiments.common.learning import at_one_rate
from experiments.common.measures import activity, layer_of
from experiments.common.samples import Samples, key_of, make_sampler
from experiments.common.tasks import demo_model, make_model
from experiments.gradient_similarity.terms import terms_of, without_reset_gradient
from slax_neurons import Connect
from slax_rules import RULES, UORO, cross_entropy, gradients
from slax_rules import agreement as agreement_of
from slax_rules.train.agreement import Agreement
from slax_viz import gradient_noise

Vectors = dict[str, jax.Array]  # a gradient as one vector for each layer, [P]; for several batches [M, P]


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """The numbers of `measure` at each of the steps, for all seeds."""
    config = config | {"rule": "bptt", "steps": max(1, config["measure_at"][-1])}
    sampler, at = make_sampler(config, spikes), config["measure_at"]
    where = f"gradient_similarity of {config['task']}: under bptt"
    measured = nnx.jit(lambda model, *samples: measure(config["rules"], model, *samples))
    seeds = []
    for run in at_one_rate(config, sampler, where, network=make_network, evaluate_at=at):
        samples = sampler(run.seed)
        given = samples.others(config["eval_batches"]), key_of(run.seed, "measurements"), samples.test[0]
        stages = [
            _as_json(config, step, {"test_accuracy": run.test[step]} | measured(run.network(step)[0], *given))
            for step in at
        ]
        seeds.append({"seed": run.seed, "stages": stages})
    return {"seeds": seeds}


def make_network(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """The stack of a task: `demo_model` for "slax_demo"; `make_model`, whose hidden layers fire, for "fluctuation_driven"."""
    if config["network"] == "fluctuation_driven":
        return make_model(config, rngs)
    return demo_model(config["layers"], rngs)


def measure(rules: list[str], model: Connect, batches: Samples, key: jax.Array, test: jax.Array) -> dict[str, Any]:
    """The spikes per step and neuron of hidden layers, and the numbers of each rule and term by layer.

    The key is for the random draws of the rules: the read-outs of DECOLLE belong to the rule, and are the same for all batches;
    the signs of UORO are drawn again for each batch.
    """
    rule_key, noise_key = random.split(key)

    def of_batch(batch: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[dict[str, Vectors], dict[str, Vectors]]:
        noise_key, spikes, labels = batch
        return gradients_of_batch(rules, model, rule_key, noise_key, spikes.astype(jnp.float32), labels)

    noise_keys = random.split(noise_key, len(batches[0]))
    by_rule, terms = jax.lax.map(of_batch, (noise_keys, *batches))
    exact = by_rule["bptt"]
    return {
        "finite": {name: all_finite(vectors) for name, vectors in (by_rule | terms).items()},
        "spikes": activity(model, test),
        "rules": {name: agreement(by_rule[name], exact) for name in ["bptt", *rules]},
        "terms": {name: share(term, exact) for name, term in terms.items()},
    }


def gradients_of_batch(
    rules: list[str], model: Connect, rule_key: jax.Array, noise_key: jax.Array, inputs: jax.Array, labels: jax.Array
) -> tuple[dict[str, Vectors], dict[str, Vectors]]:
    """The gradients of each rule, of BPTT and of the rules that define the terms, and the terms of the exact gradient."""
    model = nnx.clone(model)  # so that it belongs to the program that calls this, as the rules do

    def gradient(name: str, model: Connect) -> Vectors:
        rule: Any = RULES[name].make(rngs=nnx.Rngs(rule_key), model=model)
        if isinstance(rule, UORO):
            rule.stream = nnx.RngStream(noise_key, tag="noise")
        return by_layer(model, gradients(model, cross_entropy, inputs, labels, rule=rule)[1])

    by_rule = {name: gradient(name, model) for name in dict.fromkeys([*rules, "bptt", "ostl", "sltt"])}
    cut = without_reset_gradient(model)
    return by_rule, terms_of(by_rule, {name: gradient(name, cut) for name in ("ostl", "bptt")})


def by_layer(model: Connect, gradient: nnx.State) -> Vectors:
    """A gradient as one vector for each layer, counted from 1."""
    leaves, layer = defaultdict(list), layer_of(model)
    for path, leaf in nnx.to_flat_state(gradient):
        leaves[layer("/".join(map(str, path)))].append(leaf[...].ravel())
    return {layer: jnp.concatenate(parts) for layer, parts in leaves.items()}


def all_finite(vectors: Vectors) -> jax.Array:
    return jnp.stack([jnp.isfinite(vector).all() for vector in vectors.values()]).all()


def in_each_layer(gradient: Vectors, exact: Vectors) -> dict[str, Agreement]:
    """The agreement of two gradients in each layer."""
    return agreement_of(gradient, exact, group=str)


def agreement(gradient: Vectors, exact: Vectors) -> dict[str, dict[str, jax.Array]]:
    """The mean over batches of cosine and norm ratio to BPTT for each layer, the numbers of `gradient_noise`, and the variance
    in units of the squared norm of the rule's own expected gradient.

    A batch on which either gradient is zero has no cosine and is omitted from the means; `batches` counts the remaining ones.
    Numbers are NaN where no batch remains, or where noise makes them meaningless.
    """
    noise, of_itself = gradient_noise(gradient, exact), gradient_noise(gradient, gradient)
    numbers = {}
    for layer, found in jax.vmap(in_each_layer)(gradient, exact).items():
        own = noise[layer]
        means = {name: jnp.mean(getattr(found, name), where=found.defined) for name in ("cosine", "norm_ratio")}
        from_noise = {
            "relative_variance": (of_itself[layer].defined, of_itself[layer].variance),
            "cosine_of_means": (own.cosine_defined, own.cosine),
            **{name: (own.defined, getattr(own, name)) for name in ("bias_squared", "variance", "projection")},
        }
        kept = {name: jnp.where(*of, jnp.nan) for name, of in from_noise.items()}
        numbers[layer] = {"batches": jnp.sum(found.defined)} | means | kept
    return numbers


def share(term: Vectors, exact: Vectors) -> dict[str, dict[str, jax.Array]]:
    """The share of a term t in the exact gradient G, for each layer: <t, G> / <G, G> from `gradient_noise`, NaN where there are
    too few batches; and |t| / |G|, with t and G averaged over batches, including noise. The shares of all terms add up to 1."""
    means = [{layer: jnp.mean(vectors, axis=0) for layer, vectors in of.items()} for of in (term, exact)]
    lengths = in_each_layer(*means)
    return {
        layer: {"share": jnp.where(noise.defined, noise.projection, jnp.nan), "norm_ratio": lengths[layer].norm_ratio}
        for layer, noise in gradient_noise(term, exact).items()
    }


def _as_json(config: dict[str, Any], step: int, numbers: dict[str, Any]) -> dict[str, Any]:
    """Convert the numbers of a step to plain numbers, with None for undefined ones."""
    numbers = jax.tree.map(np.asarray, numbers)
    broken = [name for name, finite in numbers.pop("finite").items() if not finite]
    if broken:
        raise SystemExit(
            f"Gradients of {config['task']} are NaN or infinite: {', '.join(broken)}. Their numbers would be meaningless: "
            "leave the rule out, or train at a lower learning rate."
        )
    return {"step": step} | jax.tree.map(lambda number: float(number) if np.isfinite(number) else None, numbers)
