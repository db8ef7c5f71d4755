"""How closely the rules agree with what they are compared with, and the tables of docs/rules.md that say so.

`PYTHONPATH=tests:. python -m rules.ledger` measures, and writes the tables into the page. The tests measure again and compare
with the bounds that are printed there.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import oracle
from docs.rules_page import replace_sections, section, table
from foreign import by_rule, foreign
from slax_neurons import Connect, Edge, connect
from slax_rules import (
    RULES,
    Adaptive,
    Direct,
    FixedBases,
    Layer,
    Local,
    Random,
    Symmetric,
    Target,
    cross_entropy,
    gradients,
)
from slax_rules.layerwise.stack import plan_stack
from stacks import Conv, Pair, gradients_of, inputs, pair, worst

T, B = 9, 3
LABELS = np.array([0, 3, 2])
SIGNAL = oracle.softmax_cross_entropy(LABELS)


def lif(**options: Any) -> dict[str, Any]:
    return {"kind": "lif", "decay": 0.8, "threshold": 0.7, **options}


def cuba_lif(**options: Any) -> dict[str, Any]:
    return {"kind": "cuba_lif", "threshold": 0.7, **options}


def alif(**options: Any) -> dict[str, Any]:
    return {"kind": "alif", "threshold": 0.7, **options}


LI = {"kind": "li"}
DENSE = {"kind": "none"}


class Network(NamedTuple):
    """Layers as `pair` takes them, all their parameters trainable, and the window that a rule is run with."""

    title: str
    sizes: list[Any]
    neurons: list[dict[str, Any]]
    edges: tuple[tuple[int, int, int], ...] = ()
    window: int = 3

    def pair(self, *, fixed: bool = False, dtype: Any = jnp.float64) -> Pair:
        neurons = [neuron | {"fixed": True} for neuron in self.neurons] if fixed else self.neurons
        return pair(self.sizes, neurons, edges=list(self.edges), dtype=dtype)

    def inputs(self, dtype: Any = jnp.float64) -> jax.Array:
        return inputs(T, B, self.sizes[0], dtype=dtype)


NETWORKS = {
    "lif": Network("LIF, LIF, LI", [7, 6, 5, 4], [lif(), lif(decay=0.6, stop_reset_gradient=True), LI]),
    "zero": Network(
        "LIF reset to zero, three decays",
        [7, 6, 5, 4],
        [lif(reset="zero"), lif(decay=0.6, reset="zero", stop_reset_gradient=True), lif(decay=0.9, reset="zero")],
        window=T,
    ),
    "none": Network(
        "LIF without reset, one decay",
        [7, 6, 4],
        [lif(reset="none"), lif(reset="none", stop_reset_gradient=True)],
        window=1,
    ),
    "cuba_lif": Network("CuBaLIF", [7, 6, 4], [cuba_lif(), cuba_lif(reset="zero", stop_reset_gradient=True)], window=4),
    "alif": Network("ALIF", [7, 6, 4], [alif(), alif(stop_reset_gradient=True)]),
    "dense": Network("IF, LI, no neuron in the last", [7, 6, 5, 4], [{"kind": "if", "threshold": 1.5}, LI, DENSE]),
    "per_neuron": Network(
        "LIF, CuBaLIF, parameters per neuron",
        [7, 6, 4],
        [
            lif(decay=np.linspace(0.5, 0.9, 6), threshold=np.linspace(0.5, 0.8, 6)),
            cuba_lif(synapse_decay=np.linspace(0.4, 0.8, 4), threshold=np.linspace(0.5, 0.8, 4)),
        ],
    ),
    "recurrent": Network("LIF recurrent, LI with delay 2", [7, 6, 4], [lif(), LI], ((0, 0, 1), (1, 1, 2))),
    "edges": Network(
        "LIF, LIF, LI recurrent, feedback, skip",
        [7, 6, 5, 4],
        [lif(), lif(reset="zero"), LI],
        ((0, 0, 1), (1, 0, 1), (2, 0, 2), (0, 2, 0)),
        window=4,
    ),
    "conv": Network(
        "Conv grouped, Conv with strides, LI",
        [(4, 4, 2), Conv(4, (3, 3), groups=2), Conv(3, (2, 2), strides=(2, 2), padding="VALID"), 4],
        [lif(), lif(decay=0.6), LI],
    ),
}
ALL = tuple(NETWORKS)
SOME = ("cuba_lif", "alif", "per_neuron", "edges", "conv")
MOST = ("lif", "zero", "none", "cuba_lif", "alif", "edges", "conv")
FEW = ("zero", "cuba_lif", "recurrent")


class Comparison(NamedTuple):
    """A rule of the table and the oracle's definition of it.

    Args:
        oracle: (layers, inputs, signal, the model, the rule) -> `oracle.Result`.
        networks: names of those that the rule takes.
        options: of the rule, made anew for each comparison.
        fixed: whether the neurons have no parameters.
        ends_in: what the stack ends in behind the last neuron, a function.
        title: where it is not that of the table.
    """

    rule: str
    oracle: Callable[..., oracle.Result]
    networks: tuple[str, ...] = ALL
    options: Callable[[], dict[str, Any]] = dict
    fixed: bool = False
    ends_in: Callable[[Any], Any] | None = None
    title: str | None = None


def by(rule: Callable[..., oracle.Result], **options: Any) -> Callable[..., oracle.Result]:
    return lambda layers, x, signal, model, rule_here: rule(layers, x, signal, **options)


def layers_of(model: Connect) -> tuple[Layer, ...]:
    """The layers of a stack as rules see them."""
    return plan_stack("", model).layers(model)


def matrices_of(rule: Any, model: Connect) -> list[dict[str, np.ndarray]]:
    """What a route puts in the place of each kernel, by the oracle's names."""
    found = []
    for layer in layers_of(model):
        names = ["kernel", *(f"edge{number}_kernel" for number in range(len(layer.synapses) - 1))]
        found.append(dict(zip(names, map(np.asarray, rule.route.kernels(layer)), strict=True)))
    return found


