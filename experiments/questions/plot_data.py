"""The results of the questions by task, optimizer and way to learn, and what their figures have in common."""

from collections.abc import Collection
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from experiments.drawing import figures, names, tables
from slax_rules import RULES

VARIANTS_OF = {"bptt": ["short_bptt", "bptt_otpe_lengths"], "otpe": ["otpe_bptt_lengths"]}

Ways = dict[str, dict[str, Any]]  # results by way to learn


class Data(NamedTuple):
    """The results of trainings by task and optimizer, and by task what memory longer sequences need, and what gradients cost;
    tasks are in the order of the jobs."""

    tasks: dict[str, dict[str, Ways]]
    growth: dict[str, dict[str, Any]]
    costs: dict[str, Ways]


def prepare(results: list[dict[str, Any]]) -> Data:
    found: dict[str, dict[str, Ways]] = {}
    for result in (result for result in results if "seeds" in result):
        config = result["config"]
        found.setdefault(config["task"], {}).setdefault(config["optimizer"], {})[config["way"]] = result
    tasks = {task: {name: of[name] for name in names.OPTIMIZERS if name in of} for task, of in found.items()}
    growth, costs = (
        {result["config"]["task"]: result for result in results if kind in result} for kind in ("growth", "costs")
    )
    return Data(tasks, growth, {task: result["costs"] for task, result in costs.items()})


def rate_of(result: dict[str, Any]) -> float:
    """The chosen learning rate."""
    rate: float = result["trials"]["chosen"]["learning_rate"]
    return rate


def chance_of(ways: Ways) -> float:
    """The accuracy of guesses."""
    return 1 / tables.config_of(ways)["layers"][-1]


def title_of_way(way: str) -> str:
    _, _, steps = way.partition("tbptt_")
    return f"TBPTT({steps})" if steps else names.WAYS.get(way) or RULES[way].title


def in_order(ways: Collection[str]) -> list[str]:
    """Ways to learn, rules in the order of their table, each before its variants."""
    order = [name for rule in RULES for name in (rule, *VARIANTS_OF.get(rule, []))]
    return [way for way in order if way in ways]


def draw_rows(ax: Axes, rows: list[tuple[str, str, Any]], ways: Ways) -> None:
    """Draw a row for each way: its key, its name, and its accuracies in percent."""
    figures.plot_seed_intervals(ax, rows, (0.0, 100.0))
    figures.draw_levels(ax, chance=100 * chance_of(ways), upright=True)
    ax.set(xlim=(0, 102), xlabel=names.TEST_ACCURACY)
