"""Draw docs/readme.png, the picture of README.md: the memory of rules, and what they reach over long gaps in which time.

`python -m docs.readme_picture` measures the memory, and reads accuracies and times from the table of questions_long at the full
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

from experiments.common.tasks import make_model
from experiments.drawing.figures import label_lines
from experiments.drawing.names import listed
from experiments.drawing.styles import STYLES, Style
from experiments.pipeline.job import SCALES
from experiments.questions.plot_data import title_of_way
from experiments.questions.plot_long import ROWS
from gallery.tables import Row, matching, number, read_table
from slax_rules import BPTT, OTPE, RULES, cost
from slax_viz import PNG_METADATA, style

PICTURE = Path(__file__).with_name("readme.png")
TRUNCATED = Style("#56B4E9", "v", "")
LOOKS = STYLES | {
    "recomputed": Style("0.6", "s", "-"),
    "otpe_10": STYLES["otpe"]._replace(line=":"),
    "in_memory": TRUNCATED,
    "in_time": TRUNCATED,
}
LAYERS = (30, 40, 40, 5)  # of the tasks
TASKS = {"recall_480": 1.0, "recall_1920": 0.4}  # and how opaque their marks are
LENGTHS = (30, 120, 480, 1920)
MARKS = (10, 100, 1000)  # kilobytes

Line = tuple[str, list[float], list[float]]  # name of the rule, x, y


def memory() -> Iterator[Line]:
    """The kilobytes that a rule needs for one sample, over the length of the sequence."""
    model = make_model({"layers": LAYERS, "input_rate": 0.2, "initial_rate": 0.05}, nnx.Rngs(0))
    rules = {
        name: RULES[name].make(rngs=nnx.Rngs(0), model=model) for name in ("bptt", "otpe", "approximate_otpe", "ottt")
    }
    for name, rule in (rules | {"recomputed": BPTT(remat=True), "otpe_10": OTPE()}).items():
        shapes = [(steps, 32, LAYERS[0]) for steps in LENGTHS]
        costs = [cost(model, rule, shape, window=10 if name == "otpe_10" else 1) for shape in shapes]
        yield name, list(LENGTHS), [(one.measured_bytes or np.nan) / 1e3 for one in costs]


def draw(ax: Axes, lines: Sequence[Line]) -> None:
    """Draw lines, each with its name at its end."""
    for name, x, y in lines:
        color, marker, line = LOOKS[name]
        ax.plot(x, y, color=color, marker=marker, markersize=4, linestyle=line, label=title_of_way(name))
    label_lines([ax])


def draw_rows(
    ax: Axes, ways: Sequence[str], table: Sequence[Row], column: str, times: float = 1.0, unit: str = ""
) -> None:
    """Draw a row for each way, with a mark for each task; the numbers stand beside them if they have a unit."""
    for (task, opacity), (row, way) in itertools.product(TASKS.items(), enumerate(ways)):
        color, marker, _ = LOOKS[way]
        for found in filter(None, (number(cells, column) for cells in matching(table, {"task": task, "way": way}))):
            ends = [[times * (found.value - found.low)], [times * (found.high - found.value)]]
            ax.errorbar(times * found.value, row, xerr=ends, color=color, marker=marker, alpha=opacity, markersize=6)
            if unit:
                place, offset = (times * found.value, row), (6, 1 if opacity < 1 else -9)  # no label on another
                ax.annotate(f"{place[0]:,.0f} {unit}", place, offset, textcoords="offset points", size="x-small")
    ax.set_yticks(range(len(ways)), map(title_of_way, ways), size="small")
    ax.set_ylim(len(ways) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color="0.9")


def note(table: Sequence[Row], scale: str) -> str:
    """What is drawn, with the numbers of seeds and batches of the table."""
    rows = [row for task in TASKS for row in matching(table, {"task": task}) if row["seeds"]]
    seeds, batches = (listed(int(row[name]) for row in rows if row["way"] in ROWS) for name in ("seeds", "batches"))
    told = (
        f"LIF network, {'-'.join(map(str, LAYERS))}. Memory: measured, besides the inputs. OTPE, its approximation and OTTT "
        "take one step at a time, or ten where it is said. b, c: a symbol is recalled after half of T steps or more, chance "
        "20 %; TBPTT: the most accurate piece that needs at most OTPE's memory, or whose training takes at most its time; "
        f"mean of {seeds} seeds after {batches} batches, 95 % interval ({scale} scale)."
    )
    return textwrap.fill(told, 160)


def main() -> None:
    parser = argparse.ArgumentParser("python -m docs.readme_picture", description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="full", help="of the table; full by default")
    scale = parser.parse_args().scale
    table = read_table(Path("figures") / scale / "questions_long.csv")
    there = [task for task in TASKS if matching(table, {"task": task})]
    ways = [way for way in ROWS if any(matching(table, {"task": task, "way": way}) for task in there)]
    told = ", pale: ".join(f"{int(matching(table, {'task': task})[0]['n_steps']):,}" for task in there)
    with style():
        figure = plt.figure(figsize=(12, 3.7), layout="none")
        places = ((0.06, 0.19), (0.53, 0.2), (0.755, 0.235))  # left ends and widths
        memory_of, accuracy_of, time_of = (figure.add_axes((left, 0.32, width, 0.60)) for left, width in places)
        memory_of.set(xscale="log", yscale="log", xlabel="time steps")
        memory_of.set_xticks(LENGTHS, [f"{length:,}" for length in LENGTHS], size="small")
        memory_of.set_yticks(MARKS, ["10 kB", "100 kB", "1 MB"])
        memory_of.minorticks_off()
        memory_of.set_title("a  memory per sample", loc="left", size="medium")
        draw(memory_of, list(memory()))
        draw_rows(accuracy_of, ways, table, "mean", 100.0)
        accuracy_of.set(xlim=(0, 105), xticks=range(0, 101, 20), xlabel=f"accuracy (%), T = {told}")
        accuracy_of.set_title("b  recall over long gaps", loc="left", size="medium")
        draw_rows(time_of, ways, table, "seconds", unit="s")
        time_of.set(xlim=(0, 1.15 * time_of.get_xlim()[1]), xlabel="seconds of gradients")
        time_of.set_title("c  time of training", loc="left", size="medium")
        time_of.set_yticklabels([])
        figure.text(0.06, 0.02, note(table, scale), size="small")
        figure.savefig(PICTURE, dpi=130, metadata=PNG_METADATA)


if __name__ == "__main__":
    main()
