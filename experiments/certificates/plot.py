"""Draw the cosine of each rule against its memory and its time, with the cosines that sketched RTRL guarantees."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures, names, tables
from experiments.drawing.statistics import COSINE, POSITIVE, interval
from experiments.drawing.styles import STYLES

NAMED = ("bptt", "rtrl", "snap", "kf_rtrl", "uoro", "ostl", "e_prop", "otpe", "ottt", "sltt")
NAMED += ("forward_gradient", "node_perturbation", "opzo", "rflo")
DRAWN, SKETCH = "trained", "sketched_rtrl"
COLUMNS = ["stage", "rule", *tables.summary_columns("cosine"), "seeds"]
BOUND_COLUMNS = ["stage", "rank", *tables.summary_columns("error", "bound", "cosine", "least_cosine"), "seeds"]


class Data(NamedTuple):
    """The settings, the stages of all seeds by name, the costs of rules, ranks, and ranks with bounds, and their window."""

    config: dict[str, Any]
    stages: dict[str, list[dict[str, Any]]]
    costs: dict[str, dict[str, Any]]
    window: int | None


def prepare(results: list[dict[str, Any]]) -> Data:
    (found,) = (result for result in results if "seeds" in result)
    none = {"costs": {"rules": {}, "ranks": {}, "bounds": {}}, "config": {"window": None}}
    measured = next((result for result in results if "costs" in result), none)
    at = {"trained" if step else "initial": str(step) for step in found["config"]["measure_at"]}
    stages = {name: [seed["stages"][step] for seed in found["seeds"]] for name, step in at.items()}
    return Data(found["config"], stages, measured["costs"], measured["config"]["window"])


def cosines_of(seeds: list[dict[str, Any]], rule: str) -> list[float | None]:
    """The cosines of all seeds, None where the gradient is zero."""
    return [seed["rules"][rule] for seed in seeds]


def rows(data: Data) -> Iterator[list[Any]]:
    for stage, seeds in data.stages.items():
        for rule in tables.in_order(seeds[0]["rules"]):
            yield [stage, rule, *tables.summary(cosines_of(seeds, rule), COSINE), len(seeds)]


def bound_rows(data: Data) -> Iterator[list[Any]]:
    bounds = {"error": POSITIVE, "bound": POSITIVE, "cosine": COSINE, "least_cosine": COSINE}
    for stage, seeds in data.stages.items():
        for rank in sorted(seeds[0]["ranks"], key=int):  # in JSON they are strings
            numbers = (tables.summary([seed["ranks"][rank][name] for seed in seeds], of) for name, of in bounds.items())
            yield [stage, rank, *(cell for cells in numbers for cell in cells), len(seeds)]


def cost_rows(data: Data) -> Iterator[list[Any]]:
    for rule in tables.in_order(data.costs["rules"]):
        yield [rule, *tables.of_cost(data.costs["rules"][rule], data.costs["rules"]["bptt"])]


def rank_cost_rows(data: Data) -> Iterator[list[Any]]:
    for kind, computes in (("ranks", "gradient"), ("bounds", "gradient and bound")):
        for rank in sorted(data.costs[kind], key=int):
            yield [rank, computes, *tables.of_cost(data.costs[kind][rank], data.costs["rules"]["bptt"])]


def draw(data: Data) -> Figure:
    figure, (axes,) = figures.panels(1, 2, 2.9, 0.7, sharey=True)
    units = {"temporary_bytes": 1e3 * data.config["batch_size"], "milliseconds": 1}  # kB for each sample
    for ax, (of, unit) in zip(axes, units.items(), strict=True):
        draw_costs(ax, data, lambda cost, of=of, unit=unit: float(np.mean(cost[of])) / unit)
    axes[0].set(xlabel="memory (kB per sample)", ylabel=names.COSINE, ylim=(-0.35, 1.05))
    axes[1].set_xlabel("time (ms)")
    figures.label_lines([axes[1]])
    figures.name_panels(axes, ["How wrong, at what memory", "at what time"])
    return figures.with_note(
        figure,
        f"{names.randman(data.config)}, recurrent; {len(data.stages[DRAWN])} seeds after {data.config['measure_at'][-1]} "
        f"batches under BPTT. Costs: a gradient in windows of {data.window} steps. Numbers: ranks of sketched RTRL; a rank "
        "without a guarantee is at the bottom. Gray: others, in the table.",
    )


def draw_costs(ax: Axes, data: Data, size: Callable[[dict[str, Any]], float]) -> None:
    """A mark for each rule, in gray where it has no name, and the lines of sketched RTRL over its ranks."""
    seeds, costs = data.stages[DRAWN], data.costs
    for rule in tables.in_order(costs["rules"].keys() & seeds[0]["rules"].keys()):
        mean = interval(cosines_of(seeds, rule), COSINE)[0]
        if mean is not None and rule != SKETCH:
            look = figures.look_of(rule) if rule in NAMED else {"color": "0.8", "marker": ".", "label": "_"}
            ax.plot(size(costs["rules"][rule]), mean, linestyle="", zorder=3 if rule in NAMED else 2, **look)
    color = STYLES[SKETCH].color
    for kind, quantity, line, label in (
        ("ranks", "cosine", "-", "sketched RTRL"),
        ("bounds", "least_cosine", "--", "its guarantee"),
    ):
        ranks = sorted(costs[kind], key=int)
        points = [(size(costs[kind][rank]), mean_of(seeds, rank, quantity)) for rank in ranks]
        ax.plot(*np.reshape(points, (-1, 2)).T, line, color=color, marker=".", label=label, zorder=4)
    for rank, point in zip(ranks, points, strict=True):
        figures.write_beside(ax, rank, point, (-2, -9), color=color)
    figures.log_axis(ax)


def mean_of(seeds: list[dict[str, Any]], rank: str, quantity: str) -> float:
    """The mean over seeds, drawn no lower than the axis."""
    return max(-0.25, float(np.mean([seed["ranks"][rank][quantity] for seed in seeds])))


FIGURES = {"certificates": figures.Plot(COLUMNS, rows, draw)}
TABLES = {
    "certificates_bounds": figures.Plot(BOUND_COLUMNS, bound_rows),
    "certificates_cost": figures.Plot(["rule", *tables.OF_COST], cost_rows),
    "certificates_rank_cost": figures.Plot(["rank", "computes", *tables.OF_COST], rank_cost_rows),
}
