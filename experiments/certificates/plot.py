"""Draw the cosine of each rule against its memory and its time, and the bound of sketched RTRL beside its error."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures, names, tables
from experiments.drawing.statistics import COSINE, POSITIVE, interval

NAMED = ("bptt", "rtrl", "snap", "sketched_rtrl", "kf_rtrl", "uoro", "ostl", "e_prop", "otpe", "ottt", "sltt")
NAMED += ("forward_gradient", "node_perturbation", "opzo", "rflo")
DRAWN = "trained"
COLUMNS = ["stage", "rule", *tables.summary_columns("cosine", "norm_ratio"), "seeds"]
BOUND_COLUMNS = ["stage", "rank", *tables.summary_columns("error", "bound", "cosine", "least_cosine"), "seeds"]


class Data(NamedTuple):
    """The settings, the stages of all seeds by name, and the costs by rule."""

    config: dict[str, Any]
    stages: dict[str, list[dict[str, Any]]]
    costs: dict[str, dict[str, Any]]


def prepare(results: list[dict[str, Any]]) -> Data:
    (found,) = (result for result in results if "seeds" in result)
    costs = next((result["costs"] for result in results if "costs" in result), {})
    at = {"trained" if step else "initial": str(step) for step in found["config"]["measure_at"]}
    stages = {name: [seed["stages"][step] for seed in found["seeds"]] for name, step in at.items()}
    return Data(found["config"], stages, costs)


def of_rule(seeds: list[dict[str, Any]], rule: str, quantity: str) -> list[float | None]:
    """The numbers of all seeds, None where the gradient is zero."""
    return [None if seed["rules"][rule] is None else seed["rules"][rule][quantity] for seed in seeds]


def rows(data: Data) -> Iterator[list[Any]]:
    for stage, seeds in data.stages.items():
        for rule in tables.in_order(seeds[0]["rules"]):
            cosine, ratio = (of_rule(seeds, rule, quantity) for quantity in ("cosine", "norm_ratio"))
            yield [stage, rule, *tables.summary(cosine, COSINE), *tables.summary(ratio, POSITIVE), len(seeds)]


def bound_rows(data: Data) -> Iterator[list[Any]]:
    bounds = {"error": POSITIVE, "bound": POSITIVE, "cosine": COSINE, "least_cosine": COSINE}
    for stage, seeds in data.stages.items():
        for rank in seeds[0]["ranks"]:
            numbers = (tables.summary([seed["ranks"][rank][name] for seed in seeds], of) for name, of in bounds.items())
            yield [stage, rank, *(cell for cells in numbers for cell in cells), len(seeds)]


def cost_rows(data: Data) -> Iterator[list[Any]]:
    for rule in tables.in_order(data.costs):
        yield [rule, *tables.of_cost(data.costs[rule], data.costs["bptt"])]


def draw(data: Data) -> Figure:
    figure, (axes,) = figures.panels(1, 3, 2.5, 0.7)
    seeds, samples = data.stages[DRAWN], data.config["batch_size"]
    of_memory = {rule: cost["temporary_bytes"] / samples / 1e3 for rule, cost in data.costs.items()}
    of_time = {rule: interval(cost["milliseconds"], POSITIVE)[0] for rule, cost in data.costs.items()}
    cosines = {rule: interval(of_rule(seeds, rule, "cosine"), COSINE)[0] for rule in seeds[0]["rules"]}
    for ax, costs, label in zip(axes, (of_memory, of_time), ("memory (kB per sample)", "time (ms)"), strict=False):
        draw_costs(ax, costs, cosines)
        ax.set_xlabel(label)
    axes[0].set_ylabel(names.COSINE)
    draw_bounds(axes[2], seeds)
    figures.label_lines([axes[1]])
    figures.name_panels(axes, ["How wrong, at what memory", "at what time", "Sketched RTRL's own bound"])
    trained = f"{len(seeds)} seeds after {data.config['measure_at'][-1]} batches under BPTT"
    return figures.with_note(
        figure,
        f"{names.title_of(data.config)}; {trained}. Costs: a gradient in windows of five steps; gray: others, in the table. "
        "Right: of all parameters; above the dashed line the bound says nothing.",
    )


def draw_costs(ax: Axes, costs: dict[str, float], cosines: dict[str, float | None]) -> None:
    """A mark for each rule, in gray where it has no name."""
    for rule in tables.in_order(costs.keys() & cosines.keys()):
        if cosines[rule] is None:
            continue
        look = figures.look_of(rule) if rule in NAMED else {"color": "0.8", "marker": ".", "label": "_"}
        ax.plot(costs[rule], cosines[rule], linestyle="", zorder=3 if rule in NAMED else 2, **look)
    figures.log_axis(ax)
    ax.set_ylim(-0.25, 1.05)


def draw_bounds(ax: Axes, seeds: list[dict[str, Any]]) -> None:
    """The bound and the error against the rank, in the mean over seeds and for each of them."""
    ranks = [*seeds[0]["ranks"]]
    for name, color, label in (("bound", "#D55E00", "its bound"), ("error", "#5B4FA3", "error")):
        of_ranks = [[seed["ranks"][rank][name] for seed in seeds] for rank in ranks]
        ax.plot(range(len(ranks)), [sum(of) / len(of) for of in of_ranks], color=color, marker="o", label=label)
        for place, of in enumerate(of_ranks):
            ax.plot([place] * len(of), of, ".", color=color, markersize=3, alpha=0.6)
    ax.set_yscale("log")
    ax.axhline(1, color="0.45", linestyle="--", linewidth=0.9)
    ax.set_xticks(range(len(ranks)), ranks)
    ax.set(xlabel="rank", ylabel="divided by the exact gradient")
    ax.legend()


FIGURES = {"certificates": figures.Plot(COLUMNS, rows, draw)}
TABLES = {
    "certificates_bounds": figures.Plot(BOUND_COLUMNS, bound_rows),
    "certificates_cost": figures.Plot(["rule", *tables.OF_COST], cost_rows),
}
