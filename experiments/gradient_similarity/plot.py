"""Draw the agreement of each rule's gradient with BPTT, its bias and variance, and the terms of the exact gradient."""

import functools
import itertools
import operator
from collections.abc import Iterator
from functools import partial
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.drawing import figures, names, statistics, tables
from experiments.drawing.styles import STYLES
from slax_rules import RULES

NOISE = {
    "bias_squared": statistics.ANY,
    "variance": statistics.POSITIVE,
    "projection": statistics.ANY,
    "cosine_of_means": statistics.ANY,
    "relative_variance": statistics.POSITIVE,
}
BOUNDS = {"cosine": statistics.COSINE, "norm_ratio": statistics.POSITIVE, **NOISE}
# Defined where the rule's own gradient is, which may hold for other seeds.
COUNTED = ("cosine_of_means", "relative_variance")
NOISE_MARKS: dict[str, dict[str, Any]] = {
    "bias_squared": {"marker": "o", "label": "squared bias"},
    "variance": {"marker": "D", "markerfacecolor": "white", "label": "variance over batches"},
}
# Each term has the look of the first rule that keeps it.
TERMS = {
    name: figures.look_of(rule) | {"label": label, "linestyle": ""}
    for name, rule, label in (
        ("within_step", "sltt", "within the step (kept by SLTT)"),
        ("own_membrane", "ottt", "own membrane (and by OTTT)"),
        ("own_reset", "ostl", "own reset (and by OSTL)"),
        ("above", "otpe", "time in the layers above (estimated by OTPE)"),
        ("above_with_reset", "bptt", "the same, through a reset (BPTT alone)"),
    )
}
COLUMNS = 4  # of panels

Results = list[dict[str, Any]]


def prepare(results: list[dict[str, Any]]) -> Results:
    """The results of the tasks, ordered by number of layers."""
    return sorted(results, key=lambda result: (len(result["config"]["layers"]), result["config"]["task"]))


def rules_of(*results: dict[str, Any]) -> list[str]:
    """The rules that some result is about, in the order of the table of rules."""
    return tables.in_order(*(result["config"]["rules"] for result in results))


def layers_of(result: dict[str, Any]) -> list[str]:
    return sorted(result["seeds"][0]["stages"][0]["rules"]["bptt"], key=int)


def of_seeds(result: dict[str, Any], stage: int, *path: str) -> list[float | None]:
    """A number for all seeds after one of the steps, None for a seed that lacks it."""
    return [functools.reduce(operator.getitem, path, seed["stages"][stage]) for seed in result["seeds"]]


def of_all_seeds(result: dict[str, Any], stage: int, *path: str) -> list[float | None]:
    """The numbers of `of_seeds`, or none if a seed lacks it, since noise would otherwise select the seeds in the mean."""
    numbers = of_seeds(result, stage, *path)
    return numbers if None not in numbers else []


START = ["task", "layers", "n_steps", "training_steps"]

Place = tuple[dict[str, Any], int]  # a result and the index of a step


def stages_of(results: Results) -> Iterator[tuple[Place, list[str], list[Any]]]:
    """Each result and step index, with the layers, and the leading cells of its rows."""
    for result in results:
        config = result["config"]
        for stage, step in enumerate(config["measure_at"]):
            yield (result, stage), layers_of(result), [config["task"], names.network(config), config["n_steps"], step]


def at_the_end(result: dict[str, Any]) -> Place:
    return result, len(result["config"]["measure_at"]) - 1


AGREEMENT = [*START, "rule", "layer", "seeds", "batches"]
COSINE_COLUMNS = [*AGREEMENT, *tables.summary_columns("cosine", "spikes", "test_accuracy")]
NORM_COLUMNS = [*AGREEMENT, *tables.summary_columns("norm_ratio")]


