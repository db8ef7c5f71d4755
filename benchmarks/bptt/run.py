"""Time one forward and backward pass of every contender, side by side, and write the measurements to a JSON file.

python -m benchmarks.bptt.run                                   # speed: T = 256, N = 128 ... 1024, all contenders
python -m benchmarks.bptt.run --sizes 128 --peers slax jaxpike:checkpointed_32
python -m benchmarks.bptt.run overhead                          # a net so small that the overhead of calls is visible
python -m benchmarks.bptt.run memory                            # XLA's temporaries for longer sequences
"""

from benchmarks.side_by_side.measure import Mode, run
from benchmarks.side_by_side.workload import small, uniform

MODES = {
    "speed": Mode(lambda sizes: [uniform(256, size) for size in sizes], [], 10, (128, 256, 512, 1024)),
    "overhead": Mode(lambda sizes: [small(20), small(256)], ["slax:default", "plain"], 20),
    "memory": Mode(
        lambda sizes: [uniform(steps, 128) for steps in (256, 1024, 4096)] + [uniform(256, 1024)],
        ["slax:default", "slax:read_out", "slax:chunk_16", "slax:remat", "plain", "jaxpike"],
        0,
    ),
}

if __name__ == "__main__":
    run("bptt", __doc__, MODES)
