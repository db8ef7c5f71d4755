"""The names and appearance of contenders and published bars in the figures."""

from experiments.drawing import names
from slax_rules import RULES

LOOKS = {  # color and marker
    "slax": ("#D55E00", "o"),
    "plain": ("#E69F00", "h"),
    "matmul": ("#000000", "_"),
    "slax_original": ("#CC79A7", "s"),
    "spyx": ("#0072B2", "^"),
    "jaxpike": ("#56B4E9", "v"),
    "sparx": ("#009E73", "D"),
    "braintrace": ("#8FD3BE", "P"),
    "snnax": ("#DDDDDD", "d"),
    "rockpool_jax": ("#882255", "<"),
    "rockpool_torch": ("#AA4499", ">"),
    "snntorch": ("#332288", "X"),
    "spikingjelly": ("#999933", "*"),
    "spikingjelly_cuda": ("#666600", "p"),
    "norse": ("#4D4D4D", "8"),
    "sinabs": ("#A6A6A6", "H"),
    "lava_dl": ("#661100", "+"),
}
# The name and appearance of a library in the figures, shared by all its files and published bars.
LIBRARIES = {
    library: {"label": names.LIBRARIES[library], "color": color, "marker": marker}
    for library, (color, marker) in LOOKS.items()
}
PUBLISHED_NAMES = {
    "slax": "slax_original",
    "rockpool torch": "rockpool_torch",
    "rockpool jax": "rockpool_jax",
}
# Contenders of the rules benchmark whose variant is not named after the rule of ours that they match or resemble most:
# see benchmarks/README.md.
RULE_OF = {
    "braintrace:d_rtrl_chunk_32": "ostl",
    "jaxpike:e_prop": "ottt",  # except for a factor per layer
    "spikingjelly:ottt_1_thread": "ottt",
}


def published_library(framework: str, device: str) -> str:
    """Our name for the library of a published bar; SpikingJelly ran on CuPy where there was an NVIDIA GPU."""
    if framework.startswith("spikingjelly"):
        return "spikingjelly_cuda" if device in ("T4", "A100") else "spikingjelly"
    return PUBLISHED_NAMES.get(framework, framework)


def rule_of(name: str) -> str:
    """The rule of ours that a contender of the rules benchmark matches or resembles most."""
    return RULE_OF.get(name, name.partition(":")[2].partition("_window_")[0])


def row_label(name: str, others: list[str]) -> str:
    """The name of the library, with its form where more than one form has a row."""
    peer, _, form = name.partition(":")
    several = sum(other.startswith(f"{peer}:") for other in others) > 1
    return LIBRARIES[peer]["label"] + (f", {names.FORMS.get(form, form.replace('_', ' '))}" if several else "")


def rule_label(name: str) -> str:
    """The rule that a contender computes, and its library."""
    library = name.partition(":")[0]
    rule = RULES[rule_of(name)].title
    title = LIBRARIES[library.removesuffix("_jax04")]["label"]
    return f"{rule}: {title}{_form(name)}"


def _form(name: str) -> str:
    """In which form a rule is computed, where a library has several."""
    steps = name.rpartition("_")[2]
    if "_window_" in name:
        return f", windows of {steps}"
    if "_chunk_" in name:
        return f", BPTT in chunks of {steps}"
    return ""
