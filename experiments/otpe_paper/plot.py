"""Draw the cosines and accuracies of the rules next to the numbers that the authors print, from published.csv."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables
from experiments.drawing.styles import STYLES

KEY = ("rule", "quantity", "layer", "parameter", "batches")
COLUMNS = ["task", "manifold", *KEY, *tables.OF_SEEDS, "printed", "difference", "next_from", "next_to"]
PUBLISHED = Path(__file__).with_name("published.csv")
OPEN: dict[str, Any] = dict(marker="s", mfc="none", mec="black", linestyle="", markersize=6.5, mew=0.8, zorder=4)

Run = tuple[str, int | str]  # a task, and the seed of its manifolds or "" for recordings
Key = tuple[str, str, str, str, int | str]  # the columns KEY, "" where there is none


class Printed(NamedTuple):
    """A printed number, of how many seeds it is the mean, and the lowest and highest one where several are printed."""

    value: float
    seeds: int
    lowest: float | None
    highest: float | None


Known = dict[Key, Printed]


class Data(NamedTuple):
    """The results of each task and seed of the manifolds, and the printed numbers by task."""

    runs: dict[Run, list[dict[str, Any]]]
    printed: dict[str, Known]

    def known(self, run: Run) -> Known:
        """The printed numbers of a task. Those of Randman are of the manifolds of seed 0."""
        task, manifold = run
        return self.printed.get(task, {}) if manifold in (0, "") else {}


def prepare(results: list[dict[str, Any]]) -> Data:
    runs: dict[Run, list[dict[str, Any]]] = {}
    for result in sorted(results, key=lambda result: result["config"]["weights"]):
        config = result["config"]
        runs.setdefault((config["task"], config.get("manifold", "")), []).append(result)
    order = sorted(runs, key=lambda run: (-run[0].startswith("time"), -run[0].startswith("rate"), run[::-1]))
    return Data({run: runs[run] for run in order}, printed())


def printed() -> dict[str, Known]:
    """The printed numbers. Their cosines are of kernels alone."""
    found: dict[str, Known] = {}
    for row in tables.rows_of_csv(PUBLISHED):
        parameter, batches = "kernel" if row["quantity"] == "cosine" else "", row["batches"]
        key = row["rule"], row["quantity"], row["layer"], parameter, int(batches) if batches else ""
        lowest, highest = (float(row[name]) if row[name] else None for name in ("lowest", "highest"))
        found.setdefault(row["task"], {})[key] = Printed(float(row["value"]), int(row["seeds"]), lowest, highest)
    return found


def seeds_of(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The seeds of all results; those of the same weights, which have other rules, are put together."""
    found: dict[int, dict[str, Any]] = {}
    for seed in (seed for result in results for seed in result["seeds"]):
        kept = found.setdefault(seed["weights"], {"rules": {}, "cosines": {}})
        for part in kept:
            kept[part] |= seed[part]
    return list(found.values())


def numbers_of(results: list[dict[str, Any]]) -> dict[Key, list[float | None]]:
    """The numbers of the seeds: the cosines, which are means over training, and the accuracies, at best, at the end, and after
    numbers of batches.

    The best accuracy is the highest one on the test set of those that were taken, or where there is a validation set, the one
    after the batches with the best validation accuracy. A step at which a gradient is zero has no cosine, and is left out.
    """
    seeds, every = seeds_of(results), results[0]["config"]["evaluate_every"]
    found: dict[Key, list[float | None]] = {}
    for rule in tables.in_order(seeds[0]["cosines"]):
        for name in seeds[0]["cosines"][rule]:
            layer, _, parameter = name.partition("/")
            found[rule, "cosine", layer, parameter, ""] = [mean(seed["cosines"][rule][name]) for seed in seeds]
    scores = {rule: [seed["rules"][rule]["accuracy"] for seed in seeds] for rule in tables.in_order(seeds[0]["rules"])}
    for rule, of_seeds in scores.items():
        found[rule, "best_accuracy", "", "", ""] = [best(of) for of in of_seeds]
        found[rule, "last_accuracy", "", "", ""] = [of["test"][-1] for of in of_seeds]
    for rule, of_seeds in scores.items():
        for number, accuracies in enumerate(zip(*(of["test"] for of in of_seeds), strict=True), start=1):
            found[rule, "accuracy", "", "", every * number] = list(accuracies)
    return found


