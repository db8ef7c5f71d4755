"""The experiment on rewards: episodes that parts of a training hold, and the numbers of its table."""

import jax
import numpy as np
import pytest
from experiment_files import as_written, config_of, tables

from experiments.pipeline.job import settings_of
from experiments.reward import run


def config(rule="sltt", **task):
    task = {"environment": "memory_chain", "size": 3} | task
    settings = settings_of("reward", "tiny") | {"rules": [rule], "tasks": {"chain_3": task}, "steps": 25, "points": 2}
    return config_of("reward", f"chain_3/{rule}", settings)


@pytest.mark.parametrize("task", [{}, {"environment": "repeat_previous", "size": 2}])
def test_episodes_have_the_length_that_is_counted_on(task):
    environment, length = run.make_environment(config(**task))
    state, _ = environment.reset(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 120)
    _, ends = jax.lax.scan(lambda at, key: environment.step(key, at, 0)[::3], state, keys)
    assert np.flatnonzero(ends)[:2].tolist() == [length - 1, 2 * length - 1]


def test_a_part_has_whole_episodes_and_the_table_their_returns(tmp_path):
    """25 steps in two parts hold three episodes of four steps in each."""
    assert run.episodes_of(config(), 4) == 3
    found = {"steps": 96, "returns": [[-1.0, 0.5], [0.0, 1.0]]}
    rows = tables("reward", [as_written(config(), found)], tmp_path)["reward"]
    assert {row["quantity"]: float(row["mean"]) for row in rows} == {"return": 0.75, "mean_return": 0.125}
