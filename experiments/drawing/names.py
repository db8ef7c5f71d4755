"""The names that readers see in the figures, in place of those of configurations and code; those of rules are in RULES."""

from collections.abc import Iterable
from typing import Any

# Networks of slax's demonstrations and of others their size, and trainings of OTPE's authors.
SMALL = ("time", "deep", "four_hidden", "shallow", "small")
TRAININGS = [f"{mode}{width}" for mode in ("offline", "online") for width in ("", "_20", "_256", "_512")]
CHAINS = {f"chain_{length}": f"bit after {length} steps" for length in (4, 8, 16, 32, 64)}
TASKS = {
    **dict.fromkeys(("time", "time_deep", *(f"randman_{net}" for net in SMALL)), "Randman, time code"),
    **dict.fromkeys(("rate", "randman_rate"), "Randman, rate code"),
    **{f"{code}_{training}": f"Randman, {code} code" for code in ("time", "rate") for training in TRAININGS},
    **dict.fromkeys(("digits", "digits_shallow"), "handwritten digits"),
    **dict.fromkeys(("shd", "shd_offline"), "Heidelberg digits (SHD)"),
    **CHAINS,
    **{f"{chain}_lru": f"{name}, LRU" for chain, name in CHAINS.items()},
    "adding": "binary adding",
    "bach": "Bach, the next keys",
    "cards_2": "suit of the card before",
    "demo": "slax's demonstration",
    "digits_standardized": "handwritten digits, weights standardized",
    "drift": "Randman, manifolds drift to others",
    "japanese_vowels": "Japanese vowels",
    "laser": "laser, the next value",
    "mackey_glass": "Mackey-Glass series",
    "mnist_5k": "MNIST, 5,000 images",
    "permuted_mnist": "permuted MNIST",
    "recall": "delayed recall",
    "recall_long": "longer delayed recall",
    "recall_480": "recall over 480 steps",
    "recall_1920": "recall over 1,920 steps",
    "recall_recurrent": "recall, recurrent layer",
    "randman": "Randman",
    "psmnist_alif": "permuted pixels, ALIF",
    "psmnist_brf": "permuted pixels, BRF",
    "psmnist_lru": "permuted pixels, LRU",
    "digits_lru": "small digits by pixel, LRU",
    "psmnist_stack": "permuted pixels, two layers of LIF",
    "rules": "five rules from the same start",
    "smnist_alif": "pixels in order, ALIF",
    "smnist_brf": "pixels in order, BRF",
    "digits_alif": "small digits by pixel, ALIF",
    "speakers": "spoken digits, another speaker",
    "speakers_late_20": "another speaker, labels 20 samples late",
    "speakers_late_100": "another speaker, labels 100 samples late",
    "spoken_digits": "spoken digits",
    "spoken_digits_new_speakers": "spoken digits, new speakers",
    "switch": "Randman, other manifolds",
    "switch_late": "Randman, other manifolds, labels late",
    "time_recurrent": "time code, recurrent layer",
}
CODES = {"time": "time code", "rate": "rate code", "cochlea": "", "latency": ""}  # recordings and images have only one
TEMPORAL = {  # the temporal credit of the grid, by the rule that has it
    "sltt": "no trace",
    "ottt": "input traces",
    "ostl": "eligibility",
    "e_prop": "filtered eligibility",
    "otpe": "leaky sum (OTPE)",
    "approximate_otpe": "approximate leaky sum",
    "pp_prop": "two traces (pp-prop)",
    "s_tllr": "causal and non-causal",
}
SPATIAL = {  # its spatial credit
    "symmetric": "symmetric",
    "random": "random",
    "adaptive": "adaptive",
    "direct": "direct",
    "noise": "learned by noise",
    "target": "target",
    "local": "local loss",
    "fixed_bases": "fixed bases",
    "fixed": "hidden layers fixed",
}
WITHOUT_TRANSPORT = ("direct", "target", "local")
SETS = {  # of rules or cells, see ranks.py
    "with_feedback": "all with feedback",
    "symmetric": "symmetric feedback",
    "other": "other feedback",
    "best": "symmetric, the best four",
    "all": "with losses of the layer's own, too",
}
COMPARISONS = {  # what a choice of the grid costs
    "temporal": TEMPORAL["sltt"],
    "spatial": f"mean of {', '.join(WITHOUT_TRANSPORT)}",
    **SPATIAL,
    "spatial_minus_temporal": "mean minus no trace",
    **{f"{route}_minus_temporal": f"{SPATIAL[route]} minus no trace" for route in WITHOUT_TRANSPORT},
}
LIBRARIES = {
    "slax": "slax, here",
    "plain": "by hand, on JAX",
    "matmul": "matrix products alone",
    "slax_original": "slax 0.0.1",
    "spyx": "spyx",
    "jaxpike": "jaxpike",
    "sparx": "sparx",
    "braintrace": "braintrace",
    "snnax": "snnax",
    "rockpool_jax": "Rockpool, JAX",
    "rockpool_torch": "Rockpool, PyTorch",
    "snntorch": "snnTorch",
    "spikingjelly": "SpikingJelly",
    "spikingjelly_cuda": "SpikingJelly, CUDA",
    "norse": "Norse",
    "sinabs": "sinabs",
    "lava_dl": "lava-dl",
}
FORMS = {  # of a library, where several are timed
    "layers": "layer by layer",
    "whole": "whole network per step",
    "default": "as installed",
    "devices": "two CPU devices",
    "unroll_1_remat": "a step at a time, recomputed",
    "checkpointed_32": "32 checkpoints",
    "ostl_window_32": "OSTL, windows of 32",
    "otpe_window_32": "OTPE, windows of 32",
    "approximate_otpe_window_32": "approximate OTPE, windows of 32",
    "ottt_window_32": "OTTT, windows of 32",
    "ottt_1_thread": "OTTT, 1 thread",
    "d_rtrl_chunk_32": "D-RTRL, chunks of 32",
}
WITH_LESS = {"stateless": "neurons without memory", "counts": "counts of spikes alone"}  # of time
EXCHANGED = {"bptt_otpe_lengths": "BPTT, OTPE's lengths", "otpe_bptt_lengths": "OTPE, BPTT's lengths"}
LESS_MEMORY = {"recomputed": "BPTT, recomputed", "in_chunks": "BPTT, in chunks"}  # for the same gradient
OF_OTPE = {
    "otpe_10": "OTPE, windows of ten",
    "in_memory": "TBPTT, within OTPE's memory",
    "in_time": "TBPTT, within OTPE's time",
}
BASELINES = {
    **{"frequencies": "key frequencies", "persistence": "persistence", "bigram": "bigram", "ridge": "ridge, 50 values"},
    "gru": "GRU, BPTT",
}
OTHER_UNITS = {  # in place of LIF
    **{"lru": "LRU, OSTL", "lru_sltt": "LRU, SLTT", "rtu": "RTU, OSTL"},
    **{"rate_rtrl": "rate units, RTRL", "rate_rflo": "rate units, RFLO"},
}
PREDICTORS = BASELINES | OTHER_UNITS
WAYS = {"short_bptt": "BPTT, shortened"} | EXCHANGED | WITH_LESS | LESS_MEMORY | OF_OTPE | PREDICTORS  # beside rules
TRAININGS_IN_DEPTH = {  # with other lengths of gradients
    "clipped": "clipped to 1",
    "unclipped": "as they are",
    "clipped_by_array": "each array clipped",
    "length_one": "each array of length 1",
    "larger": "larger batches",
    "longer": "longer training",
}
OPTIMIZERS = {"adam": "Adam", "momentum": "momentum", "normalized": "momentum, lengths of 1", "rmsprop": "RMSprop"}
UPDATES = {"offline": "one update per sequence", "online": "updates within the sequence"}
COSINE = "cosine to BPTT's gradient"
TEST_ACCURACY = "test accuracy (%)"
LOSS = "cross entropy (nats)"


