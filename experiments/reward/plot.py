"""Draw the return at the end of training against the length of the chain, and learning curves at one length."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.drawing import figures, names, tables
from slax_rules import RULES

COLUMNS = ["task", "rule", "quantity", *tables.OF_SEEDS]
BOUNDS = (-1.0, 1.0)
RULES_DRAWN = ("bptt", "tbptt", "rtrl", "ostl", "e_prop", "ottt", "sltt")
TITLES = {"bptt": "BPTT, whole episodes"}

prepare = tables.by_task_and_rule


def curve(result: dict[str, Any]) -> dict[float, list[float]]:
    """The returns of the seeds by the environment steps, in thousands, at the end of each part of the training."""
    steps = result["steps"] / 1000
    return {steps * (part + 1): list(of) for part, of in enumerate(zip(*result["returns"], strict=True))}


def quantities(result: dict[str, Any]) -> dict[str, list[float]]:
    """For each seed, the return in the last part, and the mean over all parts, which is high if learning is fast."""
    returns = np.array(result["returns"])
    return {"return": returns[:, -1].tolist(), "mean_return": returns.mean(axis=1).tolist()}


def rows(tasks: tables.Results) -> Iterator[list[Any]]:
    for task, rule, result in tables.each(tasks):
        for quantity, numbers in quantities(result).items():
            yield [task, rule, quantity, *tables.of_seeds(numbers, BOUNDS)]


def draw(tasks: tables.Results) -> Figure:
    figure, ((ends, curves),) = figures.panels(1, 2, 2.4, 0.5, sharey=True)
    chains = {tables.config_of(rules)["size"]: rules for task, rules in tasks.items() if task in names.CHAINS}
    lengths = sorted(chains)
    middle = chains[lengths[len(lengths) // 2]]
    rules = [rule for rule in RULES if rule in RULES_DRAWN and rule in middle]
    of_rules = {
        rule: {length: quantities(chains[length][rule])["return"] for length in lengths if rule in chains[length]}
        for rule in rules
    }
    figures.draw_lines(ends, of_rules, BOUNDS, titles=TITLES, rules=rules)
    figures.draw_lines(curves, {rule: curve(middle[rule]) for rule in rules}, BOUNDS, titles=TITLES, rules=rules)
    ends.set_xscale("log", base=2)
    ends.set_xticks(lengths, map(str, lengths))
    ends.xaxis.set_minor_locator(NullLocator())
    ends.set(xlabel="steps for which a bit is remembered", ylabel="return", ylim=(-0.3, 1.03))
    curves.set(xlabel="environment steps (thousands)", xlim=(0, None))
    config = tables.config_of(middle)
    for ax in (ends, curves):
        figures.draw_levels(ax, chance=0)
    figures.name_panels([ends, curves], ["at the end of training", f"on the way, {config['size']} steps"])
    figures.label_lines([ends, curves])
    return figures.with_note(
        figure,
        f"MemoryChain: a bit at the beginning, a reward of 1 or -1 at the end; dashed: chance. {config['hidden']} recurrent "
        f"LIF, {config['samples']} environments at a time, updates every {config['online_window']} steps, and under BPTT after "
        f"each episode. Mean of {names.seeds_of([config])} with 95 % intervals.",
    )


FIGURES = {"reward": figures.Plot(COLUMNS, rows, draw)}
