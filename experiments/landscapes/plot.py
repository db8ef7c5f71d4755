"""Draw loss surfaces with the paths of the rules, surfaces around their solutions, and the loss between solutions."""

import itertools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.drawing import figures, names, statistics, tables
from experiments.drawing.styles import STYLES
from experiments.landscapes.plot_walks import explained_by_walks, lengths_of
from slax_rules import RULES
from slax_viz import plot_interpolation, plot_landscape, plot_landscape_3d

COLUMNS = ["task", "plane", "rule", "quantity", "training_steps", *tables.OF_SEEDS]
COLUMNS_3D = ["task", "plane", "rule", "training_steps", "x", "y", "loss"]
RANDOM_COLUMNS = ["task", "rule", "quantity", "x", "y", *tables.OF_SEEDS]
LINE_COLUMNS = ["task", "rule", "quantity", "t", *tables.OF_SEEDS]
PLANES = {"upstream": "through the end of {origin}", "nearest": "nearest to all checkpoints"}


class Task(NamedTuple):
    """The training results of a task by rule, the results on surfaces and lines, which start at `reference`, and the arrays."""

    name: str
    config: dict[str, Any]
    trained: dict[str, dict[str, Any]]
    reference: str
    seeds: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]

    @property
    def title(self) -> str:
        return names.task_name(self.name)

    @property
    def rules(self) -> dict[str, str]:
        """The name of each rule in the figure, in the order of the table of rules."""
        modes = self.config["rules"]
        return {rule: RULES[rule].title + (" online" if modes[rule] == "online" else "") for rule in self.trained}

    @property
    def others(self) -> dict[str, str]:
        """The rules at whose solutions lines end."""
        return {rule: title for rule, title in self.rules.items() if rule != self.reference}

    @property
    def training_steps(self) -> list[int]:
        return [i * self.config["checkpoint_every"] for i in range(self.config["checkpoints"] + 1)]

    @property
    def colors(self) -> dict[str, str]:
        return {title: STYLES[rule].color for rule, title in self.rules.items()}

    @property
    def setting(self) -> str:
        steps = f"T = {self.config['n_steps']}, {self.training_steps[-1]:,} batches"
        return f"{self.title}: {names.network(self.config)}, {steps}"

    def path(self, plane: str, rule: str) -> np.ndarray:
        """The path of a rule on a plane, [checkpoints, 3]: two coordinates and the loss there."""
        return np.column_stack([self.arrays[f"{plane}/{rule}/{name}"] for name in ("at", "losses")])


def prepare(results: list[dict[str, Any]]) -> list[Task]:
    """The training runs of each task with its surfaces."""
    surfaces = {result["config"]["task"]: result for result in results if "reference" in result}
    trained = tables.by_task_and_rule(result for result in results if "reference" not in result)
    if surfaces.keys() != trained.keys():
        trainings = f"trainings of {', '.join(trained)} and surfaces of {', '.join(surfaces)}"
        raise SystemExit(f"Got {trainings}, expected the same.")
    return [
        Task(name, made["config"], trained[name], made["reference"], made["seeds"], made["arrays"])
        for name, made in sorted(surfaces.items())
    ]


def path_rows(task: Task) -> Iterator[list[Any]]:
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


def surface_rows(task: Task) -> Iterator[list[Any]]:
    for plane in task.config["planes"]:
        xs, ys, losses = (task.arrays[f"{plane}/{name}"] for name in ("xs", "ys", "losses"))
        for (j, y), (i, x) in itertools.product(enumerate(ys), enumerate(xs)):
            yield [task.name, plane, "", "", float(x), float(y), float(losses[j, i])]
        for rule in task.rules:
            for step, point in zip(task.training_steps, task.path(plane, rule).tolist(), strict=True):
                yield [task.name, plane, rule, step, *point]


def random_rows(task: Task) -> Iterator[list[Any]]:
    steps = task.arrays["steps"].tolist()
    for rule in task.rules if task.config["random_planes"] else ():
        rises = [seed["rise"][rule] for seed in task.seeds]
        yield [task.name, rule, "rise", "", "", *tables.of_seeds(rises, statistics.ANY)]
        for (j, y), (i, x) in itertools.product(enumerate(steps), enumerate(steps)):
            losses = task.arrays[f"random/{rule}"][:, j, i].tolist()
            for quantity, numbers in (("loss_of_first_seed", losses[:1]), ("loss", losses)):
                yield [task.name, rule, quantity, x, y, *tables.of_seeds(numbers, statistics.POSITIVE)]


