"""One job of the experiment: trains one task under one rule, or makes the surfaces of a task of what was trained.

    python -m experiments.landscapes.run --task demo --rule bptt --output bptt.json
    python -m experiments.landscapes.run --task demo --checkpoints rtrl.npz bptt.npz --output demo.json

The first writes losses and accuracies, and beside them bptt.npz, the parameters: an array for each path of a parameter,
[seeds, checkpoints, ...]. The second writes the numbers of planes and lines, and beside them demo.npz, the losses on them: see
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

from experiments.command_line import cell_parser, check_known
from experiments.landscapes.setting import Setting, make_setting
from experiments.landscapes.surfaces import surfaces
from experiments.record import recorded
from experiments.training import loss_of_params, test_accuracy, under_rule
from slax_data.whole_files import written_whole
from slax_rules import RULES, cross_entropy, train_offline, train_online
from slax_rules.paths import by_path

# What one rule does not depend on.
OF_SURFACES = ("grid", "random", "line_points", "batch", "planes", "origin", "random_planes")


def main() -> None:
    parser = cell_parser(__file__, __doc__, "task")
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
        with jax.threefry_partitionable(config["draws"] != "upstream"):  # slax's bits are those of the JAX of its time
            numbers, arrays = make()
        result |= numbers
        with written_whole(arguments.output.with_suffix(".npz")) as aside, aside.open("wb") as file:
            np.savez(file, **arrays)


def task_config(config: dict[str, Any], scale: str, task: str) -> dict[str, Any]:
    """The values that one task depends on, out of the whole config.yaml."""
    settings = config["scales"][scale]
    check_known("task", task, settings["tasks"])
    shared = {name: value for name, value in settings.items() if name != "tasks"}
    return shared | {"scale": scale, "task": task, **settings["tasks"][task]}


def rule_config(config: dict[str, Any], rule: str) -> dict[str, Any]:
    """Those of them that the training under one rule depends on."""
    check_known("rule", rule, config["rules"], f" for {config['task']}")
    own = {name: value for name, value in config.items() if name not in (*OF_SURFACES, "rules")}
    return own | {"rule": rule, "mode": config["rules"][rule]}


def read_checkpoints(config: dict[str, Any], files: list[Path]) -> dict[str, dict[str, np.ndarray]]:
    """The parameters of each rule by paths, in the order of the rules in the config."""
    found = {file.stem: file for file in files}
    if found.keys() != config["rules"].keys():
        raise SystemExit(
            f"Got checkpoints {', '.join(found)}, expected one file of each of: {', '.join(config['rules'])}."
        )
    return {rule: dict(np.load(found[rule])) for rule in config["rules"]}


def train_seeds(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Losses and accuracies of each seed, 0, 1, ..., as a single program for all of them; and the parameters."""
    program = jax.jit(partial(one_seed, config))
    seeds, trained = [], []
    for seed in tqdm(range(config["seeds"]), desc=config["rule"], unit="seed", disable=None):
        numbers, params = jax.tree.map(np.asarray, program(random.key(seed)))
        if not all(np.isfinite(values).all() for values in numbers.values()):
            raise SystemExit("A loss is not finite: a learning rate too high makes it so.")
        seeds.append({"seed": seed} | {name: values.tolist() for name, values in numbers.items()})
        trained.append(params)
    return {"seeds": seeds}, {path: np.stack([params[path] for params in trained]) for path in trained[0]}


def one_seed(config: dict[str, Any], key: jax.Array) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Test loss and test accuracy of each checkpoint, and the checkpoints, leaves [checkpoints, ...] by path."""
    setting = make_setting(config, key)
    checkpoints = train_with_checkpoints(config, setting)
    loss = loss_of_params(setting.model, *setting.test_set)
    graphdef, _, rest = nnx.split(setting.model, nnx.Param, ...)

    def measure(params: nnx.State) -> dict[str, jax.Array]:
        return {
            "loss": loss(params),
            "accuracy": test_accuracy(nnx.merge(graphdef, params, rest), *setting.test_set),
        }

    return jax.lax.map(measure, checkpoints), by_path(checkpoints)


def train_with_checkpoints(config: dict[str, Any], setting: Setting) -> nnx.State:
    """The parameters before the training, and after each `checkpoint_every` batches: leaves [checkpoints + 1, ...].

    Online is an update after each step, as slax trains online; of a rule with a window of its own, after each window.
    """
    cell = under_rule(config["rule"], setting.model, setting.rule_key)
    optimizer = nnx.Optimizer(cell, optax.adamax(config["learning_rate"]), wrt=nnx.Param)
    window = RULES[config["rule"]].window
    run, window = (train_offline, window) if config["mode"] == "deferred" else (train_online, window or 1)
    graphdef, state = nnx.split((cell, optimizer))

    def step(state: nnx.State, key: jax.Array) -> tuple[nnx.State, None]:
        cell, optimizer = nnx.merge(graphdef, state)
        run(cell, optimizer, cross_entropy, *setting.sample(key), window=window)
        return nnx.state((cell, optimizer)), None

    def part(state: nnx.State, keys: jax.Array) -> tuple[nnx.State, nnx.State]:
        before = nnx.state(nnx.merge(graphdef, state)[0], nnx.Param)
        return jax.lax.scan(step, state, keys)[0], before

    keys = random.split(setting.train_key, (config["checkpoints"], config["checkpoint_every"]))
    state, checkpoints = jax.lax.scan(part, state, keys)
    last = nnx.state(nnx.merge(graphdef, state)[0], nnx.Param)
    return jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), checkpoints, last)


if __name__ == "__main__":
    main()