def route_of(rule: Any, model: Connect, layers: Any, x: np.ndarray) -> Any:
    """The oracle's route with the matrices of a rule's route. All layers but the last one are hidden."""
    route = rule.route
    if isinstance(route, Symmetric):
        return oracle.Symmetric()
    if isinstance(route, Random | Adaptive):
        return oracle.Matrices(matrices_of(rule, model))
    steps = oracle.forward(layers, x.reshape(*x.shape[:2], -1))[0]
    hidden = layers_of(model)[:-1]
    matrices = [
        np.asarray(route.matrix(layer, step.output.shape[1], 4, jnp.float64))
        for layer, step in zip(hidden, steps, strict=False)
    ]
    if isinstance(route, Target):
        return oracle.Target(matrices, np.eye(4)[LABELS])
    if isinstance(route, Direct):
        return oracle.Direct(matrices)
    assert isinstance(route, Local | FixedBases)
    return oracle.Local(matrices)


def along(rule: Callable[..., oracle.Result], **options: Any) -> Callable[..., oracle.Result]:
    """A rule of the oracle with the route of ours."""

    def run(layers: Any, x: Any, signal: Any, model: Connect, rule_here: Any) -> oracle.Result:
        return rule(layers, x, signal, route=route_of(rule_here, model, layers, x), **options)

    return run


def s_tllr(layers: Any, x: Any, signal: Any, *, route: Any = None) -> oracle.Result:
    """S-TLLR, with OTTT for a last layer without spikes."""
    hidden = oracle.STLLR(0.75, 0.2, 1.0, -1.0, None, False)
    last = hidden if hasattr(layers[-1].neuron, "spike") else oracle.OTTT(False)
    return oracle.run(oracle.PerLayer([*[hidden] * (len(layers) - 1), last], route=route), layers, x, signal)


@functools.cache
def _fixed_read_out() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 4)) / 2


def _read_out(spikes: jax.Array) -> jax.Array:
    return spikes @ jnp.asarray(_fixed_read_out(), spikes.dtype)


def _decolle(layers: Any, x: Any, signal: Any, model: Connect, rule: Any) -> oracle.Result:
    """Fixed read-outs of the hidden layers; behind the last one there is one that is part of the model."""
    whole = [*layers, oracle.Layer(_fixed_read_out(), None, oracle.Dense())]
    found = oracle.ottt(whole, x, signal, route=route_of(rule, model, layers, x))
    return found._replace(gradients=found.gradients[:-1])


def _given(**options: Any) -> Callable[[], dict[str, Any]]:
    return lambda: options