def line_rows(task: Task) -> Iterator[list[Any]]:
    for rule in task.others:
        numbers = {(name, ""): [seed[name][rule] for seed in task.seeds] for name in ("distance", "barrier")}
        losses = task.arrays[f"line/{rule}"].T.tolist()
        numbers |= {("loss", t): of_seeds for t, of_seeds in zip(task.arrays["ts"].tolist(), losses, strict=True)}
        for where, of_seeds in numbers.items():
            yield [task.name, rule, *where, *tables.of_seeds(of_seeds, statistics.POSITIVE)]


def draw_planes(dimensions: int, tasks: list[Task]) -> Figure:
    """Draw a panel for each task and plane, seen from above or in space, with one legend of all paths."""
    planes = [(task, plane) for task in tasks for plane in task.config["planes"]]
    in_space = {"subplot_kw": {"projection": "3d"}} if dimensions == 3 else {}
    figure, axes = figures.panels(1, len(planes), 2.5 if in_space else 2.35, 0.6, **in_space)
    titles, colors = [], {}
    for ax, (task, plane) in zip(axes[0], planes, strict=True):
        arrays: dict[str, Any] = {name: task.arrays[f"{plane}/{name}"] for name in ("losses", "xs", "ys")}
        paths = {title: task.path(plane, rule)[:, :dimensions] for rule, title in task.rules.items()}
        look = {"explained": task.seeds[0]["explained"], "label": names.LOSS, "colors": task.colors, "legend": False}
        (plot_landscape_3d if in_space else plot_landscape)(ax, **arrays, trajectories=paths, **look)
        if in_space:
            name_axes_in_space(ax)
        else:
            ax.set_xlabel(ax.get_xlabel().replace(" (explains", "\n(explains"))
        origin = task.rules.get(task.config.get("origin"), "")
        titles.append(f"{textwrap.fill(task.title, 30)}\nplane {PLANES[plane].format(origin=origin)}")
        colors |= task.colors
    if not in_space:
        one_scale(figure, axes[0])
    figures.name_panels(axes[0], titles)
    looks: list[dict[str, Any]] = [{"color": color, "linewidth": 2, "label": title} for title, color in colors.items()]
    ends = {"linestyle": "", "marker": "o", "color": "black"}
    looks += [ends | {"label": "start", "markerfacecolor": "white"}, ends | {"label": "end"}]
    figures.legend_of(figure, looks, len(looks))
    settings = "; ".join(dict.fromkeys(task.setting for task, _ in planes))
    height = " Height: the test loss (nats)." if in_space else ""
    return figures.with_note(figure, f"Randman, first seed; {settings}.{height}")


def name_axes_in_space(ax: Any) -> None:
    ax.view_init(elev=35, azim=-60)
    for axis, name in ((ax.xaxis, "direction 1"), (ax.yaxis, "direction 2"), (ax.zaxis, "")):
        axis.set_major_locator(MaxNLocator(4))  # labels along an axis in space are close to each other
        axis.set_label_text(name)
        axis.labelpad = 0
    ax.set_box_aspect((4, 4, 3), zoom=0.85)


def one_scale(figure: Figure, axes: Sequence[Axes]) -> None:
    """Color the surfaces of all panels by one scale, and put one color bar in place of theirs."""
    surfaces = [ax.collections[0] for ax in axes]
    scale = Normalize(min(s.get_clim()[0] for s in surfaces), max(s.get_clim()[1] for s in surfaces))
    for ax, surface in zip(axes, surfaces, strict=True):
        for line in ax.get_lines():
            line.set_markersize(0.6 * line.get_markersize())  # for panels of a third of a column
        surface.colorbar.remove()
        surface.set_norm(scale)
    bar = {"label": names.LOSS, "aspect": 40, "pad": 0.01, "fraction": 0.03}
    figure.colorbar(ScalarMappable(scale, surfaces[0].cmap), ax=axes, **bar)