def task_name(task: str) -> str:
    """The name of a task; of one without an entry, its words."""
    return TASKS.get(task, task.replace("_", " "))


def with_code(task: str, code: str) -> str:
    """The name of a task with its code, if it could have another."""
    return ", ".join(filter(None, [task_name(task), CODES.get(code, code)]))


def network(config: dict[str, Any]) -> str:
    """The sizes of the layers: "64-128-10"."""
    return "-".join(map(str, config["layers"]))


def title_of(config: dict[str, Any]) -> str:
    """The task, and below it its network and the length of its sequences."""
    return f"{task_name(config['task'])}\n{network(config)}, T = {config['n_steps']}"


def randman(config: dict[str, Any]) -> str:
    """The same of an experiment on Randman, in one line, with its code."""
    return f"Randman, {config['code']} code, {network(config)}, T = {config['n_steps']}"


def updates_of(configs: Iterable[dict[str, Any]]) -> str:
    """The numbers of updates, or of sequences where a rule updates within them, of trainings: "400 or 500 batches of 32"."""
    steps, sizes = zip(*((config["steps"], config["batch_size"]) for config in configs), strict=True)
    return f"{listed(steps)} batches of {listed(sizes)}"


def means_of(configs: Iterable[dict[str, Any]]) -> str:
    """What is drawn of trainings: "Mean of 3 seeds after 400 batches of 32, with 95 % intervals"."""
    configs = list(configs)
    return f"Mean of {seeds_of(configs)} after {updates_of(configs)}, with 95 % intervals"


def seeds_of(configs: Iterable[dict[str, Any]]) -> str:
    """The numbers of seeds of trainings: "3 or 20 seeds"."""
    return f"{listed(config['seeds'] for config in configs)} seeds"


def listed(numbers: Iterable[int]) -> str:
    """Numbers without repetitions: "100, 400 or 500"."""
    *first, last = (f"{number:,}" for number in sorted(set(numbers)))
    return f"{', '.join(first)} or {last}" if first else last
