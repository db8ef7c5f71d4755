"""The memory that contenders need, estimated before they start, so that none is started that would not fit.

All processes of a workload exist at the same time, and between its steps each keeps most of what it took.
"""

from pathlib import Path

from benchmarks.side_by_side.contenders import GPU, Contender
from benchmarks.side_by_side.workload import Workload

# By how many arrays [T, B, N] the process of a peer grew in its first step, in its largest form: `memory_growth` of the shipped
# results of the full scale at N = 1024, or 512 of those that are left out there.
ARRAYS = {
    "slax": 6.1,
    "plain": 5.9,
    "matmul": 4.0,
    "slax_original": 10.9,
    "spyx": 10.9,
    "jaxpike": 16.8,
    "sparx": 8.9,
    "braintrace": 8.0,
    "rockpool_jax": 19.2,
    "snntorch": 14.9,
    "spikingjelly": 16.5,
    "norse": 22.1,
}
INPUTS = 2  # arrays of the input: NumPy's and the library's
WEIGHTS = 3  # copies of all weights: NumPy's, the library's and their gradient
PROCESS = 250_000_000  # bytes of a process that has imported a library, without the files that processes share
SHARE = 0.9  # of the free memory that contenders may take
BYTES = {"float32": 4, "bfloat16": 2}


def bytes_of(peer: str, workload: Workload) -> float:
    """About the most memory of a contender's process; of a peer that was never measured, that of the largest one."""
    arrays = ARRAYS.get(peer, max(ARRAYS.values())) + INPUTS
    weights = WEIGHTS * sum(map(lambda n, m: n * m, workload.widths, workload.widths[1:]))
    numbers = arrays * workload.steps * workload.batch * max(workload.widths) + weights
    return PROCESS + BYTES[workload.dtype] * numbers


def free_bytes() -> float:
    """What Linux says that processes can take; without a limit elsewhere, and where the arrays are on a GPU."""
    table = Path("/proc/meminfo")
    if GPU.exists() or not table.exists():
        return float("inf")
    (available,) = (line.split()[1] for line in table.read_text().splitlines() if line.startswith("MemAvailable:"))
    return 1024.0 * int(available)


def that_fit(chosen: list[Contender], workload: Workload, free: float) -> list[Contender]:
    """The contenders, with a reason to leave out each that would not fit beside those before it."""
    taken, found = 0.0, []
    for contender in chosen:
        is_started = not (contender.error or contender.unsupported_reason(workload))
        needed = bytes_of(contender.peer, workload) if is_started else 0.0
        if taken + needed > SHARE * free:
            told = f"left out for its memory: about {needed / 1e9:.1f} GB, beside {taken / 1e9:.1f} GB of those before it, "
            contender = contender._replace(left_out=f"{told}of {free / 1e9:.1f} GB that are free")
        else:
            taken += needed
        found.append(contender)
    return found