def draw_random(tasks: list[Task]) -> Figure:
    """Draw two rows for each task that has random planes: the first seed's surface for each rule, then the mean rise over all
    seeds."""
    tasks = [task for task in tasks if task.config["random_planes"]]
    columns = max(-(-(len(task.rules) + 1) // 2) for task in tasks)
    figure, axes = figures.panels(2 * len(tasks), columns, 2.1, 0.4)
    surfaces, titles = [], {}
    for task, own in zip(tasks, axes.reshape(len(tasks), -1), strict=True):
        steps = task.arrays["steps"]
        for ax, (rule, title) in zip(own, task.rules.items(), strict=False):
            plot_landscape(ax, task.arrays[f"random/{rule}"][0], xs=steps, ys=steps, label=names.LOSS, legend=False)
            look = STYLES[rule]
            ax.plot(0, 0, look.marker, color=look.color, markeredgecolor="black", markersize=9, zorder=4)
            surfaces.append(ax)
            titles[ax] = f"around the end of {title}"
        last, *empty = own[len(task.rules) :]
        for ax in empty:
            ax.remove()
        rises = [(rule, title, [seed["rise"][rule] for seed in task.seeds]) for rule, title in task.rules.items()]
        figures.plot_seed_intervals(last, rises, statistics.ANY)
        last.set_xlabel("rise on such a plane (nats)")
        titles[last] = "mean rise of the loss"
    one_scale(figure, surfaces)
    figures.name_panels(titles, titles.values())
    return figures.with_note(
        figure,
        "Filter-normalized directions: a step of 1 is as long as the weights of each unit; "
        f"{'; '.join(task.setting for task in tasks)}. Surfaces: first seed. Last panel: {seeds_in(tasks)}, each a dot, and "
        "the mean with its 95 % interval.",
    )


def seeds_in(tasks: list[Task]) -> str:
    return names.seeds_of(task.config for task in tasks)


def draw_lines(tasks: list[Task]) -> Figure:
    """Draw for each task the mean loss between two solutions, and to the right the barriers of all seeds."""
    figure, axes = figures.panels(1, len(tasks) + 1, 2.2, 0.4)
    *left, right = axes[0]
    for ax, task in zip(left, tasks, strict=True):
        losses = {title: task.arrays[f"line/{rule}"].mean(axis=0) for rule, title in task.others.items()}
        look = {"ends": (task.rules[task.reference], "the other"), "label": names.LOSS, "colors": task.colors}
        plot_interpolation(ax, losses, ts=task.arrays["ts"], **look, legend=False)
        for line in ax.get_lines():
            line.set_label(str(line.get_label()).partition(", barrier")[0])
        ax.set_xlim(0, 1)
    of_all = [(task, rule, title) for task in tasks for rule, title in task.others.items()]
    barriers = [(rule, title, [seed["barrier"][rule] for seed in task.seeds]) for task, rule, title in of_all]
    figures.plot_seed_intervals(right, barriers, statistics.POSITIVE)
    right.set_xlabel("barrier from BPTT (nats)")
    figures.name_panels(axes[0], [*(textwrap.fill(task.title, 26) for task in tasks), "barriers"])
    figures.label_lines(left)
    return figures.with_note(
        figure,
        f"Lines: mean of {seeds_in(tasks)}; dotted: straight between the ends. Barriers: each seed, and their mean "
        f"with its 95 % interval; {'; '.join(task.setting for task in tasks)}.",
    )


def plot(
    columns: list[str], rows: Callable[[Task], Iterable[list[Any]]], draw: Callable[[list[Task]], Figure]
) -> figures.Plot:
    """A figure with the rows of all tasks, one task after another."""
    return figures.Plot(columns, lambda tasks: itertools.chain.from_iterable(map(rows, tasks)), draw)


FIGURES = {
    "landscapes": plot(COLUMNS, path_rows, partial(draw_planes, 2)),
    "landscapes_3d": plot(COLUMNS_3D, surface_rows, partial(draw_planes, 3)),
    "landscapes_random": plot(RANDOM_COLUMNS, random_rows, draw_random),
    "landscapes_interpolation": plot(LINE_COLUMNS, line_rows, draw_lines),
}