def mean(numbers: list[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known else None


def best(scores: dict[str, list[float]]) -> float:
    chosen_by = scores.get("validation", scores["test"])
    return scores["test"][chosen_by.index(max(chosen_by))]


def rows(data: Data) -> Iterator[list[Any]]:
    """The numbers of the seeds; and a printed number, how far our mean is above it, and where the mean of as many further seeds
    of ours would be."""
    for run, results in data.runs.items():
        for key, numbers in numbers_of(results).items():
            bounds = statistics.COSINE if key[1] == "cosine" else statistics.SHARE
            printed, ours, beside = data.known(run).get(key), mean(numbers), [None] * 4
            if printed:
                apart = None if ours is None else ours - printed.value
                beside = [printed.value, apart, *statistics.further(numbers, bounds, printed.seeds)]
            yield [*run, *key, *tables.of_seeds(numbers, bounds), *beside]


def draw(data: Data) -> Figure:
    """Draw the cosines of weights by layer and the accuracies, of short sequences first; of tasks whose accuracies at the end
    are printed, these alone. Runs on manifolds of which nothing is printed are in the table alone."""
    configs = {run: results[0]["config"] for run, results in data.runs.items() if run[1] in (0, "")}
    ends = [run for run in configs if any(quantity == "last_accuracy" for _, quantity, *_ in data.known(run))]
    shown = sorted((run for run in configs if run not in ends), key=lambda run: configs[run]["n_steps"])
    drawn: dict[str, Callable[[Axes], None]] = {}
    for run in shown:
        about, one = f"{names.task_name(run[0])}, T = {configs[run]['n_steps']}\n", (data.runs[run], data.known(run))
        if seeds_of(data.runs[run])[0]["cosines"]:
            drawn[f"{about}cosines"] = partial(draw_cosines, results=one[0], known=one[1])
        update = names.UPDATES[configs[run]["update"]]
        drawn[about + update] = partial(draw_accuracies, results=one[0], known=one[1])
    if ends:
        title = f"{configs[ends[0]]['layers'][1]} units, T = {configs[ends[0]]['n_steps']}\nat the end of training"
        drawn[title] = partial(draw_ends, data=data, runs=ends)
    figure, axes = figures.grid(len(drawn), 3, 1.85, 0.7)
    for ax, draw_one in zip(axes, drawn.values(), strict=True):
        draw_one(ax)
    figures.name_panels(axes, drawn)
    everything = [seeds_of(data.runs[run]) for run in configs]
    looks = [figures.look_of(rule) for rule in tables.in_order(*(of[0]["rules"] for of in everything))]
    looks.append({"label": "printed by the authors", **OPEN})
    figures.legend_of(figure, looks, len(looks))
    networks = " or ".join(dict.fromkeys(map(names.network, configs.values())))
    slopes = " and ".join(dict.fromkeys(str(config["slope"]) for config in configs.values()))
    config = next(iter(configs.values()))
    return figures.with_note(
        figure,
        f"{networks}. Cosines are means over the training with BPTT. Marks: mean of {names.listed(map(len, everything))} seeds "
        f"with its 95 % interval; dots: seeds; dashed: chance. Batches of {config['batch_size']}. Slope {slopes}, "
        f"decay {1 / (1 + math.exp(-config['tau'])):.3f}.",
    )


def draw_cosines(ax: Axes, results: list[dict[str, Any]], known: Known) -> None:
    numbers = {key: of for key, of in numbers_of(results).items() if key[1] == "cosine" and key[3] == "kernel"}
    layers = list(dict.fromkeys(layer for _, _, layer, *_ in numbers))
    draw_groups(ax, {(key[2], key[0]): (of, known.get(key)) for key, of in numbers.items()}, statistics.COSINE)
    ax.set_xticks(range(len(layers)), [*(f"hidden {layer}" for layer in layers[:-1]), "output"])
    ax.set(ylabel=names.COSINE, ylim=(min(0, ax.get_ylim()[0]), 1.04))


def draw_ends(ax: Axes, data: Data, runs: list[Run]) -> None:
    """Draw the accuracies of several tasks after the last update."""
    configs = [data.runs[run][0]["config"] for run in runs]
    marks = {
        (run[0], key[0]): (numbers, data.known(run).get(key))
        for run in runs
        for key, numbers in numbers_of(data.runs[run]).items()
        if key[1] == "last_accuracy"
    }
    draw_groups(ax, marks, statistics.SHARE, scale=100)
    figures.draw_levels(ax, chance=100 / configs[0]["layers"][-1])
    ax.set_xticks(range(len(runs)), [names.CODES[config["code"]] for config in configs])
    ax.set(ylabel=names.TEST_ACCURACY, ylim=(0, 100))


def draw_groups(
    ax: Axes,
    marks: dict[tuple[str, str], tuple[list[float | None], Printed | None]],
    bounds: statistics.Bounds,
    scale: float = 1,
) -> None:
    """Draw the numbers of seeds and the printed number, by group and rule, side by side within a group."""
    groups, rules = (list(dict.fromkeys(column)) for column in zip(*marks, strict=True))
    for (group, rule), (numbers, found) in marks.items():
        at, color = groups.index(group) + 0.18 * (rules.index(rule) - (len(rules) - 1) / 2), STYLES[rule].color
        look = {"scale": scale, "color": color, "marker": STYLES[rule].marker, "markersize": 4, "elinewidth": 1.2}
        figures.draw_seeds(ax, at, numbers, bounds, 0.06, 2, upright=True, **look)
        if found:
            ax.plot(at, scale * found.value, **OPEN)


def draw_accuracies(ax: Axes, results: list[dict[str, Any]], known: Known) -> None:
    """Draw curves, the printed accuracies on the way as marks on them, and the other printed ones to the right of them."""
    curves: dict[str, dict[float, list[float | None]]] = {}
    for (rule, quantity, *_, batches), accuracies in numbers_of(results).items():
        if quantity == "accuracy":
            curves.setdefault(rule, {})[float(batches)] = accuracies
    last = max(max(curve) for curve in curves.values())
    figures.draw_lines(ax, curves, statistics.SHARE, scale=100, rules=curves)
    for (rule, quantity, *_, batches), found in known.items():
        if rule not in curves or quantity == "cosine":
            continue
        at = float(batches) if quantity == "accuracy" else last * (1.07 + 0.04 * [*curves].index(rule))
        ax.plot(at, 100 * found.value, **OPEN | {"mec": STYLES[rule].color, "markersize": 4.5})
        if found.lowest is not None and found.highest is not None:
            ax.plot([at, at], [100 * found.lowest, 100 * found.highest], color=STYLES[rule].color, linewidth=2)
    figures.draw_levels(ax, chance=100 / results[0]["config"]["layers"][-1])
    ax.set(xlabel="batches", ylabel=names.TEST_ACCURACY, ylim=(0, 100), xlim=(0, None))


FIGURES = {"otpe_paper": figures.Plot(COLUMNS, rows, draw)}