COMPARISONS = {
    "bptt": Comparison("bptt", by(oracle.bptt), SOME),
    "tbptt": Comparison(
        "tbptt", by(oracle.tbptt, window=4), ("cuba_lif", "recurrent"), _given(steps=4), title="TBPTT(4)"
    ),
    "rtrl": Comparison("rtrl", by(oracle.rtrl), ("zero", "recurrent")),
    "snap": Comparison("snap", by(oracle.snap), ("recurrent",)),
    "ostl": Comparison("ostl", by(oracle.ostl)),
    "ostl_with_recurrence": Comparison("ostl_with_recurrence", by(oracle.ostl, with_h=True), FEW),
    "otpe": Comparison("otpe", by(oracle.otpe), ("zero", *SOME)),
    "otpe given a decay": Comparison(
        "otpe",
        by(oracle.otpe, next_decay=lambda *_: 0.7),
        ("zero",),
        _given(output_decay=0.7),
        title="OTPE, output_decay",
    ),
    "approximate_otpe": Comparison("approximate_otpe", by(oracle.approximate_otpe), ("zero", "alif", "edges", "conv")),
    "approximate_otpe as the authors": Comparison(
        "approximate_otpe",
        by(oracle.approximate_otpe, bias_trace=False, next_decay=lambda *_: 0.7),
        ("cuba_lif",),
        _given(bias_trace=False, output_decay=0.7),
        title="approximate OTPE, output_decay, no trace of biases",
    ),
    "ottt": Comparison("ottt", by(oracle.ottt), MOST),
    "ottt as the authors": Comparison(
        "ottt",
        by(oracle.ottt, bias_trace=False),
        ("recurrent",),
        _given(bias_trace=False),
        title="OTTT, no trace of biases",
    ),
    "sltt": Comparison("sltt", by(oracle.sltt), SOME),
    "e_prop": Comparison("e_prop", by(oracle.e_prop), ("dense", *SOME)),
    "e_prop given a decay": Comparison(
        "e_prop", by(oracle.e_prop, kappa=0.7), ("zero",), _given(output_decay=0.7), title="e-prop, output_decay"
    ),
    "e_prop_random": Comparison("e_prop_random", along(oracle.e_prop), ("edges", "conv")),
    "e_prop_adaptive": Comparison("e_prop_adaptive", along(oracle.e_prop), ("edges", "conv")),
    "e_prop_direct": Comparison("e_prop_direct", along(oracle.e_prop), ("zero", "edges", "conv")),
    "pp_prop": Comparison(
        "pp_prop", by(oracle.pp_prop, decay=0.8), ("zero", "alif", "edges", "conv"), _given(decay=0.8), fixed=True
    ),
    "decolle": Comparison(
        "decolle",
        _decolle,
        ("zero", "cuba_lif", "recurrent", "conv"),
        ends_in=_read_out,
    ),
    "hypr": Comparison("hypr", by(oracle.ostl), ("alif", "recurrent")),
    "s_tllr": Comparison("s_tllr", along(s_tllr), ("zero", "alif", "edges", "conv"), fixed=True),
    "tess": Comparison("tess", along(s_tllr), ("zero", "alif", "edges", "conv"), fixed=True),
    "osttp": Comparison("osttp", along(oracle.ostl), SOME),
    "etlp": Comparison("etlp", along(oracle.ottt, bias_trace=False), ("zero", "cuba_lif", "recurrent", "conv")),
    "dfa": Comparison("dfa", along(oracle.sltt), SOME),
    "drtp": Comparison("drtp", along(oracle.sltt), SOME),
}
CASES = [(name, network) for name, comparison in COMPARISONS.items() for network in comparison.networks]


def deviation_from_oracle(name: str, network: str, dtype: Any = jnp.float64) -> float:
    """The largest relative deviation of a parameter's gradient, and of the loss."""
    comparison, net = COMPARISONS[name], NETWORKS[network]
    model, layers = net.pair(fixed=comparison.fixed, dtype=dtype)
    if comparison.ends_in is not None:
        model = with_end(model, comparison.ends_in)
    rule = RULES[comparison.rule].make(rngs=nnx.Rngs(5), model=model, **comparison.options())
    x = net.inputs(dtype)
    loss, found = gradients(model, cross_entropy, x, jnp.asarray(LABELS), rule=rule, window=net.window)
    expected = comparison.oracle(layers, np.asarray(x, np.float64), SIGNAL, model, rule)
    return max(worst(gradients_of(model, found), expected.gradients), abs(float(loss) / expected.loss - 1))


def with_end(model: Connect, end: Callable[[Any], Any]) -> Connect:
    """The stack with one more module, of the same parameters."""
    pairs = zip(model.edges, model.synapses, strict=True)
    edges = [Edge(edge.sender, edge.receiver, edge.steps, synapse) for edge, synapse in pairs]
    return connect([*model.modules, end], edges)


