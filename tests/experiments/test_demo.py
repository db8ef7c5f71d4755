"""The experiment on slax's demonstrations: the draws and steps of slax 0.0.1, the published cosines, and the best checkpoint.

`git show 66018c2:tests/experiments/record_original_demo.py` wrote down what slax 0.0.1 itself computes.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from jax import random

from experiments.common.learning import transformation
from experiments.common.samples import random_bits
from experiments.demo.notebooks import first_keys, first_network, sampler
from experiments.pipeline.job import scales_of
from slax_rules import BPTT, RTRL, cross_entropy, train_offline, train_online
from slax_rules.train.agreement import by_path

# Networks so small may be silent, which `fit` warns about.
pytestmark = pytest.mark.filterwarnings("ignore:.*silent:UserWarning")
ORIGINAL = dict(np.load(Path(__file__).parent / "original_demo.npz"))
FIRST = scales_of("demo")["paper"]["first"]
SAME_BATCHES = 4  # after which a hidden spike differs under RTRL


def flat(model):
    """The parameters in the order of slax 0.0.1: biases before weights, the first layer before the second."""
    params = by_path(nnx.state(model, nnx.Param))
    return np.concatenate([np.ravel(params[path]) for path in sorted(params)])


@pytest.mark.parametrize("rule", ["rtrl", "bptt"])
def test_the_first_batches_train_as_in_slax(rule):
    """40 updates of RTRL and 4 of BPTT, from the draws of the notebook alone: no weight or spike comes from slax."""
    with random_bits():
        model = first_network(FIRST["layers"], random.key(0))
        np.testing.assert_allclose(flat(model), ORIGINAL["start"], rtol=0, atol=1e-7)
        optimizer = nnx.Optimizer(model, transformation(FIRST, FIRST["learning_rate"]), wrt=nnx.Param)
        keys, _ = first_keys(random.key(0), SAME_BATCHES)
        sample = partial(sampler(FIRST["layers"], FIRST["n_steps"]), batch_size=FIRST["batch_size"])

        @nnx.jit
        def step(model, optimizer, key):
            if rule == "bptt":
                return train_offline(model, optimizer, cross_entropy, *sample(key), rule=BPTT())
            return train_online(model, optimizer, cross_entropy, *sample(key), rule=RTRL(), window=1)

        losses = [step(model, optimizer, key) for key in keys]
    np.testing.assert_allclose(losses, ORIGINAL[f"{rule}/losses"][:SAME_BATCHES], rtol=0, atol=1e-5)
    moved = np.abs(ORIGINAL[f"{rule}/params"] - ORIGINAL["start"]).max()
    assert moved > 0.03
    np.testing.assert_allclose(flat(model), ORIGINAL[f"{rule}/params"], rtol=0, atol=1e-5)
