"""Draw the accuracy of each rule against the agreement of its gradient with BPTT."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures, length_curves, names, ranks, statistics, tables
from slax_rules import DECOLLE, OPZO, RULES
from slax_rules.rules.routes import FixedBases

BOUNDS = {
    **dict.fromkeys(("accuracy", "spikes"), statistics.SHARE),
    **dict.fromkeys(("cosine", "hidden_cosine"), statistics.COSINE),
    "norm_ratio": statistics.POSITIVE,
}
EXACT = 1 - 1e-5  # the cosine of a gradient that is BPTT's
RANKED = ("initial", "offline")  # the stages of weights at which rules are ranked, with one update per sequence
FLOOR = ("forward_gradient", "node_perturbation")  # no error reaches hidden layers: noise alone
COLUMNS = ["task", "rule", "mode", "layer", "quantity", *tables.OF_TESTS]


class Data(NamedTuple):
    """The results by task and rule, and the costs of the tasks that have some."""

    tasks: tables.Results
    costs: list[dict[str, Any]]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results without the costs, and the costs."""
    costs = [result for result in results if "rules" in result]
    return Data(tables.by_task_and_rule(result for result in results if "rules" not in result), costs)


def stages_of(result: dict[str, Any]) -> list[str]:
    return [mode for mode in ("initial", "offline", "online") if mode in result["seeds"][0]]


def seeds_of(result: dict[str, Any], mode: str) -> list[dict[str, Any]]:
    return [seed[mode] for seed in result["seeds"]]


def tested(result: dict[str, Any], mode: str) -> np.ndarray:
    """The test accuracy by seed and test sample, see `tables.tested`."""
    return tables.tested(result["config"]["task"], seeds_of(result, mode))


def quantities(result: dict[str, Any], mode: str) -> dict[tuple[str, str], Any]:
    """The numbers of all seeds by layer and quantity, None for a seed that lacks it (a gradient that is zero has no cosine)."""
    stages = seeds_of(result, mode)
    found: dict[tuple[str, str], Any] = {("", "accuracy"): tested(result, mode)}
    found |= {(layer, "spikes"): [stage["spikes"][layer] for stage in stages] for layer in stages[0]["spikes"]}
    for layer, quantity in itertools.product(stages[0]["layers"], ("cosine", "norm_ratio")):
        found[layer, quantity] = [stage["layers"][layer][quantity] for stage in stages]
    found["", "hidden_cosine"] = [mean_cosine(stage) for stage in stages]
    return found


def mean_cosine(stage: dict[str, Any]) -> float | None:
    """The mean cosine over hidden layers, the last one being the read-out; None if one of the gradients is zero."""
    *hidden, _ = (layer["cosine"] for layer in stage["layers"].values())
    return None if None in hidden else float(np.mean(hidden))


def table_rows(data: Data) -> Iterator[list[Any]]:
    for task, rule, result in tables.each(data.tasks):
        for mode in stages_of(result):
            for (layer, quantity), numbers in quantities(result, mode).items():
                yield [task, rule, mode, layer, quantity, *tables.of_tests(numbers, BOUNDS[quantity])]


def cost_rows(data: Data) -> Iterator[list[Any]]:
    for cost in data.costs:
        for rule, numbers in cost["rules"].items():
            yield [cost["config"]["task"], rule, *tables.of_cost(numbers, cost["rules"]["bptt"])]


def draw(data: Data) -> Figure:
    """Draw a column for each task: above, how far each rule is from BPTT, the most accurate one first; below, the same against
    the cosine of its gradient to BPTT's at the weights that it reaches itself."""
    reached = {task: {rule: modes_of(of) for rule, of in results.items()} for task, results in data.tasks.items()}
    gaps = [figures.gaps_of(of_task) for of_task in reached.values()]
    rules = sorted(tables.in_order(*gaps), key=lambda rule: -mean_gap([of[rule] for of in gaps if rule in of]))
    heights = [0.14 * len(rules) + 0.4, 1.6]
    figure, axes = figures.panels(2, len(reached), sum(heights) / 2, 0.8, height_ratios=heights, sharey="row")
    titles, below_titles = [], []
    for (above, below), (task, of_task), of_rules in zip(axes.T, reached.items(), gaps, strict=True):
        titles.append(f"{names.task_name(task)}\n{figures.plot_gaps(above, rules, of_task)}")
        below_titles.append(f"cosine and accuracy:\n{draw_cosine(below, data.tasks[task], of_rules)}")
    axes[1, 0].set_ylabel(axes[0, 0].get_xlabel())
    figures.name_panels(axes.flat, [*titles, *below_titles])
    figures.legend_of_modes(figure)
    trained = names.means_of(result["config"] for _, _, result in tables.each(data.tasks))
    return figures.with_note(
        figure,
        f"{trained}. Top: small dots are seeds; numbers are means beyond an end of the axis. Bottom: one update per sequence, "
        "in the colors of the rows; cosine in the mean over hidden layers, where the rule ends. The layers are in the table.",
    )


