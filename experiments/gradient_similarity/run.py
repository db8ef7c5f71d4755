"""Compare the gradients of the rules with the exact one, for one task and all seeds, at several points of training with BPTT.

At each point, with the same parameters and batches for all rules, it measures layer by layer the agreement of each learning
rule's gradient with BPTT, its bias and its variance over batches, and the terms of the exact gradient, some of which each rule
omits. It also measures the test accuracy and the firing rates of the hidden layers.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import random
from tqdm import tqdm

from experiments.common.tasks import task_maker
from experiments.common.training import (
    activity,
    check_losses,
    check_rising,
    demo_model,
    make_model,
    make_rule,
    model_accuracy,
    training_step,
)
from experiments.gradient_similarity.terms import terms_of, without_reset_gradient
from slax_data import Task, held_out
from slax_neurons import Connect
from slax_rules import RULES, UORO, cross_entropy, gradients, train_offline
from slax_viz import cosine_similarity, gradient_noise

Vectors = dict[str, jax.Array]  # a gradient as one vector for each layer, [P]; for several batches [M, P]


def compute(config: dict[str, Any], spikes: Path | None = None) -> dict[str, Any]:
    """The results of `one_seed` for the seeds 0, 1, ..., computed by a single program."""
    check_rising(config["measure_at"])
    # The gradient of an optimizer rule equals SLTT's before the regularizer; BPTT is the reference of the comparison.
    known = [rule for rule in RULES if rule != "bptt" and RULES[rule].optimizer is None]
    unknown = [rule for rule in config["rules"] if rule not in known]
    if unknown:
        raise SystemExit(f"There is no rule {', '.join(unknown)}, expected some of: {', '.join(known)}.")
    program = jax.jit(partial(one_seed, config, task_maker(config, spikes)))
    bar = tqdm(range(config["seeds"]), desc=config["task"], unit="seed", disable=None)
    numbers = []
    for seed in bar:
        stages, losses = program(random.key(seed))
        check_losses(f"gradient_similarity of {config['task']}: under bptt", seed, losses)
        numbers.append({"seed": seed, "stages": _as_json(config, stages)})
    return {"seeds": numbers}


def one_seed(
    config: dict[str, Any], make: Callable[[jax.Array], Task], key: jax.Array
) -> tuple[dict[str, Any], jax.Array]:
    """The numbers of `measure` at each of the steps, stacked, and the losses of all steps; the key determines all draws."""
    task_key, model_key, train_key, batch_key, test_key, rule_key = random.split(key, 6)
    task = make(task_key)
    model = make_network(config, nnx.Rngs(model_key))
    sample = partial(task.sample, batch_size=config["batch_size"])
    test_set = held_out(task, test_key, config["test_size"])
    graphdef, start, rest = nnx.split(model, nnx.Param, ...)
    checkpoints, losses = train(config, nnx.merge(graphdef, start, rest, copy=True), sample, train_key)

    def numbers(params: nnx.State) -> dict[str, Any]:
        return measure(config, nnx.merge(graphdef, params, rest, copy=True), sample, batch_key, rule_key, test_set)

    return jax.lax.map(numbers, checkpoints), losses  # one after another through the same code, compiled once


def make_network(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """The stack of a task: `demo_model` for "slax_demo"; `make_model`, whose hidden layers fire, for "fluctuation_driven"."""
    if config["network"] == "fluctuation_driven":
        return make_model(config, rngs)
    return demo_model(config["layers"], rngs)


def train(config: dict[str, Any], model: Connect, sample: Callable, key: jax.Array) -> tuple[nnx.State, jax.Array]:
    """Train with BPTT on a new batch for each step, and return the parameters at each step of `measure_at`, stacked, and the
    losses of all steps."""
    ends = jnp.asarray(config["measure_at"])
    keys = random.split(key, max(1, config["measure_at"][-1]))
    objects = (model, nnx.Optimizer(model, optax.adamax(config["learning_rate"]), wrt=nnx.Param))

    def train_on(model: Connect, optimizer: nnx.Optimizer, key: jax.Array) -> jax.Array:
        return train_offline(model, optimizer, cross_entropy, *sample(key))

    step, state = training_step(objects, train_on)

    def numbered(index: jax.Array, carry: tuple[nnx.State, jax.Array]) -> tuple[nnx.State, jax.Array]:
        state, loss = step(carry[0], keys[index])
        return state, carry[1].at[index].set(loss)

    def part(carry: tuple[nnx.State, jax.Array], range_: tuple[jax.Array, jax.Array]) -> tuple[Any, nnx.State]:
        carry = jax.lax.fori_loop(*range_, numbered, carry)
        return carry, nnx.filter_state(carry[0][0], nnx.Param)

    starts = jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1]])
    (_, losses), checkpoints = jax.lax.scan(part, (state, jnp.zeros(len(keys))), (starts, ends))
    return checkpoints, losses


def measure(
    config: dict[str, Any],
    model: Connect,
    sample: Callable,
    batch_key: jax.Array,
    rule_key: jax.Array,
    test_set: tuple[jax.Array, jax.Array],
) -> dict[str, Any]:
    """The test accuracy, the spikes per step and neuron of hidden layers, and the numbers of each rule and term by layer."""

    def of_batch(keys: jax.Array) -> tuple[dict[str, Vectors], dict[str, Vectors]]:
        return gradients_of_batch(config["rules"], model, rule_key, keys[1], *sample(keys[0]))

    # The signs of UORO are redrawn for each batch; the read-outs of DECOLLE are part of the rule and stay fixed.
    keys = jnp.stack([random.split(key, config["eval_batches"]) for key in (batch_key, rule_key)], axis=1)
    by_rule, terms = jax.lax.map(of_batch, keys)
    exact = by_rule["bptt"]
    return {
        "finite": {name: all_finite(vectors) for name, vectors in (by_rule | terms).items()},
        "test_accuracy": model_accuracy(model, *test_set),
        "spikes": activity(model, test_set[0]),
        "rules": {name: agreement(by_rule[name], exact) for name in ["bptt", *config["rules"]]},
        "terms": {name: share(term, exact) for name, term in terms.items()},
    }


def gradients_of_batch(
    rules: list[str], model: Connect, rule_key: jax.Array, noise_key: jax.Array, inputs: jax.Array, labels: jax.Array
) -> tuple[dict[str, Vectors], dict[str, Vectors]]:
    """The gradients of each rule, of BPTT and of the rules that define the terms, and the terms of the exact gradient."""
    model = nnx.clone(model)  # so that it belongs to the program that calls this, as the rules do

    def gradient(name: str, model: Connect) -> Vectors:
        rule = make_rule(name, model, rule_key)
        if isinstance(rule, UORO):
            rule.stream = nnx.RngStream(noise_key, tag="noise")
        return by_layer(gradients(model, cross_entropy, inputs, labels, rule=rule)[1])

    by_rule = {name: gradient(name, model) for name in dict.fromkeys([*rules, "bptt", "ostl", "sltt"])}
    cut = without_reset_gradient(model)
    return by_rule, terms_of(by_rule, {name: gradient(name, cut) for name in ("ostl", "bptt")})


def by_layer(gradient: nnx.State) -> Vectors:
    """A gradient as one vector for each layer, counted from 1: a layer is two modules, with paths like "modules/2/kernel"."""
    leaves = defaultdict(list)
    for path, leaf in nnx.to_flat_state(gradient):
        leaves[str(int(path[1]) // 2 + 1)].append(leaf[...].ravel())
    return {layer: jnp.concatenate(parts) for layer, parts in leaves.items()}


def all_finite(vectors: Vectors) -> jax.Array:
    return jnp.stack([jnp.isfinite(vector).all() for vector in vectors.values()]).all()


def agreement(gradient: Vectors, exact: Vectors) -> dict[str, dict[str, jax.Array]]:
    """The mean over batches of cosine and norm ratio to BPTT for each layer, the numbers of `gradient_noise`, and the variance
    in units of the squared norm of the rule's own expected gradient.

    A batch on which either gradient is zero has no cosine and is omitted from the means; `batches` counts the remaining ones.
    Numbers are NaN where no batch remains, or where noise makes them meaningless.
    """
    noise, of_itself = gradient_noise(gradient, exact), gradient_noise(gradient, gradient)
    numbers = {}
    for layer, cosine in jax.vmap(cosine_similarity)(gradient, exact).items():
        own = noise[layer]
        numbers[layer] = {
            "batches": jnp.sum(cosine.defined),
            "cosine": jnp.mean(cosine.value, where=cosine.defined),
            "norm_ratio": jnp.mean(cosine.norm_ratio, where=cosine.defined),
            "bias_squared": jnp.where(own.defined, own.bias_squared, jnp.nan),
            "variance": jnp.where(own.defined, own.variance, jnp.nan),
            "relative_variance": jnp.where(of_itself[layer].defined, of_itself[layer].variance, jnp.nan),
            "projection": jnp.where(own.defined, own.projection, jnp.nan),
            "cosine_of_means": jnp.where(own.cosine_defined, own.cosine, jnp.nan),
        }
    return numbers


def share(term: Vectors, exact: Vectors) -> dict[str, dict[str, jax.Array]]:
    """The share of a term t in the exact gradient G, for each layer: <t, G> / <G, G> from `gradient_noise`, NaN where there are
    too few batches; and |t| / |G|, with t and G averaged over batches, including noise. The shares of all terms add up to 1."""
    means = [{layer: jnp.mean(vectors, axis=0) for layer, vectors in of.items()} for of in (term, exact)]
    lengths = cosine_similarity(*means)
    return {
        layer: {
            "share": jnp.where(noise.defined, noise.projection, jnp.nan),
            "norm_ratio": lengths[layer].norm_ratio,
        }
        for layer, noise in gradient_noise(term, exact).items()
    }


def _as_json(config: dict[str, Any], stages: dict[str, Any]) -> list[dict[str, Any]]:
    """Convert the numbers of each step to plain numbers, with None for undefined ones."""
    stages = jax.tree.map(np.asarray, stages)
    broken = [name for name, finite in stages.pop("finite").items() if not finite.all()]
    if broken:
        raise SystemExit(
            f"Gradients of {config['task']} are NaN or infinite: {', '.join(broken)}. Their numbers would be meaningless: "
            "leave the rule out, or train at a lower learning rate."
        )

    def plain(number: np.ndarray) -> float | None:
        return float(number) if np.isfinite(number) else None

    return [
        {"step": step} | jax.tree.map(lambda numbers, stage=stage: plain(numbers[stage]), stages)
        for stage, step in enumerate(config["measure_at"])
    ]
