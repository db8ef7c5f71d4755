"""Draw what a task needs, what traces and truncation reach in the same memory, and what rules reach under each optimizer."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.drawing import figures, length_curves, names, statistics, tables
from experiments.drawing.styles import STYLES
from slax_rules import RULES

LEGS = {"bptt": "BPTT", "sltt": "without temporal credit (SLTT)"} | names.WITH_LESS
TRUNCATED: dict[str, Any] = {"color": STYLES["tbptt"].color, "marker": STYLES["tbptt"].marker, "markersize": 3}
HOLLOW: dict[str, Any] = {"color": STYLES["bptt"].color, "markersize": 5, "markerfacecolor": "white"}
LESS_MEMORY = {"recomputed": HOLLOW | {"marker": "o"}, "in_chunks": HOLLOW | {"marker": "s", "linestyle": "--"}}
VARIANTS_OF = {"bptt": ["short_bptt", "bptt_otpe_lengths"], "otpe": ["otpe_bptt_lengths"]}
TRUNCATIONS = {"truncation": "measured", "truncation_by_count": "counted"}  # what a rule's bytes buy, of each kind
LONGEST = "bptt"  # the longest piece, of all steps
SHORTEST = "sltt"  # and the shortest one, of one step
# The tasks, by optimizer, with a panel of their own along the training, and the rules in it.
COURSES = {"adding": ["adam"], "recall_long": ["adam"], "time_deep": ["adam", "momentum"]}
COURSE_RULES = ("bptt", "sltt", "otpe", "ottt")

Way = dict[str, dict[str, Any]]  # results by way to learn
Tasks = dict[str, dict[str, Way]]  # by task and optimizer


class Data(NamedTuple):
    """The results of trainings, and by task what memory longer sequences need; tasks are in the order of the jobs."""

    tasks: Tasks
    growth: dict[str, dict[str, Any]]


def prepare(results: list[dict[str, Any]]) -> Data:
    """The results of trainings by task, optimizer and way to learn, and the others by task."""
    found: Tasks = {}
    for result in (result for result in results if "seeds" in result):
        config = result["config"]
        found.setdefault(config["task"], {}).setdefault(config["optimizer"], {})[config["way"]] = result
    tasks = {task: {name: found[task][name] for name in names.OPTIMIZERS if name in found[task]} for task in found}
    return Data(tasks, {result["config"]["task"]: result for result in results if "growth" in result})


def accuracies(result: dict[str, Any]) -> list[float]:
    """The test accuracy of each seed."""
    return [seed["accuracy"] for seed in result["seeds"]]


def percent(result: dict[str, Any]) -> list[float]:
    return [100 * accuracy for accuracy in accuracies(result)]


def title_of_way(way: str) -> str:
    _, _, steps = way.partition("tbptt_")
    return f"TBPTT({steps})" if steps else names.WAYS.get(way) or RULES[way].title


def in_order(ways: Way) -> list[str]:
    """The ways to learn, rules in the order of their table, each before its variants."""
    order = [name for rule in RULES for name in (rule, *VARIANTS_OF.get(rule, []))]
    return [way for way in order if way in ways]


def probed(data: Data) -> dict[str, Way]:
    """The results of the tasks of which is asked whether they need time."""
    return {task: of["adam"] for task, of in data.tasks.items() if "counts" in of.get("adam", {})}


TIME_COLUMNS = ["task", "way", "chance", "learning_rate", *tables.OF_TESTS]


def time_rows(data: Data) -> Iterator[list[Any]]:
    for task, ways in probed(data).items():
        for way in (way for way in LEGS if way in ways):
            rate = ways[way]["trials"]["chosen"]["learning_rate"]
            cells = [1 / ways[way]["config"]["layers"][-1], rate]
            yield [task, way, *cells, *tables.of_tests(tables.tested(task, ways[way]["seeds"]), statistics.SHARE)]


def draw_time(data: Data) -> Figure:
    """Draw a panel for each task: the accuracy with all of BPTT, and with ever less of time."""
    shown = probed(data)
    figures.check_given("questions_time", "tasks with counts", shown)
    columns = 3
    figure, axes = figures.grid(len(shown), columns, 1.6)
    for number, (ax, (task, ways)) in enumerate(zip(axes, shown.items(), strict=True)):
        named = {way: title if number % columns == 0 else "" for way, title in LEGS.items() if way in ways}
        reached = {way: 100 * tables.tested(task, ways[way]["seeds"]) for way in named}
        draw_rows(ax, [(way, title, reached[way]) for way, title in named.items()], ways)
    figures.name_panels(axes, map(title_of_task, shown.values()))
    configs = [tables.config_of(ways) for ways in shown.values()]
    return figures.with_note(figure, note_of(configs))


def draw_rows(ax: Axes, rows: list[tuple[str, str, Any]], ways: Way) -> None:
    figures.plot_seed_intervals(ax, rows, (0, 100))
    figures.draw_levels(ax, chance=100 / tables.config_of(ways)["layers"][-1], upright=True)
    ax.set(xlim=(0, 102), xlabel=names.TEST_ACCURACY)


def title_of_task(ways: Way) -> str:
    """The task, and below it its network and the length of its sequences."""
    config = tables.config_of(ways)
    return f"{names.task_name(config['task'])}\n{names.network(config)}, T = {config['n_steps']}"


def note_of(configs: list[dict[str, Any]], seen: str = "dots: seeds; ") -> str:
    seeds = names.listed(config["seeds"] for config in configs)
    return (
        f"Mean of {seeds} seeds after {names.updates_of(configs)}; line: 95 % interval of the mean over seeds; {seen}"
        "dashed: chance. The learning rate is chosen by validation samples."
    )


def in_memory(data: Data) -> dict[str, Way]:
    """The results whose memory is measured, of the tasks with truncation; what has BPTT's gradient has its seeds, too."""
    found = {}
    for task, of in data.tasks.items():
        ways = {way: result for way, result in of.get("adam", {}).items() if "bytes" in result}
        if {SHORTEST, LONGEST} <= ways.keys():
            found[task] = ways
            for way in LESS_MEMORY if task in data.growth else ():
                measured = data.growth[task]["growth"][way][str(tables.config_of(ways)["n_steps"])]
                ways[way] = ways[LONGEST] | {"bytes": {"counted": None, "measured": measured}}
    return found


