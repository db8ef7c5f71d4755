"""Train a network in one way, at the learning rate with the best validation accuracy, and say what memory its rule needs.

A way is a rule of the library, or one of these:

    tbptt_K        TBPTT with pieces of K steps; tbptt_K_in_time is the same, trained on more batches
    stateless      BPTT, with neurons that keep nothing from step to step
    counts         BPTT, in a network of rectified linear units that gets the number of spikes of each unit
    short_bptt     BPTT, whose gradient is 100 times shorter in all hidden layers
    otpe_bptt_lengths, bptt_otpe_lengths
                   the gradient of one rule, in which each array of parameters has the length that it has in the other's
"""

import dataclasses
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments.common.costs import bytes_of
from experiments.common.learning import choose, named_rule, scaled, with_length
from experiments.common.measures import at_the_end
from experiments.common.tasks import make_model
from experiments.questions.sources import in_counts, sampler_of
from slax_neurons import Connect, connect
from slax_rules import BPTT, OTPE, RULES, TBPTT
from slax_rules.windows import WindowGradient

NO_MEMORY = 1e-6  # the decay of a neuron that keeps nothing
SHORTER = 0.01  # the length of the gradient of hidden layers under short_bptt
EXCHANGED = ("otpe_bptt_lengths", "bptt_otpe_lengths")
VARIANTS = ("stateless", "counts", "short_bptt", *EXCHANGED)


@dataclasses.dataclass(frozen=True)
class WithLengths(BPTT):
    """The direction of OTPE in each array of parameters with the length of BPTT, or, if `of_bptt`, the other way round."""

    of_bptt: bool = False

    def window(self, model: Any, state: Any, inputs: Any, loss: Any) -> WindowGradient:
        bptt, step = super().window(model, state, inputs, loss), jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype)
        traces = OTPE().init(model, state.carry, step)
        otpe = OTPE().window(model, state._replace(traces=traces), inputs, loss)
        pair = (bptt.model, otpe.model) if self.of_bptt else (otpe.model, bptt.model)
        return bptt._replace(model=jax.tree.map(lambda one, other: with_length(one, jnp.linalg.norm(other)), *pair))


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """ "trials", the trials of the learning rate; "seeds", the numbers of each seed along its training; and "bytes", the memory
    of a gradient per sample, "measured", "counted" and its "inputs" besides, where the configuration has `memory`."""
    way = config["way"]
    sampler = sampler_of(config)
    samples = (lambda seed: in_counts(sampler(seed))) if way == "counts" else sampler
    own = config | {"rule": "bptt" if way in VARIANTS else way.partition("_")[0] if way.startswith("tbptt") else way}
    how = {"network": network, "rule_of": rule_of, "optimizer_of": optimizer_of}
    where = f"questions, {config['task']}, {config['optimizer']}, {way}"
    trials, runs = choose(own, "offline", samples, where, **how)
    found: dict[str, Any] = {"trials": trials, "seeds": [at_the_end(run, samples(run.seed)) for run in runs]}
    if config["memory"] and way not in VARIANTS:
        found["bytes"] = memory(own)
    return found


def network(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """The network of a way to learn."""
    if config["way"] == "counts":
        layers = [nnx.Linear(*sizes, rngs=rngs) for sizes in itertools.pairwise(config["layers"])]
        return connect([layers[0], *(module for layer in layers[1:] for module in (nnx.relu, layer))])
    decays = dict.fromkeys(("decay", "read_out_decay"), NO_MEMORY) if config["way"] == "stateless" else {}
    return make_model(config | decays, rngs)


def rule_of(config: dict[str, Any]) -> Callable[..., Any]:
    """The function that makes the rule of a way to learn."""
    if config["way"] in EXCHANGED:
        return lambda **_: WithLengths(of_bptt=config["way"] == "bptt_otpe_lengths")
    steps = piece_of(config["way"])
    return partial(RULES["tbptt"].make, steps=steps) if steps else named_rule(config)


def piece_of(way: str) -> int | None:
    """The steps of a piece of TBPTT; None for other ways."""
    return int(way.split("_")[1]) if way.startswith("tbptt_") else None


def window_of(rule: Any, n_steps: int) -> int:
    """The steps that are computed together: one with traces, which needs the least; all under BPTT, and under TBPTT a piece."""
    return n_steps if isinstance(rule, BPTT) else rule.steps if isinstance(rule, TBPTT) else 1


def optimizer_of(config: dict[str, Any], rate: Any) -> optax.GradientTransformation:
    """The optimizer: Adam; stochastic gradient descent with momentum; and the same with the gradient of each array of
    parameters scaled to a length of 1."""
    momentum = optax.sgd(rate, momentum=0.9)
    optimizers = {"adam": optax.adam(rate), "momentum": momentum, "normalized": optax.chain(scaled(1.0), momentum)}
    made = optimizers[config["optimizer"]]
    return optax.chain(shortened(len(config["layers"]) - 1), made) if config["way"] == "short_bptt" else made


def shortened(n_layers: int) -> optax.GradientTransformation:
    """Scale the gradient of all layers but the last, in a stack of Linear and neurons in turn."""

    def scale(updates: Any, params: Any = None) -> Any:
        def one(path: Any, gradient: jax.Array) -> jax.Array:
            (module,) = (key.key for key in path if isinstance(getattr(key, "key", None), int))
            return gradient if module == 2 * (n_layers - 1) else SHORTER * gradient

        return jax.tree_util.tree_map_with_path(one, updates)

    return optax.stateless(scale)


def memory(config: dict[str, Any]) -> dict[str, int | None]:
    """The bytes per sample of the gradient of a batch: measured, counted, and those of its inputs."""
    model = make_model(config, nnx.Rngs(0))
    rule = rule_of(config)(rngs=nnx.Rngs(0), model=model)
    shape = (config["n_steps"], config["batch_size"], config["layers"][0])
    return bytes_of(model, rule, shape, window_of(rule, config["n_steps"]))
