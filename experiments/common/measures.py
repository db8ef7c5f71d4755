"""What experiments measure of a network: losses, spikes, and the agreement of its gradients with BPTT's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.common.samples import Samples
from slax_neurons import Connect, Neuron, unroll
from slax_rules import accuracy, cross_entropy, gradients, predict
from slax_rules import agreement as agreement_of
from slax_rules.train.agreement import Agreement
from slax_rules.train.runs import Run

Layers = dict[str, dict[str, float | None]]


def loss_at_the_end(losses: Any) -> float:
    """The mean loss over the last tenth of the batches."""
    return float(jnp.mean(jnp.asarray(losses[-max(1, len(losses) // 10) :])))


def loss_of_params(model: Connect, inputs: jax.Array, labels: jax.Array) -> Callable[[nnx.State], jax.Array]:
    """The loss of the model on these samples, as a function of its parameters: the mean over steps and samples, in nats."""
    graphdef, _, rest = nnx.split(model, nnx.Param, ...)

    def loss(params: nnx.State) -> jax.Array:
        network = nnx.merge(graphdef, params, rest)
        carry = network.initialize_carry(inputs.shape[1:])
        _, outputs = unroll(network, carry, inputs, chunk=len(inputs))  # in one chunk, which compiles faster
        return cross_entropy(outputs, labels).mean()

    return loss


def activity(model: Connect, inputs: jax.Array) -> dict[str, jax.Array]:
    """The mean spikes per step and neuron of each hidden layer of spiking neurons, numbered from 1."""
    _, outputs = model.outputs(model.initialize_carry(inputs.shape[1:]), inputs)
    hidden = zip(model.modules[:-1], outputs[:-1], strict=True)
    spikes = [of_module for module, of_module in hidden if getattr(module, "spikes", False)]
    return {str(number): of_layer.mean() for number, of_layer in enumerate(spikes, 1)}


def spikes_of_layers(model: Connect, inputs: jax.Array) -> dict[str, float]:
    """The same of a trained network."""
    model.eval()
    return jax.tree.map(float, _activity(model, jnp.asarray(inputs)))


@nnx.jit
def _activity(model: Connect, inputs: jax.Array) -> dict[str, jax.Array]:
    return activity(model, inputs.astype(jnp.float32))


def layer_of(model: Connect) -> Callable[[str], str]:
    """A function that maps a path like "modules/2/kernel" to its layer, counted from 1: a layer ends with its neurons.

    The parameters of an edge, "synapses/0/kernel", belong to the layer that it leads to.
    """

    def layer(path: str) -> str:
        kind, number, *_ = path.split("/")
        module = model.edges[int(number)].receiver if kind == "synapses" else int(number)
        return str(1 + sum(isinstance(earlier, Neuron) for earlier in model.modules[:module]))

    return layer


def compare(model: Connect, gradient: Any, reference: Any) -> Layers:
    """The cosine and the norm ratio of two gradients in each layer of a model, None where a gradient is zero."""
    return plain_layers(_agreement(model, gradient, reference))


@nnx.jit
def _agreement(model: Connect, gradient: Any, reference: Any) -> dict[str, Agreement]:
    return agreement_of(gradient, reference, group=layer_of(model))


def by_parameter(model: Connect, gradient: Any, reference: Any) -> dict[str, Agreement]:
    """The agreement of two gradients in each parameter, such as "1/kernel" of the first layer, and in "all" together."""
    layer = layer_of(model)
    found = agreement_of(gradient, reference)
    return {name if name == "all" else f"{layer(name)}/{name.rpartition('/')[2]}": of for name, of in found.items()}


def cosines(found: dict[str, Agreement]) -> dict[str, float | None]:
    """The cosines by name, None where a gradient is zero."""
    return {name: float(of.cosine) if of.defined else None for name, of in jax.device_get(found).items()}


def plain_layers(layers: dict[str, Agreement]) -> Layers:
    """The cosines and norm ratios of layers as plain numbers, None where a gradient is zero."""
    return {
        layer: {name: float(getattr(of, name)) if of.defined else None for name in ("cosine", "norm_ratio")}
        for layer, of in layers.items()
    }


def agreement(model: Connect, rule: Any, batches: Samples) -> Layers:
    """The agreement of a rule's gradient with BPTT's in each layer, on several batches [M, T, B, N] as one."""
    spikes, labels = batches
    inputs = jnp.asarray(np.concatenate(spikes, axis=1), jnp.float32)
    ours, exact = (gradients(model, cross_entropy, inputs, np.ravel(labels), **how)[1] for how in ({"rule": rule}, {}))
    return compare(model, ours, exact)


def agreements(run: Run, reached: nnx.State, batches: Samples) -> dict[str, Layers]:
    """The agreement of the rule of a run with BPTT before training, "initial", and at parameters that were reached, "trained".

    Matrices of the rule stay as drawn: they are no parameters of the network.
    """
    model, rule = run.network(0)
    initial = agreement(model, rule, batches)
    nnx.update(model, reached)
    return {"initial": initial, "trained": agreement(model, rule, batches)}


@jax.jit
def is_right(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether outputs [T, B, C] are right about each label, by the law of `accuracy`."""
    return jax.vmap(accuracy, in_axes=(1, 0))(outputs[:, :, None], labels[:, None])


def is_right_in_sum(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Whether each label is the most probable class, by the sum over time of the softmax of the outputs."""
    return jax.nn.softmax(outputs).sum(axis=0).argmax(axis=-1) == labels


def summed_accuracy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """The share of samples that `is_right_in_sum` finds right."""
    return jnp.mean(is_right_in_sum(outputs, labels))


def at_the_end(run: Run, samples: Any, is_right: Callable[..., jax.Array] = is_right) -> dict[str, Any]:
    """The seed of a run, its accuracy and loss at the end, and its accuracies `along` the training."""
    end = {"seed": run.seed, "accuracy": run.test[run.steps[-1]], "loss": loss_at_the_end(run.losses)}
    return end | along(run, samples, is_right)


def along(run: Run, samples: Any, is_right: Callable[..., jax.Array] = is_right) -> dict[str, Any]:
    """The accuracies of a run after each number of batches except for 0, whether all seeds share its test set, and which of its
    samples were right; test samples that a seed has for itself may have a mask.

    Args:
        run: the run.
        samples: the `experiments.common.samples.SeedSamples` of its seed.
        is_right: maps outputs [T, B, C] and labels [B] to whether they are right.
    """
    evaluated = [
        {"batches": step, "accuracy": run.test[step], "validation_accuracy": run.validation[step]}
        for step in run.steps
        if step
    ]
    if samples.has_common_test:
        for entry in evaluated:
            entry["right"] = pack(right(run.network(entry["batches"])[0], samples.test, is_right))
    return {"test_size": len(samples.test[1]), "common_test": samples.has_common_test, "lengths": evaluated}


def right(
    model: nnx.RNNCellBase, samples: tuple[Any, ...], is_right: Callable[..., jax.Array] = is_right
) -> np.ndarray:
    """Whether the model is right about each sample."""
    inputs, labels = samples
    return np.asarray(is_right(predict(model, jnp.asarray(inputs)), jnp.asarray(labels))).astype(bool)


def pack(bits: np.ndarray) -> str:
    return np.packbits(bits).tobytes().hex()