def pieces(ways: Way) -> dict[int, str]:
    """The ways that truncate, by the steps of a piece, up to BPTT with all of them."""
    found = {1: SHORTEST, tables.config_of(ways)["n_steps"]: LONGEST}
    found |= {int(way.removeprefix("tbptt_")): way for way in ways if way.startswith("tbptt_")}
    return dict(sorted(found.items()))


def traced(ways: Way) -> list[str]:
    """The rules with traces, in the order of their table."""
    return [way for way in in_order(ways) if way not in pieces(ways).values()]


def affordable(ways: Way, rule: str, kind: str) -> int:
    """The steps of the most accurate piece that needs no more memory than a rule, "measured" or "counted"; 1 if none does."""
    given = ways[rule]["bytes"][kind]
    fit = [steps for steps, way in pieces(ways).items() if ways[way]["bytes"][kind] <= given]
    return max(fit or [1], key=lambda steps: sum(accuracies(ways[pieces(ways)[steps]])))


MEMORY_COLUMNS = [
    "task",
    "way",
    "learns",
    "piece",
    "learning_rate",
    "counted_bytes",
    "measured_bytes",
    *tables.OF_SEEDS,
]


def memory_rows(data: Data) -> Iterator[list[Any]]:
    """Each way by itself; and for each rule with traces, the truncation that its memory buys."""
    for task, ways in in_memory(data).items():
        truncated = pieces(ways)
        for steps, way in truncated.items():
            yield [task, way, "itself", steps, *cells_of(ways[way])]
        for way in [*traced(ways), *(way for way in LESS_MEMORY if way in ways)]:
            yield [task, way, "itself", None, *cells_of(ways[way])]
        for rule in traced(ways):
            for learns, kind in TRUNCATIONS.items():
                steps = affordable(ways, rule, kind)
                yield [task, rule, learns, steps, *cells_of(ways[truncated[steps]])]


def cells_of(result: dict[str, Any]) -> list[Any]:
    of_memory = [result["bytes"][name] for name in ("counted", "measured")]
    return [
        result["trials"]["chosen"]["learning_rate"],
        *of_memory,
        *tables.of_seeds(accuracies(result), statistics.SHARE),
    ]