def _chunk_of_one(run: Any) -> oracle.Gradients:
    index = list(run.data["chunks"]).index(1)
    return [{name: array[index] for name, array in layer.items()} for layer in run.theirs]


class Foreigner(NamedTuple):
    """A run of another library's rule, and the part of its gradients that is the same by definition."""

    rule: str
    library: str
    file: str
    same: str
    part: slice = slice(None)
    options: Callable[[Any], dict[str, Any]] = lambda run: {"window": 2}
    theirs: Callable[[Any], oracle.Gradients] = lambda run: run.theirs


def _no_bias_trace(run: Any) -> dict[str, Any]:
    return {"window": 2, "bias_trace": False}


FOREIGN = [
    Foreigner("sltt", "spikingjelly 2.0.0", "spikingjelly_sltt", "all"),
    Foreigner(
        "ottt", "spikingjelly 2.0.0", "spikingjelly_ottt", "layers above the first", slice(1, None), _no_bias_trace
    ),
    Foreigner(
        "ottt", "sparxml 0.1.1", "sparx_ottt", "the layer between first and read-out", slice(1, 2), _no_bias_trace
    ),
    Foreigner("e_prop", "sparxml 0.1.1", "sparx_e_prop", "all, of a recurrent layer"),
    Foreigner("e_prop", "sparxml 0.1.1", "sparx_e_prop_reset", "all, with the reset's gradient"),
    Foreigner("ostl", "braintrace 0.2.8", "braintrace_d_rtrl", "all of D-RTRL, step by step", theirs=_chunk_of_one),
    Foreigner("ostl", "braintrace 0.2.8", "braintrace_recurrent_d_rtrl", "all of D-RTRL, of a recurrent layer"),
    Foreigner(
        "ostl_with_recurrence",
        "braintrace 0.2.8",
        "braintrace_recurrent_snap_2",
        "all of SnAp(n=2), of a recurrent layer",
    ),
    Foreigner(
        "pp_prop",
        "braintrace 0.2.8",
        "braintrace_pp_prop",
        "all, step by step",
        options=lambda run: {"window": 2, "decay": float(run.data["pp_decay"])},
        theirs=_chunk_of_one,
    ),
]


def deviation_from_library(foreigner: Foreigner) -> float:
    run = foreign(foreigner.file)
    ours = by_rule(foreigner.rule, run, **foreigner.options(run))
    return worst(ours[foreigner.part], foreigner.theirs(run)[foreigner.part])


# --------------------------------------------------------------------------------------------------------------- the page


def bound(deviation: float) -> str:
    """A power of ten above it, with room for another machine's rounding."""
    return f"1e{max(math.ceil(math.log10(max(deviation, 1e-99))) + 1, -12):d}"


def title(name: str) -> str:
    return COMPARISONS[name].title or RULES[COMPARISONS[name].rule].title


def oracle_table(bounds: dict[tuple[str, str], str]) -> str:
    rows = [[f"{title(name)}", *(bounds.get((name, network), "") for network in NETWORKS)] for name in COMPARISONS]
    return table(["rule", *(network.title for network in NETWORKS.values())], rows)


def library_table(bounds: list[str]) -> str:
    rows = [
        [RULES[one.rule].title, one.library, f"`{one.file}`", one.same, limit]
        for one, limit in zip(FOREIGN, bounds, strict=True)
    ]
    return table(["rule", "library", "run", "what is the same", "deviation below"], rows)


def printed(name: str) -> list[list[str]]:
    """The cells of a generated table, without its header."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in section(name).splitlines()[2:]]


@functools.cache
def printed_bounds() -> dict[tuple[str, str], float]:
    cells = {
        (name, network): cell
        for name, row in zip(COMPARISONS, printed("oracle"), strict=True)
        for network, cell in zip(NETWORKS, row[1:], strict=True)
    }
    return {case: float(cell) for case, cell in cells.items() if cell}


def write() -> None:
    """Measures everything and puts the tables into the page."""
    with jax.enable_x64(True):
        against_oracle = {case: bound(deviation_from_oracle(*case)) for case in CASES}
        against_libraries = [bound(deviation_from_library(one)) for one in FOREIGN]
    replace_sections({"oracle": oracle_table(against_oracle), "libraries": library_table(against_libraries)})


if __name__ == "__main__":
    write()
