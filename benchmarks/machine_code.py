"""The kernels of all neurons and rules as machine code of NVIDIA's GPUs, which needs no GPU: registers and spilled bytes.

    python -m benchmarks.machine_code programs FOLDER             # here: JAX writes the kernels as programs of Triton
    python benchmarks/machine_code.py table FOLDER                # in an environment with Triton (`pip install triton`)

The table has the largest number of registers per thread over the kernels of a row, and the largest number of bytes that one of
them spills. A block has 128 threads for 128 units; with up to 64 registers, a multiprocessor holds eight blocks or more.
"""

import argparse
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

GPUS = {"A100": (80, "sm_80"), "H100": (90, "sm_90a")}  # capability, and architecture of the assembler
WARPS = 4  # as in slax_neurons/kernels.py
PTX = 88  # version of the assembler's language that the assembler of Triton understands
STEPS, BATCH, UNITS = 256, 32, 1001
RULES_TRIED = ("ostl", "otpe", "approximate_otpe", "ottt", "e_prop", "pp_prop", "s_tllr", "hypr")


def main(arguments: list[str] | None = None) -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("benchmarks.machine_code", description=__doc__, formatter_class=form)
    parser.add_argument("what", choices=("programs", "table"))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    if options.what == "programs":
        options.folder.mkdir(parents=True, exist_ok=True)
        for name, lowered in lowered_programs():
            for number, text in enumerate(kernels_of(lowered)):
                (options.folder / f"{name}.{number}.ttir").write_text(text, encoding="utf-8")
            print(name, flush=True)
    else:
        print(*table(options.folder), sep="\n")


def lowered_programs() -> Iterator[tuple[str, Any]]:
    """The gradient of each neuron, and of a network of LIF under each rule, lowered for CUDA with kernels for all loops."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    import slax_neurons.kernels
    import slax_neurons.neurons.fused
    from slax_neurons import LI, LIF, NEURONS, connect
    from slax_neurons.neurons.fused import fused_integrate_and_fire
    from slax_rules import RULES, cross_entropy, gradients

    slax_neurons.kernels.is_interpreted = lambda: False  # there may be no GPU here, and nothing is run or compiled
    slax_neurons.kernels.compiles = slax_neurons.neurons.fused.compiles = lambda *_: True
    shape = (STEPS, BATCH, UNITS)

    def lowered(function: Any, *arguments: Any) -> Any:
        return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).compiler_ir()

    for name, kind in NEURONS.items():
        if name == "ltc":  # its gates are Linears, so that it is no element-wise neuron
            continue
        neuron = kind()
        graphdef, state = nnx.split(neuron)
        carry = jax.eval_shape(lambda neuron=neuron: neuron.initialize_carry(shape[1:]))
        states = partial(fused_integrate_and_fire, graphdef)
        through = lambda *at, states=states: jax.vjp(states, *at)[1](states(*at))  # noqa: E731
        yield f"neuron {name}", lowered(through, state, carry, jax.ShapeDtypeStruct(shape, jnp.float32))
    rngs = nnx.Rngs(0)
    model = connect([nnx.Linear(64, UNITS, rngs=rngs), LIF(), nnx.Linear(UNITS, 10, rngs=rngs), LI()])
    labels = jnp.zeros(BATCH, int)
    inputs = jax.ShapeDtypeStruct((STEPS, BATCH, 64), jnp.float32)
    with slax_neurons.kernels.auto_is("fused"):
        for name in RULES_TRIED:
            rule = RULES[name].make(rngs=rngs, model=model)
            yield (
                f"rule {name}",
                lowered(
                    lambda x, rule=rule: gradients(model, cross_entropy, x, labels, rule=rule, window=STEPS // 2),
                    inputs,
                ),
            )


def kernels_of(module: Any) -> list[str]:
    """The different kernels in a lowered program, as text of Triton's dialect."""
    from jaxlib.mlir import ir
    from jaxlib.triton import dialect

    texts: dict[str, None] = {}
    for operation in operations(module.operation):
        if operation.name == "stablehlo.custom_call" and "triton" in str(operation.attributes["call_target_name"]):
            code = ir.StringAttr(ir.DictAttr(operation.attributes["mhlo.backend_config"])["ir"]).value_bytes
            with ir.Context() as context:
                dialect.register_dialect(context)
                context.load_all_available_dialects()
                texts[ir.Module.parse(code).operation.get_asm(enable_debug_info=False)] = None
    return list(texts)


def operations(operation: Any) -> Iterator[Any]:
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield inner.operation
                yield from operations(inner.operation)


def table(folder: Path) -> Iterator[str]:
    import triton

    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.ttir")):
        groups.setdefault(path.name.rsplit(".", 2)[0], []).append(path)
    version = subprocess.run([assembler(), "--version"], capture_output=True, text=True, check=True).stdout
    yield f"triton {triton.__version__}, ptxas {re.findall(r'release ([0-9.]+)', version)[0]}"
    yield ""
    names = [f"{gpu}: {what}" for gpu in GPUS for what in ("registers", "spilled bytes")]
    yield f"| kernels of | number | {' | '.join(names)} |"
    yield f"| --- | --: | {' | '.join('--:' for _ in names)} |"
    for name, paths in groups.items():
        found = [
            max(numbers) for gpu in GPUS for numbers in zip(*(assembled(path, gpu) for path in paths), strict=True)
        ]
        yield f"| {name} | {len(paths)} | {' | '.join(map(str, found))} |"


def assembler() -> Path:
    import triton

    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"


def assembled(path: Path, gpu: str) -> tuple[int, int]:
    """Registers per thread and spilled bytes of a kernel."""
    import triton
    from triton.backends.compiler import GPUTarget

    capability, architecture = GPUS[gpu]
    options = {"num_warps": WARPS, "num_stages": 1, "ptx_version": PTX}
    made = triton.compile(str(path), target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(made.asm["ptx"])
        file.flush()
        command = [assembler(), "-v", f"-arch={architecture}", file.name, "-o", os.devnull]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", told)
    return int(re.findall(r"Used (\d+) registers", told)[0]), sum(map(int, spilled))


if __name__ == "__main__":
    main()
