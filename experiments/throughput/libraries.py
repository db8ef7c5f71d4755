"""The names and appearance of contenders and published bars in the figures."""

from slax_rules import RULES


def look(label: str, color: str, marker: str) -> dict[str, str]:
    """The name and appearance of a library in the figures, shared by all its files and published bars."""
    return {"label": label, "color": color, "marker": marker}


LIBRARIES = {
    "slax": look("slax, here", "#D55E00", "o"),
    "plain": look("by hand, on JAX", "#E69F00", "h"),
    "matmul": look("matrix products alone", "#000000", "_"),
    "slax_original": look("slax 0.0.1", "#CC79A7", "s"),
    "spyx": look("spyx", "#0072B2", "^"),
    "jaxpike": look("jaxpike", "#56B4E9", "v"),
    "sparx": look("sparx", "#009E73", "D"),
    "braintrace": look("braintrace", "#8FD3BE", "P"),
    "snnax": look("snnax", "#DDDDDD", "d"),
    "rockpool_jax": look("Rockpool, JAX", "#882255", "<"),
    "rockpool_torch": look("Rockpool, PyTorch", "#AA4499", ">"),
    "snntorch": look("snnTorch", "#332288", "X"),
    "spikingjelly": look("SpikingJelly", "#999933", "*"),
    "spikingjelly_cuda": look("SpikingJelly, CUDA", "#666600", "p"),
    "norse": look("Norse", "#4D4D4D", "8"),
    "sinabs": look("sinabs", "#A6A6A6", "H"),
    "lava_dl": look("lava-dl", "#661100", "+"),
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
    return RULE_OF.get(name, name.partition(":")[2].removesuffix("_fused").partition("_window_")[0])


def row_label(name: str, names: list[str]) -> str:
    """The name of the library, with its variant where more than one variant has a row."""
    peer, _, variant = name.partition(":")
    several = sum(other.startswith(f"{peer}:") for other in names) > 1
    return LIBRARIES[peer]["label"] + (f", {variant.replace('_', ' ')}" if several else "")


def rule_label(name: str) -> str:
    """The rule that a contender computes, and its library."""
    library = name.partition(":")[0]
    rule = RULES[rule_of(name)].title
    title = LIBRARIES[library.removesuffix("_jax04")]["label"]
    return f"{rule} ({title}{_form(name)})"


def _form(name: str) -> str:
    """In which form a rule is computed, where a library has several."""
    steps = name.rpartition("_")[2]
    if "_window_" in name:
        return f", windows of {steps} steps"
    if "_chunk_" in name:
        return f", BPTT within chunks of {steps} steps"
    return ", in kernels" if name.endswith("_fused") else ""
