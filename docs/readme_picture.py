"""Draw docs/readme.png, the picture of README.md: what rules need and how good their gradients are.

`python -m docs.readme_picture` measures the memory, and reads the cosines from the table of gradient_similarity at the full
scale, which `snakemake figures/all --config scale=full` draws from the shipped results.
"""

import argparse
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from flax import nnx
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from experiments.drawing.styles import STYLES, Style
from gallery.tables import Row, matching, read_table
from slax_neurons import LIF, connect
from slax_rules import BPTT, RULES, cost
from slax_viz import PNG_METADATA, style

TABLE = Path("figures/full/gradient_similarity.csv")
PICTURE = Path(__file__).with_name("readme.png")
SHOWN = ("bptt", "e_prop", "otpe", "approximate_otpe", "ottt", "ostl", "sltt")
RECOMPUTED = "BPTT, remat"
LOOKS = STYLES | {RECOMPUTED: Style("0.6", "s", "-")}
TITLES = {name: RULES[name].title.replace("approximate", "approx.") for name in SHOWN} | {RECOMPUTED: RECOMPUTED}
LAYERS = (64, 100, 100, 10)  # of the task randman_deep
LENGTHS = (10, 100, 1000, 10_000)
WINDOW = 10
GAP = 0.05  # lines that end closer share a label; a share of the height of the axes
WIDTH = 18  # letters in a line of a label
NOTE = (
    f"LIF network, {'-'.join(map(str, LAYERS))}. a: measured by slax_rules.cost, besides the inputs; windows of {WINDOW} "
    "steps. b, c: while BPTT trains\non Randman, a synthetic task of spike times, T = 50; mean of 20 seeds, 95 % interval."
)

Line = tuple[str, list[float], list[float]]  # name of the rule, x, y


def memory() -> Iterator[Line]:
    """The kilobytes that a rule needs for one sample, over the length of the sequence."""
    rngs = nnx.Rngs(0)
    pairs = [(nnx.Linear(*sizes, rngs=rngs), LIF()) for sizes in itertools.pairwise(LAYERS)]
    model = connect([module for pair in pairs for module in pair])
    rules = {name: RULES[name].make(rngs=rngs, model=model) for name in SHOWN} | {RECOMPUTED: BPTT(remat=True)}
    for name, rule in rules.items():
        costs = [cost(model, rule, (steps, 32, LAYERS[0]), window=WINDOW) for steps in LENGTHS]
        yield name, list(LENGTHS), [(one.measured_bytes or np.nan) / 1e3 for one in costs]


def cosines(ax: Axes, table: Sequence[Row], layer: int) -> Iterator[Line]:
    """The cosine of a rule's gradient to that of BPTT over training, and its interval as a band."""
    yield "bptt", [0.0, 500.0], [1.0, 1.0]
    for name in SHOWN[1:]:
        rows = matching(table, {"task": "randman_deep", "rule": name, "layer": layer})
        x, y, low, high = np.array(
            [[float(row[key]) for key in ("training_steps", "cosine", "cosine_low", "cosine_high")] for row in rows]
        ).T
        ax.fill_between(x, low, high, color=LOOKS[name].color, alpha=0.2, linewidth=0)
        yield name, list(x), list(y)


def draw(ax: Axes, lines: Sequence[Line]) -> None:
    """Draw lines, each with its name at its end; lines that end at one place have one label."""
    for name, x, y in lines:
        ax.plot(x, y, color=LOOKS[name].color, marker=LOOKS[name].marker, markersize=4, linewidth=1.6)
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = sorted((float(to_axes.transform((x[-1], y[-1]))[1]), name) for name, x, y in lines)
    labels: list[tuple[float, list[str]]] = []
    for height, name in ends:
        if labels and height - labels[-1][0] < GAP:
            labels[-1][1].append(name)
        else:
            labels.append((height, [name]))
    for height, names in labels:
        titles = [TITLES[name] for name in names]
        color = 0.75 * np.array(to_rgb(LOOKS[names[0]].color)) if len(names) == 1 else "0.2"
        text = textwrap.fill(", ".join(titles), WIDTH)
        ax.text(1.04, height, text, transform=ax.transAxes, va="center", size="small", color=color)


def main() -> None:
    argparse.ArgumentParser("python -m docs.readme_picture", description=__doc__).parse_args()
    table = read_table(TABLE)
    with style():
        figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="none")
        figure.subplots_adjust(left=0.06, right=0.87, bottom=0.28, top=0.92, wspace=0.78)
        memory_of, *cosines_of = axes
        memory_of.set(xscale="log", yscale="log", xlabel="time steps", ylim=(4, 2e4))
        memory_of.set_xticks(LENGTHS, [f"{length:,}" for length in LENGTHS], size="small")
        memory_of.set_yticks([10, 100, 1000, 10_000], ["10 kB", "100 kB", "1 MB", "10 MB"])
        memory_of.minorticks_off()
        memory_of.set_title("a  memory per sample", loc="left", size="medium")
        draw(memory_of, list(memory()))
        for ax, letter, layer in zip(cosines_of, "bc", (2, 1), strict=True):
            ax.set(xlim=(0, 510), ylim=(0, 1.05), xlabel="updates")
            ax.set_title(f"{letter}  gradient in hidden layer {layer}", loc="left", size="medium")
            draw(ax, list(cosines(ax, table, layer)))
        cosines_of[0].set_ylabel("cosine to BPTT's gradient")
        cosines_of[1].set_yticklabels([])
        figure.text(0.06, 0.02, NOTE, size="small")
        figure.savefig(PICTURE, dpi=130, metadata=PNG_METADATA)


if __name__ == "__main__":
    main()
