"""Draw the cosines and accuracies of the rules next to the numbers that the authors print, from published.csv; and how far the
cosines of other settings are from the printed ones."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.common import figures, tables
from experiments.common.styles import STYLES
from slax_rules import RULES

COLUMNS = ["task", "rule", "quantity", "layer", "parameter", "batches", *tables.OF_SEEDS, "printed"]
GRID_COLUMNS = ["slope", "tau", "width", "batches", "quantity", "rule", "layer", "ours", "printed"]
SHARES = (0.04, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # of a training, over which cosines of the grid are averaged
PUBLISHED = Path(__file__).with_name("published.csv")
OPEN: dict[str, Any] = {
    "markerfacecolor": "none",
    "markeredgecolor": "black",
    "linestyle": "",
    "markersize": 11,
    "zorder": 4,
}

Key = tuple[str, str, str, str]  # a rule, a quantity, a layer and a parameter, or "" where there is none
Point = tuple[float, float, int]  # slope, tau and width
Pairs = dict[tuple[str, str], tuple[float, float]]  # our cosine and the printed one, by rule and layer


class Printed(NamedTuple):
    """A printed number, and the lowest and highest one where several are printed."""

    value: float
    lowest: float | None
    highest: float | None


Known = dict[Key, Printed]


class Data(NamedTuple):
    """The results of each task, one for each seed of the manifolds; those of the grid; and the printed numbers by task."""

    tasks: dict[str, list[dict[str, Any]]]
    grid: list[dict[str, Any]]
    printed: dict[str, Known]


def prepare(results: list[dict[str, Any]]) -> Data:
    tasks: dict[str, list[dict[str, Any]]] = {}
    for result in sorted(results, key=lambda result: result["config"].get("manifold", 0)):
        tasks.setdefault(result["config"]["task"], []).append(result)
    grid = tasks.pop("grid", [])
    order = sorted(tasks, key=lambda task: (-task.startswith("time"), -task.startswith("rate"), task))
    return Data({task: tasks[task] for task in order}, grid, printed())


def printed() -> dict[str, Known]:
    """The printed numbers. Their cosines are of kernels alone."""
    found: dict[str, Known] = {}
    for row in tables.rows_of_csv(PUBLISHED):
        key = row["rule"], row["quantity"], row["layer"], "kernel" if row["quantity"] == "cosine" else ""
        lowest, highest = (float(row[name]) if row[name] else None for name in ("lowest", "highest"))
        found.setdefault(row["task"], {})[key] = Printed(float(row["value"]), lowest, highest)
    return found


def seeds_of(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The seeds of all manifolds."""
    return [seed for result in results for seed in result["seeds"]]


def rules_in(seed: dict[str, Any], part: str) -> list[str]:
    """The rules of a part of a seed's numbers, in the order of the table of rules."""
    return [rule for rule in RULES if rule in seed[part]]


def numbers_of(results: list[dict[str, Any]]) -> dict[Key, list[float | None]]:
    """The numbers of the seeds: the cosines, which are means over training, and the accuracies, at the end and at best.

    The best accuracy is the highest one on the test set, as the authors print it, or where there is a validation set, the one
    after the batches with the best validation accuracy. A step at which a gradient is zero has no cosine, and is left out.
    """
    seeds = seeds_of(results)
    found: dict[Key, list[float | None]] = {}
    for rule in rules_in(seeds[0], "cosines"):
        for name in seeds[0]["cosines"][rule]:
            layer, _, parameter = name.partition("/")
            found[rule, "cosine", layer, parameter] = [mean(seed["cosines"][rule][name]) for seed in seeds]
    for rule in rules_in(seeds[0], "rules"):
        scores = [seed["rules"][rule]["accuracy"] for seed in seeds]
        found[rule, "best_accuracy", "", ""] = [best(of) for of in scores]
        found[rule, "last_accuracy", "", ""] = [of["test"][-1] for of in scores]
    return found


