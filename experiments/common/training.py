"""Code shared by experiments that train a stack under a rule: networks, training modes, and measurements."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
import optax
from flax import nnx

from slax_neurons import LI, LIF, Connect, connect, unroll
from slax_neurons.initialization import fluctuation_driven
from slax_rules import RULES, TBPTT, accuracy, cross_entropy

Update = Literal["offline", "online"]  # one optimizer step per sequence, or one per window

FPTT_WINDOW = 1  # steps between two updates of FPTT, which is part of the optimizer


def make_model(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """A stack of Linear and LIF for each pair of sizes, with LI in place of the last LIF; its weights make hidden layers fire.

    The configuration provides `layers`, `input_rate` and `initial_rate`, and optionally `decay` and `read_out_decay`, the
    decays of LIF and LI.
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
    """The network of slax's demos: LIF after each Linear, including the last, and Flax's default weights."""
    sizes = itertools.pairwise(layers)
    return connect([module for n_in, n_out in sizes for module in (nnx.Linear(n_in, n_out, rngs=rngs), LIF())])


def make_rule(name: str, model: Connect, key: jax.Array, **options: Any) -> Any:
    """The rule with this name in the registry, for a model; the key is for its random draws."""
    return RULES[name].make(rngs=nnx.Rngs(key), model=model, **options)


def gradient_rule(name: str, rule: Any) -> Any:
    """The rule for inspecting its gradient of a sequence: for FPTT, before its regularizer, this is the sum of the gradients of
    its windows."""
    return TBPTT(steps=FPTT_WINDOW) if RULES[name].optimizer else rule


def online_window(config: dict[str, Any], rule: Any) -> int:
    """The number of steps between two online updates, from the configuration except for FPTT and TBPTT, which set their own."""
    if RULES[config["rule"]].optimizer:
        return FPTT_WINDOW
    return rule.steps if isinstance(rule, TBPTT) else config["online_window"]


def updates_of_batch(config: dict[str, Any], update: Update, rule: Any) -> int:
    """The number of optimizer steps for a batch: one offline, or one for each window online."""
    return 1 if update == "offline" else -(-config["n_steps"] // online_window(config, rule))


def trained_by(model: Connect, rule: Any) -> Any:
    """The argument of an optimizer: the model, together with the rule if that has parameters."""
    return (model, rule) if jax.tree.leaves(nnx.state(rule, nnx.Param)) else model


OPTIMIZERS = {"adam": optax.adam, "adamax": optax.adamax}


def make_optimizer(config: dict[str, Any], model: Connect, rule: Any, rate: Any) -> nnx.Optimizer:
    """The configured `optimizer`, in the wrapper of the configured rule if it has one, with `optimizer_options`."""
    transformation = OPTIMIZERS[config["optimizer"]](rate)
    if wrapper := RULES[config["rule"]].optimizer if "rule" in config else None:
        transformation = wrapper(transformation, **config["optimizer_options"])
    return nnx.Optimizer(trained_by(model, rule), transformation, wrt=nnx.Param)


def training_step(objects: tuple[Any, ...], step: Callable[..., jax.Array]) -> tuple[Callable[..., Any], nnx.State]:
    """A training step for `jax.lax.scan`, which maps the state of the objects and a draw to their state after it and the loss,
    and the initial state.

    Args:
        objects: everything that a step changes: the model, the optimizer, and the rule, for the numbers that it draws.
        step: takes them and a draw, changes them in place, and returns the loss.
    """
    graphdef, start = nnx.split(objects)

    def pure(state: nnx.State, draw: Any) -> tuple[nnx.State, jax.Array]:
        objects = nnx.merge(graphdef, state)
        loss = step(*objects, draw)
        return nnx.state(objects), loss

    return pure, start


def loss_at_the_end(losses: jax.Array) -> jax.Array:
    """The mean loss over the last tenth of the batches."""
    return losses[-max(1, len(losses) // 10) :].mean()


def check_rising(steps: Sequence[int]) -> None:
    """Stop unless the steps at which something is measured increase."""
    if list(steps) != sorted(set(steps)):
        raise SystemExit(f"measure_at is {steps}, expected steps in increasing order.")


def check_losses(where: str, seed: int, losses: Any) -> None:
    """Stop and report the first training step whose loss is not finite, which also indicates that its gradient was not.

    Args:
        where: the name of the experiment, the task and the rule.
        seed: seed of the training.
        losses: the losses of all steps in order.
    """
    wrong = np.flatnonzero(~np.isfinite(np.ravel(losses)))
    if wrong.size:
        raise SystemExit(
            f"{where}, seed {seed}, the loss of training step {wrong[0] + 1} of {np.size(losses)} is "
            f"{np.ravel(losses)[wrong[0]]}: it or its gradient is not finite. Possible causes are a learning rate "
            "that is too high, and inputs that are not finite."
        )


def loss_of_params(model: Connect, inputs: jax.Array, labels: jax.Array) -> Callable[[nnx.State], jax.Array]:
    """The loss of the model on these samples, as a function of its parameters: the mean over steps and samples, in nats."""
    graphdef, _, rest = nnx.split(model, nnx.Param, ...)

    def loss(params: nnx.State) -> jax.Array:
        network = nnx.merge(graphdef, params, rest)
        carry = network.initialize_carry(inputs.shape[1:])
        _, outputs = unroll(network, carry, inputs, chunk=len(inputs))  # in one chunk, which compiles faster
        return cross_entropy(outputs, labels).mean()

    return loss


def model_accuracy(model: Connect, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    """The accuracy of the model's outputs."""
    _, outputs = unroll(model, model.initialize_carry(inputs.shape[1:]), inputs)
    return accuracy(outputs, labels)


def layer_of(path: str) -> str:
    """The layer, counted from 1, of a parameter's path like "modules/2/kernel": two modules are a layer."""
    return str(int(path.split("/")[1]) // 2 + 1)


def plain_layers(layers: dict[str, dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The cosine and the norm ratio of each layer as plain numbers, None where a gradient is zero."""
    return {
        layer: {name: float(numbers[name]) if numbers["defined"] else None for name in ("cosine", "norm_ratio")}
        for layer, numbers in layers.items()
    }


def activity(model: Connect, inputs: jax.Array) -> dict[str, jax.Array]:
    """The mean spikes per step and neuron of each hidden layer of spiking neurons, numbered from 1."""
    _, outputs = model.outputs(model.initialize_carry(inputs.shape[1:]), inputs)
    hidden = zip(model.modules[:-1], outputs[:-1], strict=True)
    spikes = [of_module for module, of_module in hidden if getattr(module, "spikes", False)]
    return {str(number): of_layer.mean() for number, of_layer in enumerate(spikes, 1)}