def modes_of(result: dict[str, Any]) -> dict[str, np.ndarray]:
    """The test accuracy in each update mode, by seed and test sample."""
    return {mode: tested(result, mode) for mode in stages_of(result)[1:]}


def mean_gap(tasks: list[Mapping[str, np.ndarray]]) -> float:
    """How far a rule is above BPTT in the mean over tasks and update modes."""
    return float(np.mean([of_mode.mean() for modes in tasks for of_mode in modes.values()]))


def feedback_of(rule: str) -> ranks.Feedback:
    """How the error reaches hidden layers; a rule without a route sends it back through the weights."""
    entry = RULES[rule]
    if entry.rule is DECOLLE or entry.route is FixedBases:
        return "none"
    return "other" if entry.route or entry.rule is OPZO else "symmetric"


def ranked(results: dict[str, dict[str, Any]]) -> dict[str, np.ndarray]:
    """By rule, the mean cosine over hidden layers at each of `RANKED`, and the accuracy, by seed [3, S]. Left out are rules
    that have no update per sequence, a gradient of zero, or that of BPTT, and noise without feedback."""
    found = {}
    for rule, result in results.items():
        if rule not in FLOOR and set(RANKED) <= result["seeds"][0].keys():
            cosines = np.array([[*map(mean_cosine, seeds_of(result, stage))] for stage in RANKED], float)
            if not np.isnan(cosines).any() and not (cosines > EXACT).all():
                found[rule] = np.array([*cosines, tested(result, RANKED[-1]).mean(axis=1)])
    return found


def rank_rows(data: Data) -> Iterator[list[Any]]:
    for task, results in data.tasks.items():
        sets = ranks.sets_of((feedback_of(rule), numbers) for rule, numbers in ranked(results).items())
        yield from ranks.rows([task], RANKED, sets)


def draw_cosine(ax: Axes, results: dict[str, dict[str, Any]], gaps: figures.Shares) -> str:
    """Draw a mark for each rule that is ranked, and return the rank correlation of those with feedback, in words."""
    found = ranked(results)
    for rule, numbers in found.items():
        look = figures.look_of(rule) | {"linestyle": "", "markersize": 4}
        ax.plot(numbers[1].mean(), 100 * gaps[rule][RANKED[1]].mean(), **look)
    ax.axhline(0, color="0.4", linewidth=0.8, zorder=0)
    ax.set(xlim=(-0.1, 1.1), ylim=(figures.LOWEST, figures.HIGHEST), xlabel=names.COSINE)
    sets = ranks.sets_of((feedback_of(rule), numbers) for rule, numbers in found.items())
    return f"rank correlation {ranks.correlation(sets['with_feedback'], 1):.2f}" if "with_feedback" in sets else ""


def lengths_of(data: Data) -> Iterator[length_curves.Curve]:
    """The curve of each task, way of updating and rule."""
    return length_curves.of_modes(data.tasks, lambda of: {mode: seeds_of(of, mode) for mode in stages_of(of)[1:]})


FIGURES = {"rules_table": figures.Plot(COLUMNS, table_rows, draw)}
TABLES = {
    "rules_table_cost": figures.Plot(["task", "rule", *tables.OF_COST], cost_rows),
    "rules_table_ranks": figures.Plot(["task", "rules", *ranks.COLUMNS], rank_rows),
    "rules_table_lengths": length_curves.table(["task", "mode", "rule"], lengths_of),
}
