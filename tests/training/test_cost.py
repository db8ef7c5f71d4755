"""The memory of a rule: bytes that are counted, by hand, and bytes that are measured, by programs of our own."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from slax_neurons import LI, LIF, connect
from slax_rules import BPTT, OSTL, OTPE, OTTT, STLLR, TBPTT, cost, gradients
from slax_rules.train.cost import QUICKLY
from stacks import FUSED

I, N, C, T, B = 12, 7, 3, 8, 4  # noqa: E741


@pytest.fixture(autouse=True)
def memory_of_users(monkeypatch):
    monkeypatch.setattr("slax_rules.train.cost.QUICKLY", QUICKLY | FUSED)


def model():
    rngs = nnx.Rngs(0)
    return connect([nnx.Linear(I, N, rngs=rngs), LIF(), nnx.Linear(N, C, rngs=rngs), LI()])


def counted(rule, shape, **how):
    return cost(model(), rule, shape, measure=False, **how)


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        (BPTT(), N + C),
        (OTTT(bias_trace=False), N + C + I + N),
        (OSTL(), N + C + I * N + N + N * C + C),  # a trace of each weight and bias
        (STLLR(), N + C + I + N + N),  # x and psi of the first layer, x of the read-out
    ],
)
def test_bytes_that_are_carried_are_those_of_the_traces_and_the_state(rule, numbers):
    shared = 4 * 4  # at most: scalars that all samples share
    found = counted(rule, (T, B, I)).carried_bytes
    assert 4 * numbers <= found <= 4 * numbers + shared


def test_bytes_of_a_window_are_those_that_autodiff_keeps_of_its_steps_and_the_outputs():
    """Of each step the inputs, the hidden membranes, from which spikes are computed again, the outputs and their gradient; of a
    window, the state before it."""
    found = counted(OTTT(), (T, B, I), window=2)
    assert found.window == 2
    assert found.kept_bytes == 4 * (2 * (I + N + 2 * C) + N + C)
    assert found.counted_bytes == found.carried_bytes + found.kept_bytes
    by_default = counted(OTTT(), (T, B, I))  # whose windows are longer than the sequence
    assert by_default.window == T


def test_recomputation_keeps_the_carries_between_chunks_and_the_steps_of_one():
    """Chunks of 3 in 9 steps."""
    found = counted(BPTT(remat=True), (9, B, I))
    carries, chunk = 3 * (N + C), 3 * (I + N) + N + C
    assert found.kept_bytes == 4 * (carries + chunk + 9 * 2 * C)


@pytest.mark.parametrize(("rule", "window"), [(TBPTT(5), None), (OTTT(), 4), (OTPE(), 1)])
def test_measured_bytes_are_the_temporaries_of_a_program_of_the_same_gradient(rule, window):
    net, steps = model(), 40
    graph, state = nnx.split((net, rule))

    def loss(outputs, targets):
        return jnp.square(outputs - targets[:, None]).mean(axis=-1)

    @jax.jit
    def program(state, inputs, targets):
        net, rule = nnx.merge(graph, state)
        return gradients(net, loss, inputs, targets, rule=rule, window=window)

    memory = program.lower(state, jnp.ones((steps, B, I)), jnp.zeros(B)).compile(FUSED).memory_analysis()
    found = cost(net, rule, (steps, B, I), window=window)
    assert found.measured_bytes == pytest.approx(memory.temp_size_in_bytes / B, rel=0.05)
    assert found.input_bytes == pytest.approx(memory.argument_size_in_bytes / B, rel=0.2)  # and the parameters


@pytest.mark.parametrize(("rule", "window"), [(OTTT(), 1), (OTPE(), 3)])
def test_measured_bytes_in_windows_do_not_grow_with_the_sequence(rule, window):
    short, long = (cost(model(), rule, (steps, B, I), window=window).measured_bytes for steps in (30, 600))
    assert long <= short
