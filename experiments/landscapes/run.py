"""One job of the experiment: train one task under one rule, or compute the surfaces of a task from its trained networks.

    python -m experiments.landscapes.run --task demo --rule bptt --output bptt.json
    python -m experiments.landscapes.run --task demo --checkpoints rtrl.npz bptt.npz --output demo.json

The first command writes losses and accuracies, together with the parameters in bptt.npz: an array for each path of a parameter,
[seeds, checkpoints, ...]. The second writes the numbers of planes and lines, together with the losses on them in demo.npz: see
`experiments.landscapes.surfaces`.

On a machine that has only JAX, Flax, Optax, matplotlib and numpy, `python experiments/landscapes/run.py` does the same.
"""

import importlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that `python experiments/landscapes/run.py` runs,
importlib.import_module("experiments")  # with stand-ins for what is missing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import yaml
from flax import nnx
from jax import random
from tqdm import tqdm

from experiments.common.command_line import check_known, job_parser
from experiments.common.record import recorded
from experiments.common.training import check_losses, loss_of_params, make_rule, test_accuracy, training_step
from experiments.landscapes.setting import Setting, make_setting
from experiments.landscapes.surfaces import surfaces
from slax_data.storage.whole_files import atomic_write
from slax_neurons import Connect
from slax_rules import TBPTT, cross_entropy, train_offline, train_online
from slax_rules.paths import by_path

# Settings that one rule does not depend on.
SURFACE_SETTINGS = ("grid", "random", "line_points", "batch", "planes", "origin", "random_planes")


def main() -> None:
    parser = job_parser(__file__, __doc__, "task")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--rule", help="train the task under this rule")
    what.add_argument("--checkpoints", type=Path, nargs="+", help="make the surfaces of these trainings, RULE.npz each")
    arguments = parser.parse_args()
    config = task_config(yaml.safe_load(arguments.config.read_text()), arguments.scale, arguments.task)
    if arguments.rule:
        config = rule_config(config, arguments.rule)
        make = partial(train_seeds, config)
    else:
        make = partial(surfaces, config, read_checkpoints(config, arguments.checkpoints))
    with recorded(arguments.output, config=config, seed=0) as result:
        with jax.threefry_partitionable(config["draws"] != "upstream"):  # slax used the bits of the JAX of its time
            numbers, arrays = make()
        result |= numbers
        with atomic_write(arguments.output.with_suffix(".npz")) as aside, aside.open("wb") as file:
            np.savez(file, **arrays)


def task_config(config: dict[str, Any], scale: str, task: str) -> dict[str, Any]:
    """The values from config.yaml that one task depends on."""
    settings = config["scales"][scale]
    check_known("task", task, settings["tasks"])
    shared = {name: value for name, value in settings.items() if name != "tasks"}
    return shared | {"scale": scale, "task": task, **settings["tasks"][task]}


def rule_config(config: dict[str, Any], rule: str) -> dict[str, Any]:
    """The values of a task that the training under one rule depends on."""
    check_known("rule", rule, config["rules"], f" for {config['task']}")
    own = {name: value for name, value in config.items() if name not in (*SURFACE_SETTINGS, "rules")}
    return own | {"rule": rule, "mode": config["rules"][rule]}


def read_checkpoints(config: dict[str, Any], files: list[Path]) -> dict[str, dict[str, np.ndarray]]:
    """The parameters of each rule by path, in the order of the rules in the config."""
    found = {file.stem: file for file in files}
    if found.keys() != config["rules"].keys():
        raise SystemExit(
            f"Got checkpoints {', '.join(found)}, expected one file of each of: {', '.join(config['rules'])}."
        )
    return {rule: dict(np.load(found[rule])) for rule in config["rules"]}


def train_seeds(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The losses and accuracies of the seeds 0, 1, ..., computed by a single program, and the parameters."""
    program = jax.jit(partial(one_seed, config))
    seeds, trained = [], []
    for seed in tqdm(range(config["seeds"]), desc=config["rule"], unit="seed", disable=None):
        numbers, params, losses = jax.tree.map(np.asarray, program(random.key(seed)))
        check_losses(f"landscapes of {config['task']}", seed, {f"{config['rule']} {config['mode']}": losses})
        seeds.append({"seed": seed} | {name: values.tolist() for name, values in numbers.items()})
        trained.append(params)
    return {"seeds": seeds}, {path: np.stack([params[path] for params in trained]) for path in trained[0]}


def one_seed(config: dict[str, Any], key: jax.Array) -> tuple[dict[str, jax.Array], dict[str, jax.Array], jax.Array]:
    """The test loss and test accuracy of each checkpoint, the checkpoints, leaves [checkpoints, ...] by path, and the losses of
    the training."""
    setting = make_setting(config, key)
    checkpoints, losses = train_with_checkpoints(config, setting)
    loss = loss_of_params(setting.model, *setting.test_set)
    graphdef, _, rest = nnx.split(setting.model, nnx.Param, ...)

    def measure(params: nnx.State) -> dict[str, jax.Array]:
        return {
            "loss": loss(params),
            "accuracy": test_accuracy(nnx.merge(graphdef, params, rest), *setting.test_set),
        }

    return jax.lax.map(measure, checkpoints), by_path(checkpoints), losses


def train_with_checkpoints(config: dict[str, Any], setting: Setting) -> tuple[nnx.State, jax.Array]:
    """The parameters before training and after every `checkpoint_every` batches, with leaves [checkpoints + 1, ...], and the
    losses of all batches.

    Online training updates after each step, as in slax; for TBPTT, which sets its own number of steps, after these steps.
    """
    rule = make_rule(config["rule"], setting.rule_key)
    optimizer = nnx.Optimizer(setting.model, optax.adamax(config["learning_rate"]), wrt=nnx.Param)
    window = rule.steps if isinstance(rule, TBPTT) else 1

    def train_on(model: Connect, rule: Any, optimizer: nnx.Optimizer, key: jax.Array) -> jax.Array:
        if config["mode"] == "offline":
            return train_offline(model, optimizer, cross_entropy, *setting.sample(key), rule=rule)
        return train_online(model, optimizer, cross_entropy, *setting.sample(key), rule=rule, window=window)

    step, state = training_step((setting.model, rule, optimizer), train_on)

    def part(state: nnx.State, keys: jax.Array) -> tuple[nnx.State, tuple[nnx.State, jax.Array]]:
        before = nnx.filter_state(state[0], nnx.Param)
        state, losses = jax.lax.scan(step, state, keys)
        return state, (before, losses)

    keys = random.split(setting.train_key, (config["checkpoints"], config["checkpoint_every"]))
    state, (checkpoints, losses) = jax.lax.scan(part, state, keys)
    last = nnx.filter_state(state[0], nnx.Param)
    return jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), checkpoints, last), losses.ravel()


if __name__ == "__main__":
    main()
