"""Memory and messages of a gradient whose units are split over devices: `python -m benchmarks.units`, on virtual devices.

A network 700-N-N-20 of LIF with T = 256 and a batch of 8, in windows of 64 steps. Nothing is run: bytes are those of the
compiled program of one device, its parameters and temporaries, and the results of its collective operations, each counted as
often as it is run. Prints a table in Markdown.
"""

import argparse
import os
import re
from typing import Any

DEVICES = 8
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"

import jax  # noqa: E402 the number of devices is fixed when JAX starts
import jax.numpy as jnp  # noqa: E402
from flax import nnx  # noqa: E402

from slax_neurons import LI, LIF, connect  # noqa: E402
from slax_rules import RULES, cross_entropy, gradients, split_units  # noqa: E402

STEPS, BATCH, WINDOW = 256, 8, 64
COLLECTIVES = "all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute"


def compiled(rule: str, units: int, devices: int) -> Any:
    """The compiled gradient on some devices."""
    rngs = nnx.Rngs(0)
    sizes = [(700, units), (units, units), (units, 20)]
    modules: list[Any] = [module for pair in sizes for module in (nnx.Linear(*pair, rngs=rngs), LIF())]
    model = connect([*modules[:-1], LI()])
    split_units(model, jax.devices()[:devices])
    made = RULES[rule].make(rngs=rngs, model=model)
    graphdef, state = nnx.split(model)

    def gradient(state: Any, inputs: Any) -> Any:
        model = nnx.merge(graphdef, state, copy=True)
        return gradients(model, cross_entropy, inputs, jnp.zeros(BATCH, int), rule=made, window=WINDOW)[1]

    return jax.jit(gradient).lower(state, jax.ShapeDtypeStruct((STEPS, BATCH, 700), jnp.float32)).compile()


def messages(program: Any) -> tuple[int, int]:
    """Collective operations of a gradient, and the bytes of their results on one device."""
    text = program.as_text()
    number = total = 0
    for computation in re.split(r"\n(?=\S)", text):
        times = repetitions(computation.split(" ", 1)[0].lstrip("%"), text)
        for line in re.findall(rf"= (.*?) (?:{COLLECTIVES})(?:-start)?\(", computation):
            number += times
            total += times * sum(size(kind, shape) for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", line))
    return number, total


def repetitions(computation: str, text: str) -> int:
    """How often a computation is run: the number of windows or steps if it is the body of a loop."""
    found = re.search(rf'body=%?{re.escape(computation)}[,\s].*?known_trip_count":\{{"n":"(\d+)"', text)
    return int(found[1]) if found else 1


def size(kind: str, shape: str) -> int:
    bytes_of = {"pred": 1, "s32": 4, "u32": 4, "f32": 4, "f64": 8, "bf16": 2}
    entries = 1
    for axis in filter(None, shape.split(",")):
        entries *= int(axis)
    return bytes_of[kind] * entries


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("benchmarks.units", description=__doc__, formatter_class=form)
    parser.add_argument("--units", type=int, default=1024)
    parser.add_argument("--rules", nargs="+", default=["bptt", "ottt", "pp_prop", "ostl", "otpe"])
    options = parser.parse_args()
    print(
        "| rule | devices | parameters (MB per device) | temporaries (MB per device) | collectives | their results (MB) |"
    )
    print("| --- | --: | --: | --: | --: | --: |")
    for rule in options.rules:
        for devices in (1, 2, 4, 8):
            program = compiled(rule, options.units, devices)
            memory = program.memory_analysis()
            number, total = messages(program)
            parameters = memory.argument_size_in_bytes - 4 * STEPS * BATCH * 700  # without the inputs
            numbers = [f"{one / 1e6:.1f}" for one in (parameters, memory.temp_size_in_bytes, total)]
            print(f"| {rule} | {devices} | {numbers[0]} | {numbers[1]} | {number} | {numbers[2]} |", flush=True)


if __name__ == "__main__":
    main()
