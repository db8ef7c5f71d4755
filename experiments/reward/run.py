"""Learn from rewards in an environment under one rule, with several seeds at once, and record the returns on the way.

All rules start from the same weights. The learning rate is the one with the highest return at the end of other runs.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import random

from experiments.common.learning import online_window, trials_without_second, with_rate_in_state
from experiments.common.samples import key_of, seeds_of
from slax_data import MemoryChain, RepeatPrevious
from slax_neurons import LI, LIF, LRU, Connect, Edge, connect
from slax_rules import BPTT, RULES, start_episodes, train_on_rewards
from slax_rules.actor_critic import Environment
from slax_rules.train.sweep_training import COMPILER_OPTIONS


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """ "trials", the trials of the learning rate; "returns", for each seed the mean return of the episodes that ended in each
    part of the training; and "steps", the environment steps of all samples in a part."""
    rates, learn = sorted(config["learning_rates"]), make_learner(config)
    where = f"reward, {config['task']} under {config['rule']}"
    seeds = seeds_of(config, config["rate_seeds"])
    keys, of_rates = [key_of(seed, "measurements") for seed in seeds for _ in rates], rates * config["rate_seeds"]
    ends = np.asarray(learn(jnp.stack(keys), jnp.asarray(of_rates))[0])[:, -1].reshape(len(seeds), len(rates))
    best = rates[int(np.argmax(np.nan_to_num(ends.mean(axis=0), nan=-np.inf)))]
    keys = [key_of(seed, "start") for seed in seeds_of(config)]
    returns, steps = map(np.asarray, learn(jnp.stack(keys), jnp.full(len(keys), best)))
    if not np.isfinite(returns).all():
        raise SystemExit(f"{where}, a return or a gradient is not finite.")
    trials = trials_without_second(rates, ends.tolist(), best)
    return {"trials": trials, "returns": returns.tolist(), "steps": int(steps[0])}


def make_environment(config: dict[str, Any]) -> tuple[Environment, int]:
    """The environment, and the steps of its episodes."""
    if config["environment"] == "memory_chain":
        return MemoryChain(config["size"]), config["size"] + 1
    return RepeatPrevious(config["size"]), 51


def make_model(config: dict[str, Any], environment: Any, rngs: nnx.Rngs) -> Connect:
    """A recurrent layer of LIF whose membranes hold what they saw, and a read-out for the actions and the value.

    The weights of the inputs start at 0, so that what is held has to be learned. With `neuron: lru`, as many LRU with slow
    states, whose read-out has no memory.
    """
    hidden, drive = config["hidden"], nnx.initializers.uniform(config["drive"])
    if config.get("neuron") == "lru":
        zeros = {"kernel_init": nnx.initializers.zeros, "use_bias": False}
        slow = LRU.on_ring(hidden, r_min=0.9, r_max=0.999, max_phase=np.pi / 10, rngs=rngs)
        read_out = nnx.Linear(2 * hidden, environment.n_actions + 1, rngs=rngs)
        return connect([nnx.Linear(environment.n_inputs, 2 * hidden, **zeros, rngs=rngs), slow, jnp.tanh, read_out])
    start = {"kernel_init": nnx.initializers.zeros, "bias_init": drive}
    synapse = nnx.Linear(environment.n_inputs, hidden, **start, rngs=rngs)
    back = Edge(1, 0, 1, nnx.Linear(hidden, hidden, use_bias=False, rngs=rngs))
    read_out = nnx.Linear(hidden, environment.n_actions + 1, rngs=rngs)
    return connect([synapse, LIF(decay=config["decay"]), read_out, LI(decay=config["read_out_decay"])], [back])


def make_learner(config: dict[str, Any]) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """The program that trains networks of several keys and learning rates: their returns by part, and the steps of a part."""
    environment, length = make_environment(config)

    def learn(key: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        network_key, rule_key, key = random.split(key, 3)
        model = make_model(config, environment, nnx.Rngs(network_key))
        rule = RULES[config["rule"]].make(rngs=nnx.Rngs(rule_key), model=model)
        optimizer = nnx.Optimizer(model, with_rate_in_state(config["optimizer"]), wrt=nnx.Param)
        optimizer.opt_state.hyperparams["learning_rate"][...] = rate
        window = length if isinstance(rule, BPTT) else min(online_window(config, rule), length)
        updates = episodes_of(config, length) * -(-length // window)
        episodes = start_episodes(model, environment, config["samples"], rule=rule, key=key)
        weights = {name: config[name] for name in ("discount", "trace_decay", "critic", "entropy")}
        options = {"rule": rule, "window": window, "updates": config["points"] * updates, **weights}
        found = train_on_rewards(model, optimizer, environment, episodes, **options)
        is_finite = jnp.isfinite(found.errors).all()
        returns = jnp.nanmean(found.returns.reshape(config["points"], -1), axis=1)
        return jnp.where(is_finite, returns, jnp.nan), found.steps[:updates].sum()

    return jax.jit(jax.vmap(learn), compiler_options=COMPILER_OPTIONS)


def episodes_of(config: dict[str, Any], length: int) -> int:
    """The episodes of each environment in a part of the training."""
    return max(1, config["steps"] // (config["points"] * length))
