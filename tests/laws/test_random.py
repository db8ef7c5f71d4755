"""A bounded search: random stacks, neurons, edges, delays, masks, windows and routes under a random rule, by the oracle."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import oracle
import slax_rules as sr
from laws.table import TABLE, C, Network, lif, route_of
from stacks import gradients_of

T, B = 5, 2
LABELS = np.array([1, 3])
# Of the table, those along any route; and those that take no parameter for each unit.
NAMES = ["ostl", "ostl_with_recurrence", "ottt", "sltt", "otpe given a decay", "approximate_otpe"]
NAMES += ["e_prop given a decay"]
NAMES += ["pp_prop", "s_tllr"]
UNIFORM = ("ottt", "approximate_otpe")
ROUTES = {
    "symmetric": sr.Symmetric,
    **{route.__name__: partial(route, rngs=nnx.Rngs(3)) for route in (sr.Random, sr.Direct, sr.Target, sr.Local)},
}


@st.composite
def neurons(draw, per_unit, n):
    kind = draw(st.sampled_from(["lif", "cuba_lif", "alif", "li", "if"]))
    options = {"kind": kind}
    if kind in ("lif", "cuba_lif", "if"):
        options |= {"reset": draw(st.sampled_from(["subtract", "zero", "none"]))}
    if kind != "li":
        options |= {"threshold": draw(st.sampled_from([0.4, 0.9])), "stop_reset_gradient": draw(st.booleans())}
        options |= {"surrogate": draw(st.sampled_from(["fast_sigmoid", "arctan"]))}
    if kind != "if":
        decay = draw(st.sampled_from([0.3, 0.8]))
        options["decay"] = decay * np.linspace(0.8, 1, n) if per_unit and draw(st.booleans()) else decay
    return options


@st.composite
def trials(draw):
    rule = draw(st.sampled_from(NAMES))
    depth = draw(st.integers(1, 3))
    sizes = [3, *draw(st.lists(st.integers(2, 4), min_size=depth - 1, max_size=depth - 1)), C]
    layers = [draw(neurons(rule not in UNIFORM, n)) for n in sizes[1:]]
    if rule == "approximate_otpe" or depth == 1 or draw(st.booleans()):
        layers[-1] = lif(decay=0.7) if draw(st.booleans()) else {"kind": "li", "decay": 0.7}
    if rule == "s_tllr" and layers[-1]["kind"] != "if":  # which filters the inputs of the last layer as OTTT does
        layers[-1]["decay"] = 0.7
    if rule == "approximate_otpe":  # which asks for a decay above
        layers = [layer | ({"decay": 0.8} if layer["kind"] != "if" else lif(decay=0.8)) for layer in layers]
    ends = st.integers(0, depth - 1)
    edges = draw(st.lists(st.tuples(ends, ends, st.integers(0, 3)), max_size=3))
    edges = [(a, b, max(delay, int(a >= b))) for a, b, delay in edges]
    edges = [edge for edge in edges if edge[0] == edge[1] or rule != "ostl_with_recurrence"]
    edges = [edge for edge in dict.fromkeys(edges) if edge[1] != edge[0] + 1 or edge[2]]
    where = draw(st.sets(ends, max_size=1)) if rule != "ostl_with_recurrence" else ()
    delays = {index: np.linspace(0.1, 2.3, sizes[index]) for index in where}
    lengths = draw(st.lists(st.integers(1, T), min_size=B, max_size=B))
    return {
        "rule": rule,
        "route": draw(st.sampled_from(sorted(ROUTES))) if depth > 1 else "symmetric",
        "network": Network(sizes, layers, tuple(edges), {"delays": delays, "use_bias": draw(st.booleans())}),
        "window": draw(st.sampled_from([1, 2, 5])),
        "mask": np.arange(T)[:, None] < np.array(lengths),
        "seed": draw(st.integers(0, 9)),
    }


@settings(max_examples=14, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(trial=trials())
def test_gradient_of_a_random_network_is_that_of_the_oracle(trial):
    entry = TABLE[trial["rule"]]
    model, layers = trial["network"].pair(fixed=entry.fixed)
    x = np.asarray(np.random.default_rng(trial["seed"]).uniform(size=(T, B, 3)) < 0.5, float)
    options = {"route": ROUTES[trial["route"]](), **entry.options}
    rule, mask = sr.RULES[entry.rule or trial["rule"]].make(**options), trial["mask"]
    weights, plain = mask * mask.size / mask.sum(), oracle.softmax_cross_entropy(LABELS)

    def signal(t, outputs):
        losses, slopes = plain(t, outputs)
        return weights[t] * losses, weights[t][:, None] * slopes

    options = {"rule": rule, "window": trial["window"], "mask": jnp.asarray(mask)}
    loss, found = sr.gradients(model, sr.cross_entropy, jnp.asarray(x), sr.PerSequence(jnp.asarray(LABELS)), **options)
    targets = weights[..., None] * np.eye(C)[LABELS]
    expected = entry.oracle(layers, x, signal, route=route_of(rule, model, layers, targets))
    assert float(loss) == pytest.approx(expected.loss, rel=1e-12)
    for ours, theirs in zip(gradients_of(model, found), expected.gradients, strict=True):
        for name, exact in theirs.items():  # a sum over outputs may be zero but for its rounding
            assert np.abs(ours[name] - exact).max() < 1e-11 * np.abs(exact).max() + 1e-16, name
