"""One cell of the experiment: one task and one rule, trained with several seeds, and its accuracy on the test split.

    python -m experiments.accuracy.run --task digits --rule bptt --output result.json
    python -m experiments.accuracy.run --task spoken_digits --rule bptt --spikes data/processed/spoken_digits.npz \\
        --output result.json

On a machine that has only JAX, Flax, Optax, matplotlib and numpy, `python experiments/accuracy/run.py` does the same; the task
digits also needs scikit-learn.
"""

import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that `python experiments/accuracy/run.py` runs,
importlib.import_module("experiments")  # with stand-ins for what is missing

import jax
import yaml
from flax import nnx
from jax import random
from tqdm import tqdm

from experiments.common.command_line import check_known, job_parser
from experiments.common.record import recorded
from experiments.common.tasks import task_maker
from experiments.common.training import (
    activity,
    check_losses,
    loss_at_the_end,
    make_model,
    make_rule,
    test_accuracy,
    train,
)
from slax_data import Task, held_out
from slax_rules import RULES


def main() -> None:
    parser = job_parser(__file__, __doc__, "task", "rule")
    parser.add_argument("--spikes", type=Path, help="the task's spikes, where it reads some")
    arguments = parser.parse_args()
    config = job_config(yaml.safe_load(arguments.config.read_text()), arguments.scale, arguments.task, arguments.rule)
    with recorded(arguments.output, config=config, seed=0) as result:
        result["seeds"] = compute(config, arguments.spikes)


def job_config(config: dict[str, Any], scale: str, task: str, rule: str) -> dict[str, Any]:
    """The values from config.yaml that one task and rule depend on."""
    settings = config["scales"][scale]
    check_known("task", task, settings["tasks"])
    known = rules_of(settings, task)
    check_known("rule", rule, known, f" for {task}")
    shared = {name: value for name, value in settings.items() if name not in ("tasks", "rules")}
    own = {name: value for name, value in settings["tasks"][task].items() if name not in ("rules", "without")}
    return shared | {"scale": scale, "task": task, "rule": rule} | own


def rules_of(settings: dict[str, Any], task: str) -> list[str]:
    """The rules of a task: its own or all rules of the scale, without the ones that it excludes."""
    own = settings["tasks"][task]
    return [name for name in own.get("rules", settings["rules"]) if name not in own.get("without", [])]


def compute(config: dict[str, Any], spikes: Path | None = None) -> list[dict[str, Any]]:
    """The results of `one_seed` for the seeds 0, 1, ..., computed by a single program."""
    program = jax.jit(partial(one_seed, config, task_maker(config, spikes)))
    seeds = tqdm(range(config["seeds"]), desc=f"{config['task']}, {config['rule']}", unit="seed", disable=None)
    numbers = []
    for seed in seeds:
        stages, losses = program(random.key(seed))
        named = {f"{config['rule']} {update}": of_update for update, of_update in losses.items()}
        check_losses(f"accuracy of {config['task']}", seed, named)
        numbers.append({"seed": seed, **jax.tree.map(float, stages)})
    return numbers


def one_seed(
    config: dict[str, Any], make: Callable[[jax.Array], Task], key: jax.Array
) -> tuple[dict[str, dict[str, Any]], dict[str, jax.Array]]:
    """The results of each update mode at the end of training, with no step selected by accuracy, and the losses of all steps.
    The key determines all random draws."""
    model_key, rule_key, train_key, batch_key, test_key, task_key = random.split(key, 6)
    task = make(task_key)
    model = make_model(config, nnx.Rngs(model_key))
    rule = make_rule(config["rule"], rule_key)
    sample = partial(task.sample, batch_size=config["batch_size"])
    seen = task.sample(batch_key, batch_size=config["train_size"])
    unseen = held_out(task, test_key, config["test_size"])
    graphdef, start = nnx.split((model, rule))
    stages, losses = {}, {}
    for update in RULES[config["rule"]].updates:
        model, rule = nnx.merge(graphdef, start, copy=True)
        losses[update] = train(config, update, model, rule, sample, random.split(train_key, config["steps"]))
        stages[update] = {
            "accuracy": test_accuracy(model, *unseen),
            "train_accuracy": test_accuracy(model, *seen),
            "loss": loss_at_the_end(losses[update]),
            "spikes": activity(model, unseen[0]),
        }
    return stages, losses


if __name__ == "__main__":
    main()
