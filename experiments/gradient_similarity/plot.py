"""Draw the agreement of each rule's gradient with BPTT over training. Its norms, its noise, and the terms of the exact gradient
are in tables."""

import functools
import itertools
import operator
from collections.abc import Iterator
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables

NOISE = ("bias_squared", "variance", "projection", "cosine_of_means", "relative_variance")
BOUNDS = {  # of the others: ANY
    **dict.fromkeys(("norm_ratio", "variance", "relative_variance"), statistics.POSITIVE),
    "cosine": statistics.COSINE,
}
# Defined where the rule's own gradient is, which may hold for other seeds.
COUNTED = ("cosine_of_means", "relative_variance")
TERMS = ("within_step", "own_membrane", "own_reset", "above", "above_with_reset")  # see terms.py
DEEP = ("randman_deep", "randman_four_hidden")  # the networks in which rules differ most

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
            cells = [
                cell
                for name in NOISE
                for cell in tables.summary(of_all_seeds(*where, name), BOUNDS.get(name, statistics.ANY))
            ]
            yield [*start, rule, layer, *counts, *cells]


TERM_COLUMNS = [*START, "layer", "term", "seeds", *tables.summary_columns("share", "norm_ratio")]


def term_rows(results: Results) -> Iterator[list[Any]]:
    for place, layers, start in stages_of(results):
        for layer, term in itertools.product(layers, TERMS):
            where = *place, "terms", term, layer
            count, norms = statistics.count(of_seeds(*where, "share")), of_seeds(*where, "norm_ratio")
            shares = tables.summary(of_all_seeds(*where, "share"), statistics.ANY)
            yield [*start, layer, term, count, *shares, *tables.summary(norms, statistics.POSITIVE)]


def draw_over_training(results: Results) -> Figure:
    """Draw the cosine in the first hidden layer over training, with a line for each rule, in a panel for each network of
    `DEEP`, or for each one that was run if none of these was."""
    shown = [result for result in results if result["config"]["task"] in DEEP] or results
    figure, axes = figures.grid(len(shown), 2, 2.3, 0.4, sharey=True)
    for ax, result in zip(axes, shown, strict=True):
        steps = result["config"]["measure_at"]
        cosines = {
            rule: {step: of_seeds(result, i, "rules", rule, "1", "cosine") for i, step in enumerate(steps)}
            for rule in rules_of(result)
        }
        figures.draw_lines(ax, cosines, statistics.COSINE)
        figures.draw_levels(ax, ceiling=1)
        ax.set(xlim=(0, steps[-1]), xticks=(0, steps[-1] // 2, steps[-1]), xlabel="updates with BPTT")
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel(names.COSINE)
    axes[0].set_ylim(min(0, axes[0].get_ylim()[0]), 1.05)
    figures.name_panels(axes, (names.title_of(result["config"]) for result in shown))
    figures.label_lines(axes)
    seeds = names.seeds_of(result["config"] for result in shown)
    batches, sizes = (names.listed(of["config"][key] for of in shown) for key in ("eval_batches", "batch_size"))
    return figures.with_note(
        figure,
        f"First hidden layer, the furthest from the error; dotted: BPTT. Mean of {seeds}, each a mean over "
        f"{batches} batches of {sizes}, with its 95 % interval. The table has all networks."
        f"{figures.others_of(rules_of(*shown))}",
    )


FIGURES = {"gradient_similarity": figures.Plot(COSINE_COLUMNS, partial(agreement_rows, "cosine"), draw_over_training)}
TABLES = {
    "gradient_similarity_terms": figures.Plot(TERM_COLUMNS, term_rows),
    "gradient_similarity_norms": figures.Plot(NORM_COLUMNS, partial(agreement_rows, "norm_ratio")),
    "gradient_similarity_noise": figures.Plot(NOISE_COLUMNS, noise_rows),
}
