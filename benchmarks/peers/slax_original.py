# /// script
# requires-python = ">=3.11"
# dependencies = ["slax==0.0.1", "jax==0.10.2", "flax==0.12.8"]
#
# [tool.benchmark]
# neuron = { equation = "subtract", differs = "nothing" }
#
# [tool.benchmark.variants.bptt]
# whole = {}
# layers = {}
# ///
"""slax 0.0.1, from which this repository started: BPTT on a current JAX. `slax_original_jax04` has its rules.

In `bptt`, `whole` is `RNN` around the entire net, `layers` runs each Dense on all steps together and an `RNN` around each LIF,
both with `unroll=1`. Without that argument every step is written out in the program, which for T = 256 and N = 128 took minutes
and gigabytes to compile and more than ten times as long to run, so it is not included.

In `rules` it is its modules `OTTT` and `DenseOSTL` around each [Dense, LIF]. Its `train_online_deferred` writes every step out
in the program, which takes minutes and gigabytes to compile for long sequences, so the loop here is the same as a scan: the sum
of the gradients of each step's loss with a constant carry. Both rules have our equations. Its OTPE, which advances the trace
twice per step, and its RTRL take seconds at sizes at which the others take tenths of a second, and are left out.

Parity: the equations of slax.
"""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import slax

from benchmarks.side_by_side.jax_step import JaxStep
from benchmarks.side_by_side.workload import DECAY, THRESHOLD, Workload


def bptt(variant: str, workload: Workload) -> JaxStep:
    modules = list(itertools.chain(*layers_of(workload)))
    if variant == "whole":
        model = slax.RNN(slax.connect(modules, return_carry=False), unroll=1)
    else:
        model = nn.Sequential([slax.RNN(x, unroll=1) if isinstance(x, slax.LIF) else x for x in modules])
    inputs = workload.inputs()
    params, rest = start(model, inputs[:1], workload)

    def loss(params, inputs):
        spikes, _ = model.apply({"params": params, "carry": rest}, inputs, mutable="carry")
        return spikes.sum()

    return JaxStep(jax.value_and_grad(loss), params, inputs)


def rules(variant: str, workload: Workload) -> JaxStep:
    model = slax.connect(
        [slax.OTTT(one, DECAY) if variant == "ottt" else slax.DenseOSTL(one) for one in layers_of(workload)]
    )
    inputs = workload.inputs()
    params, rest = start(model, inputs[0], workload)

    def step_loss(params, carry, x, labels):
        spikes, state = model.apply({"params": params, "carry": carry}, x, mutable="carry")
        return optax.softmax_cross_entropy_with_integer_labels(spikes, labels).mean(), state["carry"]

    def online(params, inputs, labels):
        def step(total, x):
            carry, loss, gradient = total
            (added, carry), new = jax.value_and_grad(step_loss, has_aux=True)(params, carry, x, labels)
            return (carry, loss + added, jax.tree.map(jnp.add, gradient, new)), None

        total = (rest, 0.0, jax.tree.map(jnp.zeros_like, params))
        (_, loss, gradient), _ = jax.lax.scan(step, total, inputs)
        return loss / len(inputs), jax.tree.map(lambda g: g / len(inputs), gradient)

    return JaxStep(online, params, inputs, workload.labels())


def layers_of(workload: Workload) -> list[list[nn.Module]]:
    return [[nn.Dense(width, use_bias=False), lif()] for width in workload.widths[1:]]


def lif() -> slax.LIF:
    return slax.LIF(v_threshold=THRESHOLD)


def start(model: nn.Module, inputs, workload: Workload) -> tuple:
    """The parameters with the weights of the workload, and the carry at rest."""
    variables = model.init(jax.random.key(0), jnp.asarray(inputs))
    params = jax.tree.unflatten(jax.tree.structure(variables["params"]), workload.weights())
    return params, rest_of(variables)


def rest_of(variables: dict):
    """The carry at rest, since init returns the state after its first step."""
    return jax.tree.map(jnp.zeros_like, variables["carry"])


def spikes_of(variant: str, currents):
    model = slax.RNN(lif(), unroll=1)
    currents = jnp.asarray(currents)
    variables = model.init(jax.random.key(0), currents[:1])
    return model.apply({**variables, "carry": rest_of(variables)}, currents, mutable="carry")[0]
