"""One cell of the experiment: one task and one rule, trained with several seeds, and its accuracy on the test split.

    python -m experiments.accuracy.run --task digits --rule bptt --output result.json
    python -m experiments.accuracy.run --task spoken_digits --rule bptt --spikes data/processed/spoken_digits.npz \\
        --output result.json
"""

import importlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that `python experiments/accuracy/run.py` runs,
importlib.import_module("experiments")  # with stand-ins for what is missing

import jax
import numpy as np
import yaml
from flax import nnx
from jax import random
from tqdm import tqdm

from experiments.command_line import cell_parser
from experiments.record import recorded
from experiments.training import activity, make_model, modes, test_accuracy, train, under_rule
from slax_data import Task, held_out, make_task, stored_task
from slax_data.packed import sets_of_arrays
from slax_data.whole_files import load_arrays


def main() -> None:
    parser = cell_parser(__file__, __doc__, "task", "rule")
    parser.add_argument("--spikes", type=Path, help="the task's spikes, where it reads some")
    arguments = parser.parse_args()
    config = cell_config(yaml.safe_load(arguments.config.read_text()), arguments.scale, arguments.task, arguments.rule)
    with recorded(arguments.output, config=config, seed=0) as result:
        result["seeds"] = compute(config, arguments.spikes)


def cell_config(config: dict[str, Any], scale: str, task: str, rule: str) -> dict[str, Any]:
    """The values that one task and rule depend on, out of the whole config.yaml."""
    settings = config["scales"][scale]
    for name, kind, known in ((task, "task", list(settings["tasks"])), (rule, "rule", settings["rules"])):
        if name not in known:
            raise SystemExit(f"There is no {kind} {name!r}, expected one of: {', '.join(known)}.")
    shared = {name: value for name, value in settings.items() if name not in ("tasks", "rules")}
    return shared | {"scale": scale, "task": task, "rule": rule, **settings["tasks"][task]}


def compute(config: dict[str, Any], spikes: Path | None = None) -> list[dict[str, Any]]:
    """The numbers of each seed, 0, 1, ...: `one_seed`, as a single program for all of them."""
    task = task_of(config, spikes)
    program = jax.jit(partial(one_seed, config, task))
    seeds = tqdm(range(config["seeds"]), desc=f"{config['task']}, {config['rule']}", unit="seed", disable=None)
    numbers = [{"seed": seed, **jax.tree.map(float, program(random.key(seed)))} for seed in seeds]
    for seed in numbers:
        for mode in seed.keys() - {"seed"}:
            if not np.isfinite(seed[mode]["loss"]):
                raise SystemExit("The training loss is not finite: a learning rate too high makes it so.")
    return numbers


def task_of(config: dict[str, Any], spikes: Path | None) -> Task:
    """The task, of the file of spikes if the configuration names one."""
    if "spikes" in config:
        if spikes is None:
            raise SystemExit(
                f"The task {config['task']} reads spikes: give --spikes data/processed/{config['spikes']}.npz"
            )
        task = stored_task(sets_of_arrays(load_arrays(spikes)), n_classes=config["layers"][-1])
    else:
        task = make_task(config["dataset"], random.key(0), n_steps=config["n_steps"], code=config["code"])
    if (config["layers"][0], config["n_steps"]) != (task.n_units, task.n_steps) or config["layers"][
        -1
    ] != task.n_classes:
        raise SystemExit(
            f"The layers of {config['task']} are {config['layers']}, in {config['n_steps']} steps, but its data have "
            f"{task.n_units} units, {task.n_classes} classes and {task.n_steps} steps, which they have to match."
        )
    return task


def one_seed(config: dict[str, Any], task: Task, key: jax.Array) -> dict[str, dict[str, Any]]:
    """What each way of training reaches, at its end: no step is chosen by its accuracy. The key draws all that is drawn."""
    model_key, rule_key, train_key, batch_key, test_key = random.split(key, 5)
    model = make_model(config, nnx.Rngs(model_key))
    cell = under_rule(config["rule"], model, rule_key)
    sample = partial(task.sample, batch_size=config["batch_size"])
    seen = task.sample(batch_key, batch_size=config["train_size"])
    unseen = held_out(task, test_key, config["test_size"])
    graphdef, start, rest = nnx.split(cell, nnx.Param, ...)
    stages = {}
    for mode in modes(config["rule"], cell is model):
        copy = nnx.merge(graphdef, start, rest, copy=True)
        loss = train(config, mode, copy, sample, random.split(train_key, config["steps"]))
        nnx.update(model, nnx.state(copy, nnx.Param))
        stages[mode] = {
            "accuracy": test_accuracy(copy, *unseen),
            "train_accuracy": test_accuracy(copy, *seen),
            "loss": loss,
            "spikes": activity(model, unseen[0]),
        }
    return stages


if __name__ == "__main__":
    main()
