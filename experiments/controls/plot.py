"""Draw what SLTT reaches beside BPTT under two optimizers, and what rules reach with the traces or signals of other samples."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables
from slax_rules import RULES

Results = dict[str, dict[tuple[str, str, str], dict[str, Any]]]  # by task, then by optimizer, rule and variant

COLUMNS = ["task", "optimizer", "rule", "variant", "learning_rate", *tables.OF_SEEDS]
WITHOUT = "without_traces"
FREE = {  # the rows of the first figure, by rules, of which a task has one, and variant
    "BPTT": (("bptt",), "itself"),
    "traces": (("otpe", "e_prop"), "itself"),
    "SLTT": (("sltt",), "itself"),
    "SLTT, read-out exact": ((WITHOUT,), "itself"),
    "the same, each step": ((WITHOUT,), "each_step"),
}
LEVELS = [
    {"linestyle": line, "color": "0.45", "label": label}
    for line, label in (("--", "hidden layers fixed"), (":", "BPTT"))
]
LOOKS = {  # of the optimizers, from above
    "adam": {"marker": "o", "color": "#0072B2"},
    "rmsprop": {"marker": "s", "color": "#D55E00", "markerfacecolor": "white"},
}
SHUFFLED = [WITHOUT, "ottt", "ostl", "approximate_otpe", "otpe"]
VARIANTS = {
    "itself": {"marker": "o", "color": "#4D4D4D", "label": "itself"},
    "traces": {"marker": "v", "color": "#0072B2", "label": "another sample's traces"},
    "signals": {"marker": "X", "color": "#D55E00", "label": "another sample's signals"},
}


def prepare(results: list[dict[str, Any]]) -> Results:
    found: Results = {}
    for result in results:
        config = result["config"]
        found.setdefault(config["task"], {})[config["optimizer"], config["rule"], config["variant"]] = result
    return found


def mean_of(of: dict[tuple[str, str, str], dict[str, Any]], rule: str) -> float | None:
    """The mean accuracy under a rule by Adam, in percent; None if it was not trained."""
    result = of.get(("adam", rule, "itself"))
    return float(np.mean(tables.accuracies(result, 100))) if result else None


def chosen(of: dict[tuple[str, str, str], dict[str, Any]], optimizers: Any, rules: Any, variants: Any) -> Any:
    """The results of a task with one of these optimizers, rules and variants, by all three."""
    return {
        key: result for key, result in of.items() if key[0] in optimizers and key[1] in rules and key[2] in variants
    }


def free(results: Results) -> Results:
    """What the first figure shows, of tasks that RMSprop has trained, too."""
    rules = [rule for of_rules, _ in FREE.values() for rule in of_rules]
    found = {task: chosen(of, LOOKS, rules, ("itself", "each_step")) for task, of in results.items()}
    return {task: of for task, of in found.items() if any(key[0] == "rmsprop" for key in of)}


def shuffled(results: Results) -> Results:
    """What the second figure shows, of tasks with exchanged factors."""
    found = {task: chosen(of, ["adam"], ["bptt", "fixed", *SHUFFLED], VARIANTS) for task, of in results.items()}
    return {task: of for task, of in found.items() if any(key[2] in ("traces", "signals") for key in of)}


def rows(results: Results) -> Iterator[list[Any]]:
    for task, of in results.items():
        for key, result in of.items():
            rate = result["trials"]["chosen"]["learning_rate"]
            yield [task, *key, rate, *tables.of_seeds(tables.accuracies(result), statistics.SHARE)]


def draw_mark(ax: Axes, row: float, result: dict[str, Any], look: dict[str, Any]) -> None:
    """Draw the mean of a result with its interval, and its seeds as dots below it."""
    look = {"scale": 100, "markersize": 4.5, "elinewidth": 1.2} | look
    figures.draw_seeds(ax, row, tables.accuracies(result), statistics.SHARE, 0.1, 2, **look)


def draw_free(results: Results) -> Figure:
    """Draw a panel for each task, with a row for each rule and a mark for each optimizer."""
    shown = free(results)
    figure, axes = figures.grid(len(shown), 3, 1.45, 0.75, sharey=True)
    for ax, of in zip(axes, shown.values(), strict=True):
        figures.name_rows(ax, list(FREE), striped=True)
        for row, (rules, variant) in enumerate(FREE.values()):
            for (optimizer, *_), result in chosen(of, LOOKS, rules, (variant,)).items():
                draw_mark(ax, row + (-0.2 if optimizer == "adam" else 0.15), result, LOOKS[optimizer])
        figures.draw_levels(ax, chance=100 / tables.config_of(of)["layers"][-1], upright=True)
        ax.set(xlim=(0, 102), xlabel=names.TEST_ACCURACY)
    configs = [tables.config_of(of) for of in shown.values()]
    figures.name_panels(axes, map(names.title_of, configs))
    looks = [look | {"label": names.OPTIMIZERS[name], "linestyle": ""} for name, look in LOOKS.items()]
    figures.legend_of(figure, looks, 2)
    return figures.with_note(
        figure,
        f"{names.means_of(configs)}; dots: seeds; dashed: chance. Traces: e-prop in a recurrent layer, OTPE elsewhere. "
        "Read-out exact: SLTT in hidden layers alone. Each step: an update in each step that counts.",
    )


def draw_shuffled(results: Results) -> Figure:
    """Draw a panel for each task, with a row for each rule and a mark for each variant."""
    shown = shuffled(results)
    listed = [rule for rule in SHUFFLED if any(rule == key[1] for of in shown.values() for key in of)]
    figure, axes = figures.grid(len(shown), 2, 0.4 * len(listed) + 0.3, 0.75, sharey=True)
    for ax, of in zip(axes, shown.values(), strict=True):
        titles = ["no traces" if rule == WITHOUT else RULES[rule].title for rule in listed]
        figures.name_rows(ax, titles, striped=True)
        for (_, rule, variant), result in of.items():
            if rule in listed:
                row = listed.index(rule) + 0.25 * (list(VARIANTS).index(variant) - 1)
                draw_mark(ax, row, result, VARIANTS[variant])
        fixed, bptt = (mean_of(of, rule) for rule in ("fixed", "bptt"))
        figures.draw_levels(ax, chance=fixed, ceiling=bptt, upright=True)
        ax.set(xlim=(0, 102), xlabel=names.TEST_ACCURACY)
    configs = [tables.config_of(of) for of in shown.values()]
    figures.name_panels(axes, map(names.title_of, configs))
    figures.legend_of(figure, [*({"linestyle": ""} | look for look in VARIANTS.values()), *LEVELS], 5)
    return figures.with_note(
        figure,
        f"{names.means_of(configs)}; dots: seeds. Traces or signals are exchanged in hidden layers alone, whose "
        "weights stay as drawn where they are fixed.",
    )


FIGURES = {
    "controls_rmsprop": figures.Plot(COLUMNS, lambda results: rows(free(results)), draw_free),
    "controls_shuffled": figures.Plot(COLUMNS, lambda results: rows(shuffled(results)), draw_shuffled),
}