def mean(numbers: list[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known else None


def best(scores: dict[str, list[float]]) -> float:
    chosen_by = scores.get("validation", scores["test"])
    return scores["test"][chosen_by.index(max(chosen_by))]


def curves_of(results: list[dict[str, Any]]) -> dict[str, dict[float, list[float]]]:
    """By rule the test accuracies of the seeds after a number of batches."""
    seeds, every = seeds_of(results), results[0]["config"]["evaluate_every"]
    return {
        rule: {
            every * (index + 1): list(numbers)
            for index, numbers in enumerate(
                zip(*(seed["rules"][rule]["accuracy"]["test"] for seed in seeds), strict=True)
            )
        }
        for rule in rules_in(seeds[0], "rules")
    }


def rows(data: Data) -> Iterator[list[Any]]:
    for task, results in data.tasks.items():
        known = data.printed.get(task, {})
        for key, numbers in numbers_of(results).items():
            bounds = tables.COSINE if key[1] == "cosine" else tables.SHARE
            value = known[key].value if key in known else None
            yield [task, *key, "", *tables.of_seeds(numbers, bounds), value]
        for rule, curve in curves_of(results).items():
            for batches, accuracies in curve.items():
                yield [task, rule, "accuracy", "", "", batches, *tables.of_seeds(accuracies, tables.SHARE), None]


def draw(data: Data) -> Figure:
    """Draw a row for each kind of data and network: cosines of weights by layer, and accuracies of both ways of updating."""
    kinds = list(dict.fromkeys(map(kind_of, data.tasks)))
    figure, axes = figures.panels(len(kinds), 3, (4.3, 3.4), (0, 1.1))
    for kind, (left, middle, right) in zip(kinds, axes, strict=True):
        for ax in (left, middle, right):
            ax.set_axis_off()
        for task, results in data.tasks.items():
            if kind_of(task) != kind:
                continue
            config, known = results[0]["config"], data.printed.get(task, {})
            if seeds_of(results)[0]["cosines"]:
                draw_cosines(left, results, known)
                left.set_title(tables.title_of(config | {"task": f"{kind}_code" if "code" in config else kind}))
            ax = middle if config["update"] == "offline" else right
            draw_accuracies(ax, results, known)
            ax.set_title(f"{tables.spoken(kind)}, {figures.MODE_LABELS[config['update']]}")
    looks = [
        figures.look_of(rule) for rule in RULES if any(rule in seeds_of(of)[0]["rules"] for of in data.tasks.values())
    ]
    looks.append({"label": "printed by the authors", "marker": "s", **OPEN})
    figures.legend_of(figure, looks, len(looks))
    seeds = tables.numbers_of_seeds(map(seeds_of, data.tasks.values()))
    slopes = dict.fromkeys(str(results[0]["config"]["slope"]) for results in data.tasks.values())
    return figures.with_note(
        figure,
        f"Cosines are means over the training with BPTT. Marks: means of {seeds} seeds, each a small dot, with their 95 % "
        f"intervals. Slope {' and '.join(slopes)}, decay {1 / (1 + math.exp(-config['tau'])):.3f}.",
    )


def kind_of(task: str) -> str:
    """The name of a task without its way of updating."""
    return task.replace("_offline", "").replace("_online", "")


def draw_cosines(ax: Axes, results: list[dict[str, Any]], known: Known) -> None:
    numbers = {key: of for key, of in numbers_of(results).items() if key[1] == "cosine" and key[3] == "kernel"}
    layers = list(dict.fromkeys(key[2] for key in numbers))
    names = list(dict.fromkeys(key[0] for key in numbers))
    for (rule, quantity, layer, parameter), cosines in numbers.items():
        at = layers.index(layer) + 0.18 * (names.index(rule) - (len(names) - 1) / 2)
        look: Any = {"color": STYLES[rule].color, "marker": STYLES[rule].marker, "markersize": 7, "elinewidth": 2}
        ax.plot([at + 0.06] * len(cosines), np.array(cosines, float), ".", color=STYLES[rule].color, markersize=4)
        figures.draw_interval(ax, at, cosines, tables.COSINE, upright=True, **look)
        if found := known.get((rule, quantity, layer, parameter)):
            ax.plot(at, found.value, marker="s", **OPEN)
    ax.set_axis_on()
    ax.set_xticks(range(len(layers)), [*(f"hidden {layer}" for layer in layers[:-1]), "output"])
    ax.set(ylabel="cosine to BPTT, weights", ylim=(min(0, ax.get_ylim()[0]), 1.04))


def draw_accuracies(ax: Axes, results: list[dict[str, Any]], known: Known) -> None:
    curves = curves_of(results)
    last = max(max(curve) for curve in curves.values())
    for number, (rule, curve) in enumerate(curves.items(), start=1):
        figures.draw_means(ax, curve, tables.SHARE, **figures.line_of(rule, markersize=4))
        if found := known.get((rule, "best_accuracy", "", "")):
            at = last * (1.03 + 0.04 * number)
            ax.plot(at, found.value, marker="s", **OPEN | {"markeredgecolor": STYLES[rule].color, "markersize": 7})
            if found.lowest is not None and found.highest is not None:
                ax.plot([at, at], [found.lowest, found.highest], color=STYLES[rule].color, linewidth=2)
    ax.set_axis_on()
    ax.set(xlabel="batches", ylabel="test accuracy", ylim=(0, 1.0))


def points_of(data: Data) -> dict[Point, list[dict[str, Any]]]:
    """The results of the grid by slope, tau and width; where there is none, those of the other figure in the time code."""
    found: dict[Point, list[dict[str, Any]]] = {}
    for result in data.grid or data.tasks.get("time_offline", []):
        config = result["config"]
        found.setdefault((config["slope"], config["tau"], config["layers"][1]), []).append(result)
    return found


def compared(results: list[dict[str, Any]], known: Known, measured: int) -> Pairs:
    """Our cosine of the weights, a mean over seeds and over the first measurements, and the printed one, by rule and layer."""
    pairs: Pairs = {}
    for (rule, quantity, layer, parameter), of in known.items():
        seeds = [seed["cosines"].get(rule, {}) for seed in seeds_of(results)] if quantity == "cosine" else []
        ours = mean([mean(seed[f"{layer}/{parameter}"][:measured]) for seed in seeds if seed])
        if ours is not None:
            pairs[rule, layer] = ours, of.value
    return pairs


def distance(pairs: Pairs) -> float:
    """The root mean square of the differences to the printed cosines, of those that are not 1 by construction."""
    squares = [(ours - of) ** 2 for ours, of in pairs.values() if of != 1]
    return math.sqrt(sum(squares) / len(squares))


def by_batches(results: list[dict[str, Any]], known: Known) -> dict[int, Pairs]:
    """The same by the number of batches that the mean over training is of."""
    config = results[0]["config"]
    count = -(-config["batches"] // config["measure_every"])
    some = sorted({max(1, round(share * count)) for share in SHARES})
    batches = [min(number * config["measure_every"], config["batches"]) for number in some]
    return dict(zip(batches, (compared(results, known, number) for number in some), strict=True))


def grid_rows(data: Data) -> Iterator[list[Any]]:
    for point, results in points_of(data).items():
        for batches, pairs in by_batches(results, data.printed["time_offline"]).items():
            yield [*point, batches, "distance", "", "", distance(pairs), None]
            for (rule, layer), (ours, of) in pairs.items():
                yield [*point, batches, "cosine", rule, layer, ours, of]


def draw_grid(data: Data) -> Figure:
    """Draw the distance to the printed cosines over training for each point, and the cosines that are the nearest."""
    found = {point: by_batches(results, data.printed["time_offline"]) for point, results in points_of(data).items()}
    figures.check_given("otpe_paper_grid", "the time code with BPTT", found)
    figure, ((left, right),) = figures.panels(1, 2, (4.8, 3.8), (0, 0.4))
    for (slope, tau, width), of_point in found.items():
        look: dict[str, Any] = {
            "color": f"C{sorted({one[0] for one in found}).index(slope)}",
            "marker": "o" if width == 128 else "D",
        }
        look |= {"linestyle": "-" if tau == 3 else "--", "label": f"slope {slope:g}, tau {tau:g}, width {width}"}
        left.plot([*of_point], [distance(pairs) for pairs in of_point.values()], **look)
    left.set(xlabel="batches that the mean is of", ylabel="distance to the printed cosines", ylim=(0, None))
    left.legend(fontsize="x-small")
    point, batches = min(
        ((point, of) for point in found for of in found[point]), key=lambda at: distance(found[at[0]][at[1]])
    )
    pairs = found[point][batches]
    names = [rule for rule in RULES if (rule, "1") in pairs]
    for (rule, layer), (ours, of) in sorted(pairs.items(), key=lambda pair: names.index(pair[0][0])):
        place = int(layer) - 1 + 0.18 * (names.index(rule) - (len(names) - 1) / 2)
        right.plot(place, of, marker="s", **OPEN)
        right.plot(
            place,
            ours,
            **figures.look_of(rule) | {"linestyle": "", "label": RULES[rule].title if layer == "1" else None},
        )
    right.set(ylabel="cosine to BPTT, weights", ylim=(0, 1.04))
    right.set_xticks(range(3), ["hidden 1", "hidden 2", "output"])
    right.set_title("nearest: slope {:g}, tau {:g}, width {},\n{:,} batches".format(*point, batches))
    right.legend(loc="lower right", fontsize="small")
    return figures.with_note(figure, "Distance: root mean square of ten cosines. Open squares: printed by the authors.")


FIGURES = {
    "otpe_paper": figures.Plot(COLUMNS, rows, draw),
    "otpe_paper_grid": figures.Plot(GRID_COLUMNS, grid_rows, draw_grid),
}
