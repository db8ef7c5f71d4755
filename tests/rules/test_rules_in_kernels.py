"""The recursions of the rules in kernels, which are interpreted here: the same gradients and traces as by scans."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from covering import combinations
from slax_neurons.building_blocks import scan_units
from slax_neurons.kernels import auto_is
from slax_rules import RULES, cross_entropy, firing_rate, gradients
from stacks import Conv, inputs, pair

T, B = 12, 3
LABELS = jnp.array([0, 3, 1])
LIF = {"kind": "lif", "decay": 0.8, "threshold": 0.6}
FIXED = LIF | {"fixed": True}
LI = {"kind": "li", "decay": 0.9, "fixed": True}
NETWORKS = {
    "convolution": ([(4, 4, 2), Conv(3, (3, 3)), 4], [FIXED, LI]),
    "trainable": ([6, 5, 4], [{"kind": "alif", "decay": 0.8, "beta": np.linspace(0.1, 0.4, 5)}, LIF]),
    "two states": ([6, 5, 4], [{"kind": "cuba_lif", "fixed": True}, LI]),
}
# Rules by their recursions; the others differ in routes.
RECURSIONS = [
    "ostl", "ostl_with_recurrence", "otpe", "approximate_otpe", "ottt", "sltt", "e_prop", "pp_prop", "hypr", "s_tllr", "tess",
]  # fmt: skip
SEE = {
    "convolution": ("ostl", "ottt", "pp_prop"),
    "trainable": ("ostl", "otpe", "sltt", "e_prop"),
    "two states": RECURSIONS,
}
CASES = dict.fromkeys(
    [
        *((name, "two states") for name in ("pp_prop", "ottt")),
        *combinations(RECURSIONS, NETWORKS, strength=1, valid=lambda name, network: name in SEE[network]),
    ]
)


def close(one, other):
    pairs = list(zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    assert pairs
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("name", "network"), CASES)
def test_gradients_in_windows_are_those_of_scans(name, network, x64):
    sizes, neurons = NETWORKS[network]
    model = pair(sizes, neurons).model
    x = inputs(T, B, sizes[0])
    rule = RULES[name].make(rngs=nnx.Rngs(1), model=model)

    def found(x=x):
        return gradients(model, cross_entropy, x, LABELS, rule=rule, window=5, penalties=[firing_rate(0.1, 0.3)])

    by_scans = found()
    with auto_is("fused"):
        assert "pallas_call" in str(jax.make_jaxpr(found)(x))
        close(found(), by_scans)
    assert any(jnp.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(by_scans[1]))


def test_state_that_is_the_same_along_an_axis_stays_so():
    def step(decay, carry, x):
        total, weight = carry
        return (decay * total + weight * x, decay * weight), total

    carry = jnp.ones((2, 3)), jnp.ones((2, 1))
    steps = jnp.arange(24.0).reshape(4, 2, 3)
    given = jnp.array([[0.5, 0.6, 0.7]]), carry, steps
    by_scan = scan_units(lambda decay, carry, x: step(0.5, carry, x), (), *given[1:], reverse=True)
    with auto_is("fused"):
        found = scan_units(step, jnp.asarray(0.5), carry, steps, reverse=True)
        one_decay_each = scan_units(lambda decay, total, x: (decay * total + x,) * 2, given[0], carry[0], steps)
    close(found, by_scan)
    close(one_decay_each, scan_units(lambda decay, total, x: (decay * total + x,) * 2, given[0], carry[0], steps))


def test_a_step_that_does_not_compile_runs_as_a_scan_with_a_warning():
    table = jnp.ones((1, 3))

    def step(_, carry, x):
        return carry + table, x

    with auto_is("fused"), pytest.warns(RuntimeWarning, match="does not compile, so it runs as a scan"):
        end, _ = scan_units(step, (), jnp.zeros((2, 3)), jnp.ones((4, 2, 3)))
    assert end.tolist() == [[4.0] * 3] * 2
