"""A model of the time of a gradient on a GPU, from bytes, operations and launches: `python -m benchmarks.gpu_model`.

The workload is that of the paper's figure: three layers of (Linear, LIF), T = 256, a batch of 32, forward and backward. Each
operation takes the longer one of two times, for its bytes at the bandwidth of the memory and for its operations at the peak of
the units that do them, and one launch on top. `benchmarks.program_passes` counts the operations in the program that JAX makes.
Nothing here is measured. The peaks are from the data sheets, and no program reaches them: the times are lower bounds, to be
compared with measurements.
"""

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.program_passes import gradient, passes
from slax_neurons.kernels import STEPS_ON_GPU

STEPS, BATCH, FLOAT = 256, 32, 4
SIZES = (128, 512, 1024, 2048, 4096, 6144)
# Launches of XLA in an iteration of a loop, besides a kernel for each step: the counter and the condition.
LAUNCHES_OF_ITERATION = 2
# How the states are made, and how many steps are in an iteration of a loop.
FORMS = {"scan, 1 step": ("scan", 1), f"scan, {STEPS_ON_GPU} steps": ("scan", STEPS_ON_GPU), "fused": ("fused", 1)}


class Device(NamedTuple):
    """The peaks of a GPU.

    bandwidth: bytes per second.
    float32, tensor_float32: operations per second, by the cores for float32 and by the tensor cores for TF32, without sparsity.
    launch: seconds between two kernels of a program.
    """

    name: str
    bandwidth: float
    float32: float
    tensor_float32: float
    launch: float = 4e-6


# Data sheets of NVIDIA: A100 40GB SXM (2020), H100 SXM (2022).
DEVICES = (Device("A100", 1.555e12, 19.5e12, 156e12), Device("H100", 3.35e12, 67e12, 494.7e12))


class Operation(NamedTuple):
    """Bytes that are read and written, multiply-adds in products, and launches."""

    bytes: float
    products: float = 0.0
    launches: float = 1.0


def operations(n: int, form: str) -> Iterator[Operation]:
    """The operations of a gradient at N units as its program has them, with the states by one of `FORMS`."""
    array = FLOAT * STEPS * BATCH * n
    kernel, steps = FORMS[form]
    for one in passes(gradient(kernel, steps_per_iteration=steps)):
        if one.kind == "dot_general":
            yield Operation(one.arrays * array + FLOAT * n * n, STEPS * BATCH * n * n)
        else:
            of_loop = STEPS * (1 + LAUNCHES_OF_ITERATION / one.steps_per_iteration)
            yield Operation(one.arrays * array, launches=of_loop if one.kind == "scan" else 1)


def seconds(device: Device, n: int, form: str, *, tensor_cores: bool) -> float:
    """The time of a gradient."""
    peak = device.tensor_float32 if tensor_cores else device.float32
    return sum(
        max(one.bytes / device.bandwidth, 2 * one.products / peak) + one.launches * device.launch
        for one in operations(n, form)
    )


def share_of_products(device: Device, n: int, form: str, *, tensor_cores: bool) -> float:
    """The time of the products alone, divided by the time of the gradient."""
    peak = device.tensor_float32 if tensor_cores else device.float32
    products = sum(
        max(one.bytes / device.bandwidth, 2 * one.products / peak) + device.launch
        for one in operations(n, form)
        if one.products
    )
    return products / seconds(device, n, form, tensor_cores=tensor_cores)


def table() -> str:
    """The times in milliseconds as a table in Markdown."""
    lines = [
        "| ms, predicted | " + " | ".join(f"N = {n}" for n in SIZES) + " |",
        "| --- |" + " --: |" * len(SIZES),
    ]
    for device in DEVICES:
        for form in FORMS:
            for cores, tensor_cores in (("float32", False), ("TF32", True)):
                numbers = [seconds(device, n, form, tensor_cores=tensor_cores) for n in SIZES]
                lines.append(
                    f"| {device.name}, {form}, {cores} | " + " | ".join(f"{1e3 * x:.2f}" for x in numbers) + " |"
                )
        shares = [share_of_products(device, n, "fused", tensor_cores=True) for n in SIZES]
        lines.append(
            f"| {device.name}, share of the products, fused, TF32 | "
            + " | ".join(f"{100 * x:.0f} %" for x in shares)
            + " |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
