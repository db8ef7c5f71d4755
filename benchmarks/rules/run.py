"""Time one gradient under every learning rule, here and in other libraries, and write the measurements to a JSON file.

python -m benchmarks.rules.run                                  # speed: T = 256, N = 128, 256, 512, all contenders
python -m benchmarks.rules.run --sizes 1024 --peers slax
python -m benchmarks.rules.run length                           # T = 256, 1024, 4096 at N = 128: time and memory
python -m benchmarks.rules.run small                            # 64-50-10 at T = 20, where RTRL is feasible
"""

from benchmarks.side_by_side.measure import Mode, run
from benchmarks.side_by_side.workload import small, uniform

BPTT = ["slax:bptt", "slax:bptt_chunk_16", "slax:bptt_chunk_32", "slax:bptt_chunk_64"]
RULES = ["slax:sltt", "slax:ottt", "slax:ostl", "slax:otpe", "slax:approximate_otpe", "slax:e_prop", "slax:pp_prop"]

MODES = {
    "speed": Mode(lambda sizes: [uniform(256, size) for size in sizes], [], 4, (128, 256, 512)),
    "length": Mode(
        lambda sizes: [uniform(steps, size) for size in sizes for steps in (256, 1024, 4096)],
        [
            *BPTT,
            *RULES,
            "slax:ostl_window_32",
            "slax:ottt_window_32",
            "braintrace:d_rtrl_chunk_32",
            "braintrace:d_rtrl_chunk_128",
            "braintrace:pp_prop",
            "jaxpike",
            "slax_original",
            "sparx:ottt",
        ],
        5,
        (128,),
    ),
    "small": Mode(
        lambda sizes: [small(20)],
        [
            *BPTT,
            *RULES,
            "slax:rtrl",
            "slax:rtrl_window_1",
            "slax:ostl_window_1",
            "slax:ottt_window_1",
            "slax_original_jax04",
            "jaxpike",
            "braintrace:d_rtrl",
            "braintrace:pp_prop",
        ],
        10,
    ),
}

if __name__ == "__main__":
    run("rules", __doc__, MODES)