def draw_memory(data: Data) -> Figure:
    """Draw a panel for each task: the accuracy against the measured memory, a line for truncation and marks for rules."""
    shown = in_memory(data)
    figures.check_given("questions_memory", "tasks with measured memory", shown)
    figure, axes = figures.grid(len(shown), 2, 2.0, 0.7)
    for ax, ways in zip(axes, shown.values(), strict=True):
        truncated = {steps: way for steps, way in pieces(ways).items() if way != SHORTEST}
        means = [
            (kibibytes(ways[way]), sum(percent(ways[way])) / len(ways[way]["seeds"])) for way in truncated.values()
        ]
        ax.plot(*zip(*means, strict=True), color=TRUNCATED["color"])
        for (steps, way), at in zip(truncated.items(), means, strict=True):
            figures.draw_interval(ax, kibibytes(ways[way]), percent(ways[way]), (0, 100), upright=True, **TRUNCATED)
            ax.annotate(f"{steps}", at, (3, -8), textcoords="offset points", fontsize=figures.SMALLEST, color="0.45")
        for rule in (SHORTEST, *traced(ways)):
            look = {"color": STYLES[rule].color, "marker": STYLES[rule].marker, "markersize": 5}
            figures.draw_interval(ax, kibibytes(ways[rule]), percent(ways[rule]), (0, 100), upright=True, **look)
        for way in (way for way in LESS_MEMORY if way in ways):
            at, reached = kibibytes(ways[way]), percent(ways[way])
            figures.draw_interval(ax, at, reached, (0, 100), upright=True, **LESS_MEMORY[way] | {"linestyle": ""})
        figures.draw_levels(ax, chance=100 / tables.config_of(ways)["layers"][-1])
        ax.set(ylim=(0, 104), xlabel="memory, KiB per sample", ylabel=names.TEST_ACCURACY)
        figures.log_axis(ax)
    figures.name_panels(axes, map(title_of_task, shown.values()))
    rules = dict.fromkeys([SHORTEST, *(rule for ways in shown.values() for rule in traced(ways))])
    looks = [TRUNCATED | {"label": "truncated BPTT"}, *(figures.look_of(rule) | {"linestyle": ""} for rule in rules)]
    looks += [LESS_MEMORY[way] | {"linestyle": "", "label": names.WAYS[way]} for way in LESS_MEMORY]
    figures.legend_of(figure, looks, -(-len(looks) // 2))
    configs = [tables.config_of(ways) for ways in shown.values()]
    return figures.with_note(
        figure,
        f"{note_of(configs, seen='')} Memory: of a gradient, measured. Numbers: steps of a piece. A mark above the line: the "
        "rule makes better use of the memory.",
    )


def kibibytes(result: dict[str, Any]) -> float:
    return float(result["bytes"]["measured"]) / 1024


def growing(data: Data) -> dict[str, dict[str, Any]]:
    """The results of the tasks whose memory is measured for several lengths."""
    return {task: result for task, result in data.growth.items() if len(result["config"]["longer"]) > 1}


def by_steps(of_lengths: dict[str, float]) -> dict[int, float]:
    """The numbers by the number of steps, in the order of these."""
    return {steps: of_lengths[str(steps)] for steps in sorted(map(int, of_lengths))}


GROWTH_COLUMNS = ["task", "way", "steps", "measured_bytes"]


def growth_rows(data: Data) -> Iterator[list[Any]]:
    for task, result in growing(data).items():
        for way, of_lengths in result["growth"].items():
            for steps, measured in by_steps(of_lengths).items():
                yield [task, way, steps, measured]


def draw_growth(data: Data) -> Figure:
    """Draw a panel for each task: the memory against the number of steps, a line for each way."""
    shown = growing(data)
    figures.check_given("questions_growth", "tasks with several lengths", shown)
    figure, axes = figures.grid(len(shown), 2, 2.3, 0.5)
    for ax, result in zip(axes, shown.values(), strict=True):
        for way, of_lengths in result["growth"].items():
            look = LESS_MEMORY.get(way) or (TRUNCATED if way.startswith("tbptt") else figures.look_of(way))
            numbers = {steps: measured / 1024 for steps, measured in by_steps(of_lengths).items()}
            ax.plot([*numbers], [*numbers.values()], **look | {"label": title_of_way(way), "markersize": 4})
        ax.set(xlabel="steps of the sequence", ylabel="memory, KiB per sample")
        for axis in ("x", "y"):
            figures.log_axis(ax, axis)
    titles = [f"{names.task_name(task)}, {names.network(result['config'])}" for task, result in shown.items()]
    figures.name_panels(axes, titles)
    figures.label_lines(axes)
    return figures.with_note(
        figure,
        "Memory of a gradient, measured. OTPE in windows that need least. In chunks: of about the square root of the steps. "
        "Recomputed: only states between such chunks are kept, and each chunk runs forward again on the way back.",
    )


def compared(data: Data) -> Tasks:
    """The results of the tasks with several optimizers."""
    return {task: of for task, of in data.tasks.items() if len(of) > 1}


OPTIMIZER_COLUMNS = ["task", "optimizer", "way", "quantity", "learning_rate", *tables.OF_SEEDS]


def optimizer_rows(data: Data) -> Iterator[list[Any]]:
    for task, of in compared(data).items():
        for optimizer, ways in of.items():
            for way in in_order(ways):
                start = [task, optimizer, way]
                rate, reached = ways[way]["trials"]["chosen"]["learning_rate"], accuracies(ways[way])
                yield [*start, "accuracy", rate, *tables.of_seeds(reached, statistics.SHARE)]
                gap = [one - other for one, other in zip(reached, accuracies(ways["bptt"]), strict=True)]
                yield [*start, "minus_bptt", rate, *tables.of_seeds(gap, (-1.0, 1.0))]


def draw_optimizers(data: Data) -> Figure:
    """Draw a row of panels for each task, with a panel for each optimizer and a row for each rule."""
    shown = compared(data)
    figures.check_given("questions_optimizer", "tasks with several optimizers", shown)
    columns = [name for name in names.OPTIMIZERS if any(name in of for of in shown.values())]
    figure, axes = figures.panels(len(shown), len(columns), 1.75, 0.4)
    titles = []
    for of, line in zip(shown.values(), axes, strict=True):
        every = in_order({way: result for ways in of.values() for way, result in ways.items()})
        for name, ax in zip(columns, line, strict=True):
            ways = of[name]
            shares = {way: percent(ways[way]) if way in ways else [] for way in every}
            rows = [(way, title_of_way(way) if ax is line[0] else "", shares[way]) for way in every]
            draw_rows(ax, rows, ways)
            figures.draw_levels(ax, ceiling=sum(percent(ways["bptt"])) / len(ways["bptt"]["seeds"]), upright=True)
            titles.append(f"{names.OPTIMIZERS[name]}\n{names.network(tables.config_of(ways))}")
    figures.name_panels(axes.flat, titles)
    configs = [tables.config_of(ways) for of in shown.values() for ways in of.values()]
    return figures.with_note(
        figure,
        f"{names.randman(configs[0]).partition(', ')[0]}, {names.CODES[configs[0]['code']]}. {note_of(configs)} Dotted: BPTT. "
        "Shortened: the gradient of hidden layers is a hundredth as long. Lengths of 1: that of each array of parameters. "
        "A rule with the lengths of another one is trained by momentum alone.",
    )


def lengths_of(data: Data) -> Iterator[length_curves.Curve]:
    """The course of each way to learn; the figure has some of them."""
    for task, of in data.tasks.items():
        for optimizer, ways in of.items():
            for way, result in ways.items():
                shown = task in COURSES and optimizer in COURSES[task] and way in COURSE_RULES
                title = f"{names.task_name(task)}, {names.OPTIMIZERS[optimizer]}"
                cells, chance = [task, optimizer, way], 1 / result["config"]["layers"][-1]
                panel = ("", title) if shown else None
                yield length_curves.Curve(
                    cells, panel, way, title_of_way(way), chance, result["seeds"], result["config"]["steps"]
                )


FIGURES = {
    "questions_time": figures.Plot(TIME_COLUMNS, time_rows, draw_time),
    "questions_memory": figures.Plot(MEMORY_COLUMNS, memory_rows, draw_memory),
    "questions_growth": figures.Plot(GROWTH_COLUMNS, growth_rows, draw_growth),
    "questions_optimizer": figures.Plot(OPTIMIZER_COLUMNS, optimizer_rows, draw_optimizers),
    "questions_lengths": length_curves.plot("questions_lengths", ["task", "optimizer", "way"], lengths_of),
}
