# /// script
# requires-python = ">=3.11"
# dependencies = ["slax==0.0.1", "jax==0.10.2", "flax==0.12.8"]
#
# [tool.benchmark.variants]
# bptt = {}
# ottt = {}
# ///
"""slax 0.0.1, from which this repository started: the part that runs on a current JAX. `slax_original_jax04` has the rest.

The rules are its modules `OTTT`, `DenseOSTL` and `DenseOTPE` around each [Dense, LIF], with `DenseOSTL` in the last layer under
OTPE, and `RTRL` around the whole net, as in its own tests. Its `train_online_deferred` and `train_offline` write every
step out in the program, which takes minutes and gigabytes to compile for long sequences, so the loops here are the
same as scans: the sum of the gradients of each step's loss with a constant carry, and for BPTT the gradient of the whole scan.

Its OTPE advances the trace twice per step and has psi_t twice in the signal below; its other rules have our equations.

Parity: the equations of slax.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import slax
from jax_step import JaxStep
from workload import DECAY, THRESHOLD, Workload


def build(variant: str, workload: Workload) -> JaxStep:
    layers = [[nn.Dense(width, use_bias=False), slax.LIF(v_threshold=THRESHOLD)] for width in workload.widths[1:]]
    model = slax.connect(chain(variant, layers))
    weights = workload.weights()
    inputs = workload.spikes()
    variables = model.init(jax.random.key(0), jnp.asarray(inputs[0]))
    rest = jax.tree.map(jnp.zeros_like, variables["carry"])  # init returns the state after its first step
    structure = jax.tree.structure(variables["params"])
    params = jax.tree.unflatten(structure, weights)

    def step_loss(params, carry, x, labels):
        spikes, state = model.apply({"params": params, "carry": carry}, x, mutable="carry")
        return optax.softmax_cross_entropy_with_integer_labels(spikes, labels).mean(), state["carry"]

    def online(params, inputs, labels):
        def step(total, x):
            carry, loss, gradient = total
            (added, carry), new = jax.value_and_grad(step_loss, has_aux=True)(params, carry, x, labels)
            return (carry, loss + added, jax.tree.map(jnp.add, gradient, new)), None

        start = (rest, 0.0, jax.tree.map(jnp.zeros_like, params))
        (_, loss, gradient), _ = jax.lax.scan(step, start, inputs)
        return loss / len(inputs), jax.tree.map(lambda g: g / len(inputs), gradient)

    def bptt(params, inputs, labels):
        def loss(params):
            _, losses = jax.lax.scan(lambda carry, x: step_loss(params, carry, x, labels)[::-1], rest, inputs)
            return losses.mean()

        return jax.value_and_grad(loss)(params)

    return JaxStep(bptt if variant == "bptt" else online, params, inputs, workload.labels())


def chain(variant: str, layers: list) -> list:
    """The modules of the net under a rule."""
    if variant == "bptt":
        return [module for layer in layers for module in layer]
    if variant == "rtrl":
        return [slax.RTRL([slax.connect([module for layer in layers for module in layer])])]
    if variant == "ottt":
        return [slax.OTTT(layer, DECAY) for layer in layers]
    hidden = slax.DenseOSTL if variant == "ostl" else lambda layer: slax.DenseOTPE(layer, DECAY)
    return [*map(hidden, layers[:-1]), slax.DenseOSTL(layers[-1])]
