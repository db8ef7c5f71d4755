"""Draw what the notebooks of slax show, next to the numbers that they print, from published.csv."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables
from experiments.drawing.styles import STYLES
from slax_rules import RULES
from slax_viz import plot_landscape

COLUMNS = ["notebook", "quantity", "rule", "layer", "after", "ours", "published"]
SEEDS_COLUMNS = ["quantity", "rule", "after", *tables.OF_SEEDS, "next_from", "next_to", "published"]
PUBLISHED = Path(__file__).with_name("published.csv")
MARK: dict[str, Any] = dict(marker="_", markersize=8, mew=2, color="black", linestyle="none", label="_")

Key = tuple[str, str, str, int | str, int]  # all columns up to `after`


class Notebooks(NamedTuple):
    """The results of the first notebook by rule, with its plane, the results of the others, and the published numbers."""

    trained: dict[str, dict[str, Any]]
    plane: dict[str, Any]
    second: dict[str, Any]
    third: dict[str, Any]
    published: dict[Key, float]


def prepare(results: list[dict[str, Any]]) -> Notebooks:
    (plane,) = (result for result in results if "grid" in result["config"])
    (second,) = (result for result in results if "cosines" in result)
    (third,) = (result for result in results if "initial" in result)
    trained = [result for result in results if "rule" in result["config"]]
    (by_rule,) = tables.by_task_and_rule(r | {"config": r["config"] | {"task": "first"}} for r in trained).values()
    return Notebooks(by_rule, plane, second, third, published())


def published() -> dict[Key, float]:
    found: dict[Key, float] = {}
    for row in tables.rows_of_csv(PUBLISHED):
        layer = int(row["layer"]) if row["layer"] else ""
        found[row["notebook"], row["quantity"], row["rule"], layer, int(row["after"])] = float(row["value"])
    return found


def batches(config: dict[str, Any]) -> list[int]:
    """The number of batches before each checkpoint; the last checkpoint is the best network on the way there."""
    return [number * config["checkpoint_every"] for number in range(config["checkpoints"] + 1)]


def of_seeds(notebooks: Notebooks) -> Iterator[tuple[tuple[str, str, int], list[float]]]:
    """Our numbers of the first notebook, of all seeds. Seed 0 has its weights and batches, the others draw their own."""
    after, planes = batches(notebooks.plane["config"]), notebooks.plane["seeds"]
    for number in range(len(planes[0]["explained"])):
        yield (f"explained_{number + 1}", "", after[-1]), [seed["explained"][number] for seed in planes]
    for rule, result in notebooks.trained.items():
        losses = np.array([[*seed["loss"][:-1], seed["loss_at_the_end"]] for seed in result["seeds"]])
        yield from ((("loss", rule, step), of.tolist()) for step, of in zip(after, losses.T, strict=True))


def ours(notebooks: Notebooks) -> Iterator[tuple[Key, float | None]]:
    """Our numbers, of the seed of the notebook."""
    last = batches(notebooks.plane["config"])[-1]
    for (quantity, rule, after), (found, *_) in of_seeds(notebooks):
        yield ("first", quantity, rule, "", after), found
        if quantity == "loss" and after == last:
            seed = notebooks.trained[rule]["seeds"][0]
            yield ("first", "loss_of_the_best", rule, "", seed["best_after"]), seed["loss"][-1]
    for rule, steps in notebooks.second["cosines"].items():
        for step, layers in enumerate(steps):
            yield from ((("second", "cosine", rule, int(layer), step), cosine) for layer, cosine in layers.items())
    for rule, parameters in notebooks.third["initial"].items():
        for parameter, cosine in parameters.items():
            layer, _, kind = parameter.partition("/")
            yield ("third", f"cosine_of_{kind}", rule, int(layer), 0), cosine


def rows(notebooks: Notebooks) -> Iterator[list[Any]]:
    """Our numbers, and the published number of the same kind if there is one; the last column is empty where there is none."""
    for key, value in ours(notebooks):
        yield [*key, value, notebooks.published.get(key)]


def rows_of_seeds(notebooks: Notebooks) -> Iterator[list[Any]]:
    for (quantity, rule, after), numbers in of_seeds(notebooks):
        bounds = statistics.SHARE if quantity.startswith("explained") else statistics.POSITIVE
        published = notebooks.published.get(("first", quantity, rule, "", after))
        cells = [*tables.of_seeds(numbers, bounds), *statistics.further(numbers, bounds)]
        yield [quantity, rule, after, *cells, published]


def draw(notebooks: Notebooks) -> Figure:
    figure, ((left, right),) = figures.panels(1, 2, 2.6, 0.4, width_ratios=[1.15, 1])
    draw_plane(left, notebooks)
    draw_cosines(right, notebooks)
    figures.name_panels((left, right), ("RTRL and BPTT in one plane", "cosine of OSTL and SLTT"))
    figures.label_lines([right])
    first, second = (of["config"] for of in (notebooks.plane, notebooks.second))
    batch = f"{batches(first)[-1]:,} batches of {first['batch_size']}"
    return figures.with_note(
        figure,
        f"a: {names.network(first)}, T = {first['n_steps']}, {batch}, one seed; slax: 5,000 batches. b: "
        f"{names.network(second)}, T = {second['n_steps']}, batches of {second['batch_size']}, one seed. Black bars: the "
        "numbers that slax's notebooks print.",
    )


def draw_plane(ax: Axes, notebooks: Notebooks) -> None:
    arrays = notebooks.plane["arrays"]
    titles = {rule: RULES[rule].title + (" online" if rule == "rtrl" else "") for rule in notebooks.trained}
    plot_landscape(
        ax,
        **{name: arrays[name] for name in ("losses", "xs", "ys")},
        explained=notebooks.plane["seeds"][0]["explained"],
        trajectories={title: arrays[f"at/{rule}"] for rule, title in titles.items()},
        colors={title: STYLES[rule].color for rule, title in titles.items()},
        label=names.LOSS,
        legend=False,
    )
    ax.legend(loc="best")


def draw_cosines(ax: Axes, notebooks: Notebooks) -> None:
    last = min(max(map(len, notebooks.second["cosines"].values())) - 1, 20)
    for rule, steps in notebooks.second["cosines"].items():
        for layer, line in zip(steps[0], itertools.cycle(["-", "--", ":"]), strict=False):
            values = np.array([of[layer] for of in steps], float)[: last + 1]
            ax.plot(values, line, color=STYLES[rule].color, label=f"{RULES[rule].title}, layer {layer}")
    for (_, name, _, _, after), value in notebooks.published.items():
        if name == "cosine":
            ax.plot(after, value, **MARK)
    ax.set(xlabel="updates", ylabel=names.COSINE, ylim=(0, 1.05), xlim=(-0.5, last + 0.5))


FIGURES = {"demo": figures.Plot(COLUMNS, rows, draw)}
TABLES = {"demo_seeds": figures.Plot(SEEDS_COLUMNS, rows_of_seeds)}
