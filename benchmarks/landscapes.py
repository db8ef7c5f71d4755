"""How long do a plane of 51 x 51 losses and the five largest eigenvalues of the Hessian take? Processor seconds of whole
calls, compilation included.

python -m benchmarks.landscapes                           # 64-50-10 and 64-128-128-10, T = 50, B = 128
python -m benchmarks.landscapes --networks 64-50-10 --repeats 10

Eigenvalues are timed in the first call, and in later calls, the least of the repeats, each with a loss made anew, whose product
with the Hessian has to be compiled. The plane is timed once, after one of two losses.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slax_neurons import LI, LIF, connect, unroll
from slax_rules import cross_entropy
from slax_viz import hessian_eigenvalues, random_plane, surface

STEPS, BATCH = 50, 128
AXIS = np.linspace(-1, 1, 51)


def problem(sizes: list[int]) -> tuple[Callable[[nnx.State], jax.Array], nnx.State]:
    """The loss of a stack of LIF layers with a leaky read-out, and its parameters."""
    rng, rngs = np.random.default_rng(0), nnx.Rngs(0)
    inputs = jnp.asarray(rng.random((STEPS, BATCH, sizes[0])) < 0.1, jnp.float32)
    labels = jnp.asarray(rng.integers(0, sizes[-1], BATCH))
    neurons = [*(LIF() for _ in sizes[2:]), LI()]
    linears = [nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)]
    graph, params = nnx.split(connect([module for layer in zip(linears, neurons, strict=True) for module in layer]))

    def loss(params: nnx.State) -> jax.Array:
        network = nnx.merge(graph, params)
        _, outputs = unroll(network, network.initialize_carry(inputs.shape[1:]), inputs)
        return jnp.mean(cross_entropy(outputs, labels))

    return loss, params


def seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    jax.block_until_ready(call())
    return time.process_time() - start


def times(sizes: list[int], repeats: int) -> list[float]:
    """Seconds of the plane, of the eigenvalues in the first call, and of the eigenvalues in later ones."""
    loss, params = problem(sizes)
    plane = random_plane(params, jax.random.key(0))
    surface(loss, plane, xs=AXIS[:2], ys=AXIS[:1])
    of_plane = seconds(lambda: surface(loss, plane, xs=AXIS, ys=AXIS))
    first, *later = (
        seconds(lambda: hessian_eigenvalues(lambda params: loss(params), params, jax.random.key(1), n_top=5))
        for _ in range(1 + repeats)
    )
    return [of_plane, first, min(later)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["64-50-10", "64-128-128-10"])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print("network,plane,eigenvalues: first call,later calls")
    for name in args.networks:
        print(name, *(f"{of:.2f}" for of in times([int(size) for size in name.split("-")], args.repeats)), sep=",")


if __name__ == "__main__":
    main()
