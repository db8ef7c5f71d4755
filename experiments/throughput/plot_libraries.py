"""The names and appearance of contenders and published bars in the figures."""

from pathlib import Path

from experiments.drawing import names
from experiments.drawing.tables import rows_of_csv

BARS = rows_of_csv(Path(__file__).with_name("published.csv"))
DEVICES = list(dict.fromkeys(row["device"] for row in BARS))
# Of each library that is timed or published.
LIBRARIES = {
    row["library"]: {"label": names.LIBRARIES[row["library"]], "color": row["color"], "marker": row["marker"]}
    for row in rows_of_csv(Path(__file__).with_name("libraries.csv"))
}
# Contenders of the rules benchmark whose variant is not named after the rule of ours that they match or resemble most:
# see benchmarks/README.md. That of jaxpike does except for a factor per layer.
RULE_OF = {"braintrace:d_rtrl_chunk_32": "ostl", "jaxpike:e_prop": "ottt", "spikingjelly:ottt_1_thread": "ottt"}


def published_library(framework: str, device: str) -> str:
    """Our name for the library of a published bar; SpikingJelly ran on CuPy where there was an NVIDIA GPU."""
    if framework.startswith("spikingjelly"):
        return "spikingjelly_cuda" if device in ("T4", "A100") else "spikingjelly"
    return "slax_original" if framework == "slax" else framework.replace(" ", "_")


def rule_of(name: str) -> str:
    """The rule of ours that a contender of the rules benchmark matches or resembles most."""
    return RULE_OF.get(name, name.partition(":")[2].partition("_window_")[0])
