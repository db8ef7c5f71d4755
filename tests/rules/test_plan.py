"""The plan of a stack: nesting changes nothing, also where stacks are read late and a sequence goes on from a given carry."""

import jax.numpy as jnp
import pytest
from flax import nnx

from slax_neurons import LI, LIF, Connect, Edge, connect, unroll
from slax_rules import OSTL, OTPE, RTRL, EProp, cross_entropy, gradients
from slax_rules.layerwise.stack import plan_stack
from stacks import deviation, inputs, linear

LABELS = jnp.array([0, 3, 2])


def nested_and_flat() -> tuple[Connect, Connect]:
    """One network twice, with the same modules: a stack in a stack which is read late there, and one chain."""
    options = {"param_dtype": jnp.float64}
    modules = [
        *(linear(7, 6, 0), LIF(decay=0.8, threshold=0.5, **options)),
        *(linear(6, 6, 1), LIF(decay=0.7, threshold=0.4, **options)),
        *(linear(6, 4, 2), LI(**options)),
    ]
    inner, late, own = linear(6, 6, 3), linear(6, 4, 4), linear(4, 4, 5)
    part = connect(modules[:4], [Edge(3, 2, 1, inner)])
    nested = connect([part, *modules[4:]], [Edge(0, 1, 3, late), Edge(2, 1, 1, own)])
    return nested, connect(modules, [Edge(3, 2, 1, inner), Edge(3, 4, 3, late), Edge(5, 4, 1, own)])


@pytest.mark.parametrize("rule", [OSTL(), OTPE(), EProp(), RTRL()], ids=lambda rule: type(rule).__name__)
def test_nested_stack_read_late_goes_on_from_its_own_carry_as_one_chain_does(rule, x64):
    x = inputs(14, 3, 7)
    found = []
    for model in nested_and_flat():
        carry, _ = unroll(model, model.initialize_carry((3, 7)), x[:5])
        loss, gradient = gradients(model, cross_entropy, x[5:], LABELS, rule=rule, window=4, carry=carry)
        rest = gradients(model, cross_entropy, x[5:], LABELS, rule=rule, window=4)[0]
        assert abs(float(loss - rest)) > 1e-3  # the carry is of account
        found.append((loss, {path[-4:]: leaf[...] for path, leaf in nnx.to_flat_state(gradient)}))
    (loss, nested), (flat_loss, flat) = found
    assert deviation(loss, flat_loss) < 1e-12
    assert len(nested) == len(flat)
    by_size = [
        sorted(gradient.values(), key=lambda g: (g.shape, float(jnp.abs(g).sum()))) for gradient in (nested, flat)
    ]
    for ours, theirs in zip(*by_size, strict=True):
        assert deviation(ours, theirs) < 1e-12


def test_plan_finds_the_modules_of_any_copy(x64):
    nested, flat = nested_and_flat()
    plan = plan_stack("OSTL", nested)
    assert plan.neurons == plan_stack("OSTL", flat).neurons == (1, 3, 5)
    assert plan.has_delayed_edges
    copy = nnx.clone(nested)
    layers = plan.layers(copy)
    assert [layer.neuron for layer in layers] == [
        copy.modules[0].modules[1],
        copy.modules[0].modules[3],
        copy.modules[2],
    ]
    assert [layer.above for layer in layers] == [*(layer.neuron for layer in layers[1:]), None]
    assert [len(layer.synapses) for layer in layers] == [1, 2, 3]
    assert [layer.self_delays for layer in layers] == [(), (1,), (1,)]
