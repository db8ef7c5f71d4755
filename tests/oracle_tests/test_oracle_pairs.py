"""A stack of the packages and its layers of the oracle are one network: same loss, same gradient by BPTT."""

import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from slax_rules import cross_entropy, gradients
from stacks import Conv, gradients_of, inputs, pair, worst

T, B = 8, 3
LABELS = jnp.array([0, 3, 2])
LIF = {"kind": "lif", "decay": 0.8, "threshold": 0.7}

PAIRS = {
    "edges": ([7, 6, 4], [LIF, {"kind": "li"}], {"edges": [(0, 0, 1), (1, 0, 2)]}),
    "skip": (
        [7, 6, 5, 4],
        [
            {"kind": "cuba_lif", "decay": [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]},
            {"kind": "alif", "stop_reset_gradient": True},
            {"kind": "none"},
        ],
        {"edges": [(0, 2, 0), (1, 0, 1)], "use_bias": False},
    ),
    "convolutions": (
        [(4, 4, 2), Conv(4, (3, 3), groups=2), Conv(2, (2, 2), (2, 2), "VALID"), 4],
        [LIF, {"kind": "cuba_lif", "threshold": [0.5, 0.6], "fixed": True}, {"kind": "li", "decay": 1e-12}],
        {"edges": [(0, 0, 1)]},
    ),
    "one space axis": ([(7, 2), Conv(4, (4,), (2,)), 4], [{"kind": "if"}, {**LIF, "surrogate": "arctan"}], {}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_plain_stack_is_the_oracle_under_bptt(name, x64):
    sizes, neurons, options = PAIRS[name]
    model, layers = pair(sizes, neurons, **options)
    x = inputs(T, B, sizes[0])
    expected = oracle.bptt(layers, x, oracle.softmax_cross_entropy(LABELS))
    loss, gradient = gradients(model, cross_entropy, x, LABELS)
    assert worst(gradients_of(model, gradient), expected.gradients) < 1e-10
    np.testing.assert_allclose(loss, expected.loss, rtol=1e-12)
    assert all(np.mean(oracle.series(oracle.forward(layers, x), "output", i) != 0) > 0.05 for i in range(len(layers)))