def agreement_rows(quantity: str, results: Results) -> Iterator[list[Any]]:
    """The agreement of each rule and layer, with the smallest number, over seeds, of batches in a seed's means, which use only
    batches where no gradient is zero. The cosine has the spikes of a hidden layer and the accuracy beside it."""
    for place, layers, start in stages_of(results):
        for rule, layer in itertools.product(rules_of(place[0]), layers):
            numbers, batches = (of_seeds(*place, "rules", rule, layer, name) for name in (quantity, "batches"))
            cells = [statistics.count(numbers), int(min(batches)), *tables.summary(numbers, BOUNDS[quantity])]
            if quantity == "cosine":
                spikes = of_seeds(*place, "spikes", layer) if layer != layers[-1] else None
                cells += tables.summary(spikes, statistics.SHARE) if spikes else [None] * 4
                cells += tables.summary(of_seeds(*place, "test_accuracy"), statistics.SHARE)
            yield [*start, rule, layer, *cells]


NOISE_COLUMNS = [
    *(*START, "rule", "layer", "seeds"),
    *(f"{name}_seeds" for name in COUNTED),
    *tables.summary_columns(*NOISE),
]


def noise_rows(results: Results) -> Iterator[list[Any]]:
    for place, layers, start in stages_of(results):
        for rule, layer in itertools.product(["bptt", *rules_of(place[0])], layers):
            where = *place, "rules", rule, layer
            counts = [statistics.count(of_seeds(*where, name)) for name in ("variance", *COUNTED)]
            cells = [cell for name in NOISE for cell in tables.summary(of_all_seeds(*where, name), BOUNDS[name])]
            yield [*start, rule, layer, *counts, *cells]


TERM_COLUMNS = [*START, "layer", "term", "seeds", *tables.summary_columns("share", "norm_ratio")]


def term_rows(results: Results) -> Iterator[list[Any]]:
    for place, layers, start in stages_of(results):
        for layer, term in itertools.product(layers, TERMS):
            where = *place, "terms", term, layer
            count, norms = statistics.count(of_seeds(*where, "share")), of_seeds(*where, "norm_ratio")
            shares = tables.summary(of_all_seeds(*where, "share"), statistics.ANY)
            yield [*start, layer, term, count, *shares, *tables.summary(norms, statistics.POSITIVE)]


def title_of(result: dict[str, Any]) -> str:
    config, number = result["config"], len(layers_of(result)) - 1
    return f"{names.task_name(config['task'])}\n{number} hidden layer{'s' * (number > 1)}, T = {config['n_steps']}"


