"""Draw the response of each neuron to a current that is off, on and off again, with neurons in the order of the results."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures
from slax_neurons import NEURONS
from slax_viz import plot_membrane

COLUMNS = 2
TABLE = ["neuron", "quantity", "step", "value"]
HEIGHTS = [2.2, 1.0]  # relative heights of the membrane panel and of the other states below it


prepare = list[dict[str, Any]]


def curves(result: dict[str, Any]) -> dict[str, list[float]]:
    """The numbers of one neuron that appear in the figure, by name."""
    shown = {name: result[name] for name in ("current", "membrane", "threshold", "output") if result[name] is not None}
    return shown | {name: result["states"][name] for name in result["config"]["states"]}


def table_rows(results: list[dict[str, Any]]) -> Iterator[list[Any]]:
    for result in results:
        for quantity, values in curves(result).items():
            for step, value in enumerate(values):
                yield [result["config"]["neuron"], quantity, step, value]


def draw(results: list[dict[str, Any]]) -> Figure:
    """Draw a panel for each neuron, with the membrane above and its other states below."""
    rows = -(-len(results) // COLUMNS)
    figure = plt.figure(figsize=(figures.WIDTH, 1.75 * rows + 0.6))
    grid = figure.add_gridspec(2 * rows, COLUMNS, height_ratios=HEIGHTS * rows)
    above: list[Axes] = []
    for index, result in enumerate(results):
        row, column = 2 * (index // COLUMNS), index % COLUMNS
        has_states = bool(result["config"]["states"])
        axes = [figure.add_subplot(grid[row : row + (1 if has_states else 2), column])]
        if has_states:
            axes.append(figure.add_subplot(grid[row + 1, column], sharex=axes[0]))
        draw_neuron(axes, result)
        above.append(axes[0])
        if index + COLUMNS >= len(results):
            axes[-1].set_xlabel("step")
        else:
            axes[-1].tick_params(labelbottom=False)
    figures.name_panels(above, (NEURONS[result["config"]["neuron"]].__name__ for result in results))
    handles = [ax.get_legend_handles_labels() for ax in figure.axes]
    figure.legend(*max(handles, key=lambda pair: len(pair[1])), loc="outside upper center", ncols=4)
    config = results[0]["config"]
    on = f"steps {config['current_on']} to {config['current_off'] - 1}"
    return figures.with_note(
        figure, f"One unit of each neuron, without noise; gray: the current is on, {on}. Each state in its own unit."
    )


def draw_neuron(axes: list[Axes], result: dict[str, Any]) -> None:
    """Draw one neuron: its membrane on the first axes, and its other states, if any, on the second."""
    config, names = result["config"], result["config"]["states"]
    above = axes[0]
    firing = {"threshold": np.array(result["threshold"]), "spikes": np.array(result["output"])}
    plot_membrane(above, np.array(result["membrane"]), **firing if result["threshold"] else {})
    above.set_ylabel("membrane")
    above.set_title(f"current {config['current']:g}", loc="right", fontsize="small")
    for index, name in enumerate(names):
        axes[1].plot(result["states"][name], color=f"C{index + 1}", linewidth=1.2, label=f"{names[name]} {name}")
    if names:
        above.tick_params(labelbottom=False)
        small = {"fontsize": "small", "handlelength": 1.2, "columnspacing": 1.2}
        axes[1].legend(loc="lower left", bbox_to_anchor=(-0.02, 0.9), ncols=2, **small)
    for ax in axes:
        ax.axvspan(config["current_on"], config["current_off"], color="0.92", linewidth=0, label="current on", zorder=0)
        ax.set_xlim(0, config["n_steps"])


FIGURES = {"step_response": figures.Plot(TABLE, table_rows, draw)}
