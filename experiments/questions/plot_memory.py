"""What rules with traces, truncation and recomputation reach in the same memory, and how memory grows with the sequence."""

from collections.abc import Iterator
from typing import Any

from experiments.drawing import statistics, tables
from experiments.questions.plot_data import Data, Ways, in_order, rate_of

LESS_MEMORY = ("recomputed", "in_chunks")  # ways with the gradient of BPTT
LONGEST, SHORTEST = "bptt", "sltt"  # the longest piece, of all steps, and the shortest one, of one step

COLUMNS = ["task", "way", "learns", "piece", "learning_rate"]
COLUMNS += ["counted_bytes", "measured_bytes", "input_bytes", *tables.OF_SEEDS]
GROWTH_COLUMNS = ["task", "way", "steps", "measured_bytes", "input_bytes"]


def in_memory(data: Data) -> dict[str, Ways]:
    """The results whose memory is measured, of the tasks with truncation; what has BPTT's gradient has its seeds, too."""
    found = {}
    for task, of in data.tasks.items():
        ways = {way: result for way, result in of.get("adam", {}).items() if "bytes" in result}
        if {SHORTEST, LONGEST} <= ways.keys():
            found[task] = ways
            for way in LESS_MEMORY if task in data.growth else ():
                measured = data.growth[task]["growth"][way][str(tables.config_of(ways)["n_steps"])]
                ways[way] = ways[LONGEST] | {"bytes": ways[LONGEST]["bytes"] | {"counted": None, "measured": measured}}
    return found


def pieces(ways: Ways) -> dict[int, str]:
    """The ways that truncate, by the steps of a piece, up to BPTT with all of them."""
    found = {1: SHORTEST, tables.config_of(ways)["n_steps"]: LONGEST}
    found |= {int(way.removeprefix("tbptt_")): way for way in ways if way.startswith("tbptt_")}
    return dict(sorted(found.items()))


def traced(ways: Ways) -> list[str]:
    """The rules with traces, in the order of their table."""
    return [way for way in in_order(ways) if way not in pieces(ways).values()]


def affordable(ways: Ways, rule: str) -> int:
    """The steps of the most accurate piece that needs no more memory than a rule, as measured; 1 if none does."""
    given = ways[rule]["bytes"]["measured"]
    fit = [steps for steps, way in pieces(ways).items() if ways[way]["bytes"]["measured"] <= given]
    return max(fit or [1], key=lambda steps: sum(tables.accuracies(ways[pieces(ways)[steps]])))


def rows(data: Data) -> Iterator[list[Any]]:
    """Each way by itself; and for each rule with traces, the truncation that its memory buys."""
    for task, ways in in_memory(data).items():
        truncated = pieces(ways)
        found = [(way, "itself", steps, way) for steps, way in truncated.items()]
        found += [(way, "itself", None, way) for way in [*traced(ways), *(way for way in LESS_MEMORY if way in ways)]]
        for rule in traced(ways):
            steps = affordable(ways, rule)
            found.append((rule, "truncation", steps, truncated[steps]))
        for *start, way in found:
            needed = [ways[way]["bytes"].get(kind) for kind in ("counted", "measured", "inputs")]
            cells = tables.of_seeds(tables.accuracies(ways[way]), statistics.SHARE)
            yield [task, *start, rate_of(ways[way]), *needed, *cells]


def growth_rows(data: Data) -> Iterator[list[Any]]:
    """The bytes by way and number of steps, of the tasks in which they are measured for several lengths."""
    for task, result in data.growth.items():
        inputs = result.get("inputs", {})
        for way, by_steps in result["growth"].items() if len(result["config"]["longer"]) > 1 else ():
            yield from ([task, way, steps, by_steps[steps], inputs.get(steps)] for steps in sorted(by_steps, key=int))