def draw_over_training(quantity: str, label: str, results: Results) -> Figure:
    """Draw a panel for each task: the quantity in its first hidden layer over training, with a line for each rule."""
    figure, axes = figures.grid(len(results), COLUMNS, 1.75, 0.4, sharey=True)
    for ax, result in zip(axes, results, strict=True):
        steps = result["config"]["measure_at"]
        numbers = {
            rule: {step: of_seeds(result, i, "rules", rule, "1", quantity) for i, step in enumerate(steps)}
            for rule in rules_of(result)
        }
        figures.draw_lines(ax, numbers, BOUNDS[quantity])
        figures.draw_levels(ax, ceiling=1)
        ax.set(xlim=(0, steps[-1]), xticks=(0, steps[-1] // 2, steps[-1]), xlabel="updates with BPTT")
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel(label)
    axes[0].set(**{"yscale": "log"} if quantity == "norm_ratio" else {"ylim": (min(0, axes[0].get_ylim()[0]), 1.05)})
    figures.name_panels(axes, map(title_of, results))
    figures.label_lines(axes)
    batches, sizes = (names.listed(of["config"][key] for of in results) for key in ("eval_batches", "batch_size"))
    return figures.with_note(
        figure,
        f"First hidden layer, the furthest from the error; dotted: BPTT. Mean of {seeds_in(results)}, each a mean over "
        f"{batches} batches of {sizes}, with its 95 % interval.{figures.others_of(rules_of(*results))}",
    )


def seeds_in(results: Results) -> str:
    return names.seeds_of(result["config"] for result in results)


def updates_in(results: Results) -> str:
    return f"{names.listed(result['config']['measure_at'][-1] for result in results)} updates with BPTT"


def draw_noise(results: Results) -> Figure:
    """Draw the bias and variance of each rule in the first layer, after all training steps, where seeds have enough batches."""
    shown = [result for result in results if of_all_seeds(*at_the_end(result), "rules", "bptt", "1", "variance")]
    shown = shown or results[:1]
    rules = ["bptt", *figures.line_rules(rules_of(*shown))]
    figure, axes = figures.grid(len(shown), 3, 0.17 * len(rules) + 0.55, 0.7, sharey=True)
    for ax, result in zip(axes, shown, strict=True):
        figures.name_rows(ax, [RULES[rule].title for rule in rules], striped=True)
        known = [rule for rule in rules if rule in ("bptt", *rules_of(result))]
        for rule, (quantity, mark) in itertools.product(known, NOISE_MARKS.items()):
            height = rules.index(rule) + (0.17 if quantity == "variance" else -0.17)
            look = {"color": STYLES[rule].color, "markersize": 3.5, "elinewidth": 1, **mark}
            numbers = of_all_seeds(*at_the_end(result), "rules", rule, "1", quantity)
            figures.draw_interval(ax, height, numbers, BOUNDS[quantity], **look)
        ax.set_xscale("symlog", linthresh=0.1, linscale=0.5)
        ax.set_xticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.axvline(0, color="0.6", linewidth=0.8, zorder=0)
        ax.set_xlabel("squared distance / |BPTT|²")
    figures.name_panels(axes, map(title_of, shown))
    figures.legend_of(figure, [{"color": figures.NO_RULE, "linestyle": "", **mark} for mark in NOISE_MARKS.values()], 2)
    return figures.with_note(
        figure,
        f"First hidden layer after {updates_in(shown)}, in units of the squared norm of BPTT's expected gradient; the axis is "
        f"linear below 0.1. Mean of {seeds_in(shown)} with its 95 % interval.{figures.others_of(rules_of(*results))}",
    )


def draw_terms(results: Results) -> Figure:
    """Draw a panel for each task: the share of each term in each layer, after all training steps."""
    figure, axes = figures.grid(len(results), COLUMNS, 1.75, 0.75, sharey=True)
    for ax, result in zip(axes, results, strict=True):
        layers = layers_of(result)
        for (place, layer), (number, (name, look)) in itertools.product(enumerate(layers), enumerate(TERMS.items())):
            shares = of_all_seeds(*at_the_end(result), "terms", name, layer, "share")
            look = look | {"markersize": 3.5, "elinewidth": 1}
            figures.draw_interval(ax, place + 0.14 * (number - 2), shares, upright=True, **look)
        for edge in range(1, len(layers)):
            ax.axvline(edge - 0.5, color="0.9", linewidth=0.8, zorder=0)
        ax.set_xticks(range(len(layers)), [*layers[:-1], "read-out"])
        ax.set(xlim=(-0.5, len(layers) - 0.5), xlabel="layer")
        ax.tick_params(axis="x", length=0)
        ax.axhline(0, color="black", linewidth=0.6, zorder=0)
        figures.draw_levels(ax, ceiling=1)
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel("share of the exact gradient")
    figures.name_panels(axes, (names.title_of(result["config"]) for result in results))
    figures.legend_of(figure, TERMS.values(), 2)
    return figures.with_note(
        figure,
        f"After {updates_in(results)}; the shares of a layer add up to 1 (dotted). Mean of {seeds_in(results)} with its 95 % "
        "interval; a layer in which a seed has too few batches has no marks.",
    )


def over_training(columns: list[str], quantity: str, label: str) -> figures.Plot:
    return figures.Plot(columns, partial(agreement_rows, quantity), partial(draw_over_training, quantity, label))


FIGURES = {
    "gradient_similarity": over_training(COSINE_COLUMNS, "cosine", names.COSINE),
    "gradient_similarity_norms": over_training(NORM_COLUMNS, "norm_ratio", "length / that of BPTT"),
    "gradient_similarity_noise": figures.Plot(NOISE_COLUMNS, noise_rows, draw_noise),
    "gradient_similarity_terms": figures.Plot(TERM_COLUMNS, term_rows, draw_terms),
}
