"""What experiments share that train a stack under a rule: the network, the ways to train, and what is looked at then."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import optax
from flax import nnx

from slax_neurons import LI, LIF, Connect, connect, unroll
from slax_neurons.initialisation import fluctuation_driven
from slax_rules import RULES, accuracy, cross_entropy, local_losses, train_offline, train_online


def make_model(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """Linear and LIF for each pair of sizes, LI in place of the last LIF; with these weights hidden layers fire.

    Of the configuration it reads `layers`, `input_rate` and `initial_rate`, and the decays of LIF and LI if `decay` and
    `read_out_decay` are there.
    """
    sizes = list(itertools.pairwise(config["layers"]))
    lif = {"decay": config["decay"]} if "decay" in config else {}
    li = {"decay": config["read_out_decay"]} if "read_out_decay" in config else {}
    modules: list[nnx.Module] = []
    for index, (n_in, n_out) in enumerate(sizes[:-1]):
        rate = config["initial_rate"] if index else config["input_rate"]
        kernel_init = fluctuation_driven(LIF(**lif), rate=rate)
        modules += [nnx.Linear(n_in, n_out, kernel_init=kernel_init, rngs=rngs), LIF(**lif)]
    return connect([*modules, nnx.Linear(*sizes[-1], rngs=rngs), LI(**li)])


def demo_model(layers: Sequence[int], rngs: nnx.Rngs) -> Connect:
    """The network of slax's demos: LIF after each Linear, the last too, and Flax's weights."""
    sizes = itertools.pairwise(layers)
    return connect([module for n_in, n_out in sizes for module in (nnx.Linear(n_in, n_out, rngs=rngs), LIF())])


def under_rule(name: str, model: Connect, key: jax.Array) -> nnx.RNNCellBase:
    """The model under a rule of the table, with those of its options that have no default: the one place where they are."""
    synapses = [module for module in model.modules if isinstance(module, nnx.Linear)]
    options = {
        "rngs": nnx.Rngs(key),
        "input_shape": (synapses[0].in_features,),
        "n_outputs": synapses[-1].out_features,
    }
    rule = RULES[name]
    return rule.wrap(model, **{option: options[option] for option in rule.options})


def modes(name: str, is_plain: bool) -> list[str]:
    """How a rule can train: deferred, unless the rule is in the optimiser's many steps; online, unless it is BPTT, whose only
    window is the sequence."""
    deferred = [] if RULES[name].optimizer else ["deferred"]
    return deferred if is_plain and RULES[name].window is None else [*deferred, "online"]


def loss_of(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy of each step, [T, B], summed over read-outs where each layer has its own."""
    return (local_losses(cross_entropy) if outputs.ndim == 4 else cross_entropy)(outputs, labels)


def updates_of_batch(config: dict[str, Any], mode: str) -> int:
    """How many optimiser steps a batch is: one for each window online."""
    window = RULES[config["rule"]].window or config["online_window"]
    return 1 if mode == "deferred" else -(-config["n_steps"] // window)


def train(config: dict[str, Any], mode: str, cell: nnx.RNNCellBase, sample: Callable, draws: Any) -> jax.Array:
    """Trains in place, on a batch `sample(draw)` for each of the draws. Returns the mean loss of the last tenth of them.

    Of the configuration it reads `rule`, and `learning_rate` by mode, `online_window` and `optimizer_options`; with
    `anneal` the learning rate falls to zero by half a cosine.
    """
    (losses,) = train_in_parts(config, mode, cell, sample, [draws])
    return losses[-max(1, len(losses) // 10) :].mean()


def train_in_parts(
    config: dict[str, Any], mode: str, cell: nnx.RNNCellBase, sample: Callable, parts: Sequence[Any]
) -> Iterator[jax.Array]:
    """As `train`, and yields after each part of the draws, with the cell as it is then. Yields the losses of the part."""
    rule, rate = RULES[config["rule"]], config["learning_rate"][mode]
    if config.get("anneal"):
        rate = optax.cosine_decay_schedule(rate, sum(map(len, parts)) * updates_of_batch(config, mode))
    transformation = optax.adamax(rate)
    if rule.optimizer:
        transformation = rule.optimizer(transformation, **config["optimizer_options"])
    optimizer = nnx.Optimizer(cell, transformation, wrt=nnx.Param)
    run, window = (
        (train_offline, rule.window) if mode == "deferred" else (train_online, rule.window or config["online_window"])
    )
    graphdef, state = nnx.split((cell, optimizer))

    def step(state: nnx.State, draw: Any) -> tuple[nnx.State, jax.Array]:
        cell, optimizer = nnx.merge(graphdef, state)
        loss = run(cell, optimizer, loss_of, *sample(draw), window=window)
        return nnx.state((cell, optimizer)), loss

    for draws in parts:
        state, losses = jax.lax.scan(step, state, draws)
        nnx.update((cell, optimizer), state)
        yield losses


def loss_of_params(model: Connect, inputs: jax.Array, labels: jax.Array) -> Callable[[nnx.State], jax.Array]:
    """The loss of the model on these samples, as a function of its parameters: the mean over steps and samples, in nats."""
    graphdef, _, rest = nnx.split(model, nnx.Param, ...)

    def loss(params: nnx.State) -> jax.Array:
        network = nnx.merge(graphdef, params, rest)
        carry = network.initialize_carry(inputs.shape[1:])
        _, outputs = unroll(network, carry, inputs, chunk=len(inputs))  # all at once, which compiles faster
        return cross_entropy(outputs, labels).mean()

    return loss


def test_accuracy(cell: nnx.RNNCellBase, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Accuracy of the cell's outputs; of the last read-out where each layer has its own."""
    _, outputs = unroll(cell, cell.initialize_carry(inputs.shape[1:]), inputs)
    return accuracy(outputs[:, :, -1] if outputs.ndim == 4 else outputs, labels)


def activity(model: Connect, inputs: jax.Array) -> dict[str, jax.Array]:
    """Mean spikes per step and neuron of each hidden layer."""
    means = {}
    for index in range(0, len(model.modules) - 2, 2):
        layer = connect([model.modules[index], model.modules[index + 1]])
        _, inputs = unroll(layer, layer.initialize_carry(inputs.shape[1:]), inputs)
        means[str(index // 2 + 1)] = inputs.mean()
    return means
