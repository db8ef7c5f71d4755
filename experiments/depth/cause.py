"""Train a deep network under one rule, with gradients whose lengths are changed in some way, and measure the gradients of BPTT
and OTPE at its weights along the training, on batches one by one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.common.learning import choose, scaled, transformation
from experiments.common.measures import at_the_end, layer_of
from experiments.common.samples import Samples, make_sampler
from experiments.depth.jobs import COMPARED
from slax_neurons import Connect
from slax_rules import RULES, cross_entropy, gradients
from slax_rules.train.agreement import by_path


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """ "trials", the trials of the learning rate, and "seeds": for each, the test accuracy and its course, and by the number of
    batches and by rule the "gradients", see `measure`."""
    sampler = make_sampler(config, None)
    where = f"depth, {config['training']}, under {config['rule']}"
    trials, runs = choose(config, "offline", sampler, where, optimizer_of=optimizer_of, evaluate_at=(0,))
    seeds = []
    for run in runs:
        batches = sampler(run.seed).others(config["eval_batches"])
        found = {str(step): measure(run.network(step)[0], batches, config["clip"]) for step in run.steps}
        seeds.append(at_the_end(run, sampler(run.seed)) | {"gradients": found})
    return {"trials": trials, "seeds": seeds}


def optimizer_of(config: dict[str, Any], rate: Any) -> optax.GradientTransformation:
    """The configured optimizer, after the change of lengths that the training is named after, by default clipping."""
    most = config["clip"]
    of_arrays = {"clipped_by_array": scaled(most, least=most), "length_one": scaled(1.0), "unclipped": optax.identity()}
    if config["training"] not in of_arrays:
        return transformation(config, rate)
    return optax.chain(of_arrays[config["training"]], transformation(config | {"clip": None}, rate))


def measure(model: Connect, batches: Samples, clip: float) -> dict[str, Any]:
    """By rule, "layers": for each, see `of_layer`; and "clipped", the share of batches whose gradient is longer than `clip`."""
    inputs, labels = batches
    return {
        rule: {
            "layers": {layer: of_layer(vectors) for layer, vectors in layers.items()},
            "clipped": np.mean(lengths(np.concatenate([*layers.values()], axis=1)) > clip).item(),
        }
        for rule, layers in jax.device_get(_of_batches(model, jnp.asarray(inputs), jnp.asarray(labels))).items()
    }


def lengths(vectors: np.ndarray) -> np.ndarray:
    """The length of each gradient [M, P]."""
    return np.linalg.norm(vectors.astype(float), axis=1)


def of_layer(vectors: np.ndarray) -> dict[str, float | None]:
    """Of the gradients of batches [M, P], the mean "log10_length", and how "alike" they are: the mean cosine of two different
    ones. Both are None if one is zero."""
    length, count = lengths(vectors), len(vectors)
    if not length.all():
        return {"log10_length": None, "alike": None}
    total = (vectors / length[:, None]).sum(axis=0)
    alike = (total @ total - count) / (count * (count - 1))  # without the cosine of each with itself
    return {"log10_length": np.log10(length).mean().item(), "alike": alike.item()}


@nnx.jit
def _of_batches(model: Connect, inputs: jax.Array, labels: jax.Array) -> dict[str, dict[str, jax.Array]]:
    """The gradients of batches [M, T, B, N], by rule and layer, [M, P]."""
    graphdef, state = nnx.split(model)
    layer = layer_of(model)

    def of_batch(batch: tuple[jax.Array, jax.Array]) -> dict[str, dict[str, jax.Array]]:
        found: dict[str, dict[str, jax.Array]] = {}
        for rule in COMPARED:
            network, spikes = nnx.merge(graphdef, state), batch[0].astype(jnp.float32)
            arrays = by_path(gradients(network, cross_entropy, spikes, batch[1], rule=RULES[rule].make())[1])
            for path, array in arrays.items():
                before = found.setdefault(rule, {}).get(layer(path), jnp.zeros(0))
                found[rule][layer(path)] = jnp.concatenate([before, array.ravel()])
        return found

    return jax.lax.map(of_batch, (inputs, labels))
