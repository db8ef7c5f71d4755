"""Draw loss surfaces with the paths of the rules."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from experiments.drawing import figures, names, statistics, tables
from experiments.drawing.styles import STYLES
from experiments.landscapes.plot_walks import explained_by_walks, lengths_of
from slax_rules import RULES
from slax_viz import plot_landscape

COLUMNS = ["task", "plane", "rule", "quantity", "training_steps", *tables.OF_SEEDS]
SHOWN = "nearest"  # the plane that is drawn; the other one differs little from it


class Task(NamedTuple):
    """The training results of a task by rule, and the results on its surfaces with their arrays."""

    name: str
    config: dict[str, Any]
    trained: dict[str, dict[str, Any]]
    seeds: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]

    @property
    def rules(self) -> dict[str, str]:
        """The name of each rule in the figure, in the order of the table of rules."""
        modes = self.config["rules"]
        return {rule: RULES[rule].title + (" online" if modes[rule] == "online" else "") for rule in self.trained}

    @property
    def training_steps(self) -> list[int]:
        return [i * self.config["checkpoint_every"] for i in range(self.config["checkpoints"] + 1)]

    @property
    def setting(self) -> str:
        steps = f"T = {self.config['n_steps']}, {self.training_steps[-1]:,} batches"
        return f"{names.task_name(self.name)}: {names.network(self.config)}, {steps}"

    def path(self, plane: str, rule: str) -> np.ndarray:
        """The path of a rule on a plane, [checkpoints, 3]: two coordinates and the loss there."""
        return np.column_stack([self.arrays[f"{plane}/{rule}/{name}"] for name in ("at", "losses")])


def prepare(results: list[dict[str, Any]]) -> list[Task]:
    """The training runs of each task with its surfaces."""
    surfaces = {result["config"]["task"]: result for result in results if "planes" in result["config"]}
    trained = tables.by_task_and_rule(result for result in results if "planes" not in result["config"])
    return [
        Task(name, made["config"], trained[name], made["seeds"], made["arrays"])
        for name, made in sorted(surfaces.items())
    ]


def rows(tasks: list[Task]) -> Iterator[list[Any]]:
    return itertools.chain.from_iterable(map(rows_of_task, tasks))


def rows_of_task(task: Task) -> Iterator[list[Any]]:
    explained = np.array([seed["explained"] for seed in task.seeds])
    shares = {"explained_1": explained[:, 0], "explained_2": explained[:, 1], "explained_both": explained.sum(axis=1)}
    found: list[tuple[list[Any], list[float], statistics.Bounds]] = []
    for quantity, numbers in shares.items():
        of_planes = [("", numbers), *((plane, numbers[:1]) for plane in task.config["planes"])]
        found += [([plane, "", quantity, ""], of.tolist(), statistics.SHARE) for plane, of in of_planes]
    found += [(["", "", quantity, ""], numbers, statistics.SHARE) for quantity, numbers in by_walks(task).items()]
    for rule, (i, step) in itertools.product(task.rules, enumerate(task.training_steps)):
        seeds = task.trained[rule]["seeds"]
        found += [
            (["", rule, "loss", step], [seed["loss"][i] for seed in seeds], statistics.POSITIVE),
            (["", rule, "accuracy", step], [seed["accuracy"][i] for seed in seeds], statistics.SHARE),
            (["", rule, "from_start", step], [of["from_start"][rule][i] for of in task.seeds], statistics.POSITIVE),
        ]
        for plane in task.config["planes"]:
            on_plane = zip(("x", "y", "loss_on_plane"), task.path(plane, rule)[i].tolist(), strict=True)
            found += [([plane, rule, quantity, step], [number], statistics.ANY) for quantity, number in on_plane]
    return ([task.name, *start, *tables.of_seeds(numbers, bounds)] for start, numbers, bounds in found)


def by_walks(task: Task) -> dict[str, list[float]]:
    """What the first direction, and both, would explain in random walks with the rules' step lengths: for each seed the mean of
    all walks, and the ends of the interval that has 95 % of them."""
    arrays = [result["arrays"] for result in task.trained.values()]
    dimensions = sum(of[0, 0].size for of in arrays[0].values())
    lengths = np.stack([lengths_of(of) for of in arrays], axis=1)  # [seeds, rules, steps]
    walks = np.stack([explained_by_walks(list(of), dimensions, seed) for seed, of in enumerate(lengths)])
    found = {}
    for name, shares in {"1": walks[:, :, 0], "both": walks.sum(axis=2)}.items():
        low, high = np.quantile(shares, (0.025, 0.975), axis=1).tolist()
        found |= {f"walks_{name}": shares.mean(axis=1).tolist(), f"walks_low_{name}": low, f"walks_high_{name}": high}
    return found


def draw(tasks: list[Task]) -> Figure:
    """Draw a panel for each task, its plane with the paths of the rules, with one legend of all paths."""
    figure, axes = figures.panels(1, len(tasks), 2.8, 0.6)
    colors: dict[str, str] = {}
    for ax, task in zip(axes[0], tasks, strict=True):
        surface: dict[str, Any] = {name: task.arrays[f"{SHOWN}/{name}"] for name in ("losses", "xs", "ys")}
        paths = {title: task.path(SHOWN, rule)[:, :2] for rule, title in task.rules.items()}
        colors |= {title: STYLES[rule].color for rule, title in task.rules.items()}
        look = {"explained": task.seeds[0]["explained"], "label": names.LOSS, "colors": colors, "legend": False}
        plot_landscape(ax, **surface, trajectories=paths, **look)
    one_scale(figure, axes[0])
    figures.name_panels(axes[0], (names.task_name(task.name) for task in tasks))
    looks: list[dict[str, Any]] = [{"color": color, "linewidth": 2, "label": title} for title, color in colors.items()]
    ends = {"linestyle": "", "marker": "o", "color": "black"}
    looks += [ends | {"label": "start", "markerfacecolor": "white"}, ends | {"label": "end"}]
    figures.legend_of(figure, looks, len(looks))
    settings = "; ".join(task.setting for task in tasks)
    return figures.with_note(figure, f"The plane nearest to all checkpoints. Randman, first seed; {settings}.")


def one_scale(figure: Figure, axes: Sequence[Axes]) -> None:
    """Color the surfaces of all panels by one scale, and put one color bar in place of theirs."""
    surfaces = [ax.collections[0] for ax in axes]
    scale = Normalize(min(s.get_clim()[0] for s in surfaces), max(s.get_clim()[1] for s in surfaces))
    for surface in surfaces:
        surface.colorbar.remove()
        surface.set_norm(scale)
    bar = {"label": names.LOSS, "aspect": 40, "pad": 0.01, "fraction": 0.03}
    figure.colorbar(ScalarMappable(scale, surfaces[0].cmap), ax=axes, **bar)


FIGURES = {"landscapes": figures.Plot(COLUMNS, rows, draw)}
