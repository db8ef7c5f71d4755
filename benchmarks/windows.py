"""What does a short window cost? Times of gradients and of online training in windows, relative to BPTT, on one thread.

python -m benchmarks.windows                              # both networks, batches of 1 and 32, windows of 20, 5 and 1 steps
python -m benchmarks.windows --networks 64-50-10 --batches 32 --repeats 100

Each is one compiled program. All programs of a network take turns; a time is the least of all repeats. `whole` is relative to
the gradient of BPTT of the entire sequence, `same` to BPTT in the same windows, which is truncated to them.
"""

import argparse
import functools
import itertools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.turns import least_times
from slax_neurons import LI, LIF, connect
from slax_rules import RULES, cross_entropy, gradients, train_online

STEPS = 20
WINDOWS = (20, 5, 1)
NAMES = ("bptt", "ottt", "ostl", "otpe", "e_prop")
KINDS = ("gradients", "train_online")


def network(sizes: list[int]) -> nnx.RNNCellBase:
    """A stack of LIF layers with a leaky read-out."""
    rngs = nnx.Rngs(0)
    neurons = [*(LIF() for _ in sizes[2:]), LI()]
    linears = [nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)]
    return connect([module for layer in zip(linears, neurons, strict=True) for module in layer])


def calls(sizes: list[int], batch: int) -> dict[tuple[str, int, str], Callable[[], Any]]:
    """A call of one compiled program for each kind of training, window and rule."""
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.random((STEPS, batch, sizes[0])) < 0.1, jnp.float32)
    labels = jnp.asarray(rng.integers(0, sizes[-1], batch))
    model = network(sizes)
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    graph, state = nnx.split((model, optimizer))

    def program(kind: str, window: int, rule: Any) -> Callable[[], Any]:
        def run(state: nnx.State, inputs: jax.Array, labels: jax.Array) -> Any:
            model, optimizer = nnx.merge(graph, state, copy=True)
            data = cross_entropy, inputs, labels
            if kind == "gradients":
                return gradients(model, *data, rule=rule, window=window)
            loss = train_online(model, optimizer, *data, rule=rule, window=window)
            return loss, nnx.state((model, optimizer))

        return functools.partial(jax.jit(run), state, inputs, labels)

    return {
        (kind, window, name): program(kind, window, RULES[name].make())
        for kind in KINDS
        for window in WINDOWS
        for name in NAMES
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["64-50-10", "700-128-20"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--repeats", type=int, default=40)
    args = parser.parse_args()
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"  # before JAX starts
    titles = [RULES[name].title for name in NAMES]
    print("| network, B, K | BPTT, ms |", " | ".join(f"{title}: same, whole" for title in titles[1:]), "|")
    print("| --- |", " | ".join(["--:"] * len(titles)), "|")
    for name in args.networks:
        for batch in args.batches:
            times = least_times(calls([int(size) for size in name.split("-")], batch), args.repeats)
            whole = times["gradients", STEPS, "bptt"]
            for kind in KINDS:
                for window in WINDOWS:
                    bptt, *others = (times[kind, window, rule] for rule in NAMES)
                    ratios = (f"{other / bptt:.2f}, {other / whole:.2f}" for other in others)
                    print(f"| {kind}: {name}, {batch}, {window} | {bptt:.2f} |", " | ".join(ratios), "|", flush=True)


if __name__ == "__main__":
    main()
