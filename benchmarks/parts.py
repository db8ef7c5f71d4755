"""What does a gradient under BPTT spend its time on? Times of its parts, each a program of its own, beside the whole.

python -m benchmarks.parts                                # B = 1, 8, 32 at N = 128, N = 256 to 1,024, and a single unit
python -m benchmarks.parts --workloads 1x128 --repeats 50

The network is three layers of (Linear N to N, LIF), T = 256; the loss is the number of spikes. All programs of a workload take
turns; a time is the least of all repeats, in milliseconds. The products are the matrix products of the layers, forward and
reverse, as in benchmarks/peers/matmul.py. The recursions are the three layers of neurons, forward and reverse, from given
currents and given gradients of the spikes; with a single unit, they are little more than the iterations of their loops.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.peers.matmul import products
from benchmarks.turns import least_times
from slax_neurons import LIF, connect, unroll

STEPS, LAYERS = 256, 3


def network(n: int) -> tuple[nnx.GraphDef, nnx.State]:
    rngs = nnx.Rngs(0)
    modules = [(nnx.Linear(n, n, use_bias=False, rngs=rngs), LIF()) for _ in range(LAYERS)]
    return nnx.split(connect([module for layer in modules for module in layer]))


def whole(batch: int, n: int) -> Callable[[], Any]:
    """The gradient of the number of spikes."""
    graphdef, state = network(n)

    def loss(state: nnx.State, inputs: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, state)
        return unroll(model, model.initialize_carry((batch, n)), inputs)[1].sum()

    return functools.partial(jax.jit(jax.grad(loss)), state, spikes(batch, n))


def recursions(batch: int, n: int) -> Callable[[], Any]:
    """The gradients of the currents of three layers, each with its own currents and gradients of spikes."""
    rng = np.random.default_rng(1)
    currents, signals = (jnp.asarray(rng.normal(size=(LAYERS, STEPS, batch, n)), jnp.float32) for _ in range(2))

    def loss(currents: list[jax.Array], signals: list[jax.Array]) -> jax.Array:
        outputs = [unroll(LIF(), LIF().initialize_carry((batch, n)), current)[1] for current in currents]
        return sum((output * signal).sum() for output, signal in zip(outputs, signals, strict=True))

    return functools.partial(jax.jit(jax.grad(loss)), list(currents), list(signals))


def parts(batch: int, n: int) -> dict[str, Callable[[], Any]]:
    """A call of each program by its name in the table."""
    weights = [jnp.asarray(np.random.default_rng(layer).normal(size=(n, n)), jnp.float32) for layer in range(LAYERS)]
    inputs = spikes(batch, n)
    return {
        "the whole gradient": whole(batch, n),
        "products alone": functools.partial(jax.jit(products), weights, inputs.reshape(-1, n)),
        "recursions alone": recursions(batch, n),
    }


def spikes(batch: int, n: int) -> jax.Array:
    """Spikes [T, B, N], a tenth of all."""
    return jnp.asarray(np.random.default_rng(0).random((STEPS, batch, n)) < 0.1, jnp.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    workloads = ["1x128", "8x128", "32x128", "32x256", "32x512", "32x1024", "1x1"]
    parser.add_argument("--workloads", nargs="+", default=workloads, help="batch and units, as in 32x128")
    parser.add_argument("--repeats", type=int, default=300)
    args = parser.parse_args()
    sizes = [tuple(map(int, workload.split("x"))) for workload in args.workloads]
    times = [least_times(parts(*size), args.repeats) for size in sizes]
    print("," + ",".join(f'"B = {batch}, N = {n}"' for batch, n in sizes))
    for name in times[0]:
        print(f"{name}," + ",".join(f"{of[name]:.3g}" for of in times))


if __name__ == "__main__":
    main()
