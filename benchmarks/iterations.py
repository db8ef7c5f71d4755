"""Do several steps in an iteration of the loop over time help on a CPU? Times of a gradient under BPTT, on one thread.

python -m benchmarks.iterations                           # N = 64 to 1,024, 1 to 8 steps in an iteration
python -m benchmarks.iterations --sizes 64 --repeats 200

The network is three layers of (Linear N to N, LIF), T = 256, B = 32; the loss is the number of spikes. All programs of a size
take turns; a time is the least of all repeats.
"""

import argparse
import functools
import os
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # before JAX starts

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.turns import least_times
from slax_neurons import LIF, connect, unroll

STEPS, BATCH, LAYERS = 256, 32, 3
PER_ITERATION = (1, 2, 4, 8)


def gradient(n: int, per_iteration: int) -> Any:
    """A call of the compiled gradient of the number of spikes."""
    rngs = nnx.Rngs(0)
    modules = [(nnx.Linear(n, n, use_bias=False, rngs=rngs), LIF()) for _ in range(LAYERS)]
    graphdef, state = nnx.split(connect([module for layer in modules for module in layer]))
    inputs = jnp.asarray(np.random.default_rng(0).random((STEPS, BATCH, n)) < 0.1, jnp.float32)

    def loss(state: nnx.State, inputs: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, state)
        carry = model.initialize_carry((BATCH, n))
        return unroll(model, carry, inputs, steps_per_iteration=per_iteration)[1].sum()

    return functools.partial(jax.jit(jax.grad(loss)), state, inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128, 256, 512, 1024])
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    print("steps in an iteration," + ",".join(f"N = {n}" for n in args.sizes))
    times = {n: least_times({steps: gradient(n, steps) for steps in PER_ITERATION}, args.repeats) for n in args.sizes}
    for steps in PER_ITERATION:
        print(f"{steps}," + ",".join(f"{times[n][steps]:.3g}" for n in args.sizes))


if __name__ == "__main__":
    main()
