"""What each rule is compared with: the one table. A new rule is one entry here, and its equations, which may stand here too."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

import oracle
from slax_neurons import Connect
from slax_rules import RULES, Symmetric, gradients, testing
from slax_rules.engine.stack import Stack, with_plain_synapses
from slax_rules.penalties import Penalty, firing_rate, sparsity
from slax_rules.rules.routes import Direct, FixedBases, Local, Target
from stacks import Conv, Pair, gradients_of, pair

# Four windows of three steps, which are one program: of up to three the last one is a program by itself, see `over_windows`.
T, B, C = 12, 3, 4
WINDOW = 3


def lif(**options: Any) -> dict[str, Any]:
    return {"kind": "lif", "decay": 0.8, "threshold": 0.7, **options}


LI = {"kind": "li", "decay": 0.7}
DETACHED = {"stop_reset_gradient": True}


def per_unit(kind: str, n: int, **values: float) -> dict[str, Any]:
    """One number for each unit."""
    return {"kind": kind, **{name: value * np.linspace(0.9, 1.0, n) for name, value in values.items()}}


ADLIF = {"decay": 0.8, "adaptation_decay": 0.9, "a": 0.2, "b": 0.4, "threshold": 0.9}


@dataclasses.dataclass(frozen=True)
class Network:
    """Layers as `pair` takes them."""

    sizes: list[Any]
    neurons: list[dict[str, Any]]
    edges: tuple[tuple[int, int, int], ...] = ()
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def pair(self, *, fixed: bool = False, own_edges: bool = False, dtype: Any = jnp.float64) -> Pair:
        edges = [edge for edge in self.edges if not own_edges or edge[0] == edge[1]]
        neurons = [neuron | ({"fixed": fixed} if neuron["kind"] != "none" else {}) for neuron in self.neurons]
        return pair(self.sizes, neurons, edges=edges, dtype=dtype, **self.options)


def _delays(n: int, seed: int) -> np.ndarray:
    """Between steps, at a whole number of them, and none; the shorter ones let signals pass down."""
    return np.concatenate([[0.0, 2.0, 0.4], np.random.default_rng(seed).uniform(0, 5, n - 3)])


OWN = ((0, 0, 1),)  # the first layer is recurrent
CUBA_LIF, ALIF = {"kind": "cuba_lif", "reset": "zero", "threshold": 0.7}, {"kind": "alif", "threshold": 0.7}
BRF = {"omega": 30.0, "b_offset": 2.0, "threshold": 0.7, "refractory_decay": 0.8}
ADLIFS = [per_unit("adlif", n, **ADLIF) for n in (5, C)]
CUBA_LIFS = per_unit("cuba_lif", C, synapse_decay=0.6, threshold=0.7) | {"decay": 0.8}
CONVS = [Conv(4, (3, 3), groups=2), Conv(3, (2, 2), strides=(2, 2), padding="VALID")]
EDGES = ((0, 0, 1), (1, 0, 1), (2, 0, 2), (0, 2, 0), (0, 1, 3))
DELAYS = {"delays": {index: _delays(n, index) for index, n in enumerate((7, 6, 5))}}
NETWORKS = {
    # No reset has a gradient and the last layer integrates: what all claims of exactness ask for.
    "chain": Network([7, 6, 5, C], [lif(**DETACHED), lif(decay=0.6, **DETACHED), LI]),
    "edges": Network([7, 6, 5, C], [lif(), lif(decay=0.6, reset="zero"), LI], EDGES),
    "states": Network([7, 6, 5, C], [CUBA_LIF, ALIF, lif(reset="none")], ((0, 0, 2), (2, 2, 1))),
    "units": Network([7, 6, C], [per_unit("lif", 6, decay=0.8, threshold=0.7), CUBA_LIFS], OWN),
    "conv": Network([(4, 4, 2), *CONVS, C], [lif(), lif(decay=0.6), LI]),
    "linear last": Network([7, 6, 5, C], [{"kind": "if", "threshold": 1.5}, lif(), {"kind": "none"}], OWN),
    "delays": Network([7, 6, 5, C], [lif(), CUBA_LIF, LI], ((0, 0, 1), (1, 0, 2), (0, 2, 0)), DELAYS),
    "adlif": Network([7, 5, C], ADLIFS, OWN, {"gain": 10}),
    "adlif of a layer": Network([7, 5, C], [{"kind": "adlif", **ADLIF}] * 2, OWN, {"gain": 10}),
    "symplectic": Network(
        [7, 5, C], [one | {"q": 20.0, "reset": "zero", **DETACHED} for one in ADLIFS], OWN, {"gain": 10}
    ),
    "brf": Network([7, 5, C], [per_unit("brf", n, **BRF) | {"dt": 0.01} for n in (5, C)], OWN, {"gain": 120}),
}
SPIKES = np.random.default_rng(0).uniform(size=(T, B, 32)) < 0.4
X, LABELS, F64 = SPIKES[..., :7].astype(float), np.array([0, 3, 2]), {"param_dtype": jnp.float64}


def inputs_of(network: str) -> np.ndarray:
    size = NETWORKS[network].sizes[0]
    return SPIKES.astype(float).reshape(T, B, *size) if isinstance(size, tuple) else SPIKES[..., :size].astype(float)


# ---------------------------------------------------------------------------------------------------- the loss and the mask

# The last number of a target is the weight of the loss of its step, so that doubling it doubles the loss.
TARGETS = np.random.default_rng(1).normal(size=(T, B, C))
TARGETS[..., -1] = np.random.default_rng(2).uniform(0.5, 1.5, (T, B))
MASK = np.random.default_rng(4).uniform(size=(T, B)) < 0.7
MASK[3:6] = False  # a window in which nothing counts
PADDING = np.arange(T)[:, None] >= np.array([11, 10, 12])
MASK &= ~PADDING
ALL = np.ones((T, B), bool)


def weighted_squares(outputs: Any, targets: Any) -> Any:
    return targets[..., -1] * ((outputs - targets)[..., :-1] ** 2).mean(axis=-1)


def signal_of(targets: np.ndarray, mask: np.ndarray) -> Callable[..., Any]:
    """`weighted_squares` in the mean over what counts, as the oracle reads losses."""
    weights = weights_of(mask) * targets[..., -1]

    def signal(t: int, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        error = np.where(np.arange(C) < C - 1, outputs - targets[t], 0.0)
        return weights[t] * (error**2).sum(axis=1) / (C - 1), weights[t][:, None] * 2 * error / (C - 1)

    return signal


def weights_of(mask: np.ndarray) -> np.ndarray:
    """The weight of each loss in a mean over all, for the mean over those that count."""
    return mask * mask.size / mask.sum()


# ------------------------------------------------------------------------------------------------------- losses of layers


def squares(values: Any) -> Any:
    return (values**2).sum(axis=tuple(range(1, values.ndim)))


def waves(values: Any) -> Any:
    return jnp.sin(2 * values - 1).sum(axis=tuple(range(1, values.ndim)))


def of_mean(mean: Any) -> Any:
    return jnp.sin(3 * mean).sum() + mean.mean() ** 2


# A penalty of ours, and the loss and the slope as the oracle has them.
PENALTIES: list[tuple[Penalty, Callable[..., Any]]] = [
    (Penalty(squares, 0.7, layers=(0, 1)), lambda y: ((y**2).sum(axis=1), 2 * y)),
    (firing_rate(0.1, 3.0, layers=(0,)), lambda m: (((m - 0.1) ** 2).sum() / 2, m - 0.1)),
    (sparsity(0.2, layers=(1,)), lambda y: (np.abs(y).sum(axis=1), np.where(y >= 0, 1.0, -1.0))),
    (Penalty(waves, 0.3, layers=(2,)), lambda y: (np.sin(2 * y - 1).sum(axis=1), 2 * np.cos(2 * y - 1))),
    (
        Penalty(of_mean, 0.8, layers=(1,), of_mean=True),
        lambda m: (np.sin(3 * m).sum() + m.mean() ** 2, 3 * np.cos(3 * m) + 2 * m.mean() / len(m)),
    ),
]


def by_oracle(penalties: Any, mask: np.ndarray) -> list[oracle.Penalty]:
    return [
        oracle.Penalty(layer, function, penalty.weight, penalty.of_mean, mask)
        for penalty, function in penalties
        for layer in penalty.layers
    ]


# ---------------------------------------------------------------------------------------------------------------- the rules


class Entry(NamedTuple):
    """A rule and the oracle's definition of it.

    Args:
        oracle: (layers, inputs, signal, and for rules by layers route=) -> `oracle.Result`.
        networks: names of those on which the two are compared.
        rule: the name in `RULES`; that of the entry where it is not given.
        options: of the rule.
        fixed: whether the neurons have no parameters, for which the rule has no gradient.
        own_edges: whether the rule takes edges from a layer to itself alone.
    """

    oracle: Callable[..., oracle.Result]
    networks: tuple[str, ...]
    rule: str | None = None
    options: Mapping[str, Any] = MappingProxyType({})
    fixed: bool = False
    own_edges: bool = False


S_TLLR = {"lambda_pre": 0.7, "lambda_post": 0.3, "alpha_pre": 1.1, "alpha_post": -0.4}


def s_tllr(layers: Any, x: Any, signal: Any, **running: Any) -> Any:
    """Hidden layers have S-TLLR, and so has a last one that fires; another last one has OTTT."""
    hidden = oracle.STLLR(*S_TLLR.values(), bias_trace=False)
    last = hidden if hasattr(layers[-1].neuron, "spike") else oracle.OTTT(False)
    rule = oracle.PerLayer([*[hidden] * (len(layers) - 1), last], route=running.pop("route", None))
    return oracle.run(rule, layers, x, signal, **running)


# Not "edges" first, where layers have losses of their own. Rules with the same traces share what neurons, convolutions, delays
# and read-outs do to them: one of each kind of trace has all, and test_random.py and test_pieces_change_nothing have others.
TABLE = {
    "bptt": Entry(oracle.bptt, ("states", "edges")),
    "tbptt": Entry(partial(oracle.bptt, window=4), ("states", "edges"), options={"steps": 4}),
    "rtrl": Entry(oracle.bptt, ("units", "edges")),
    "snap": Entry(oracle.snap, ("symplectic",)),
    "snap 2": Entry(partial(oracle.snap, n=2), ("edges",), "snap", {"n": 2}),
    "sketched_rtrl": Entry(partial(oracle.sketched_rtrl, rank=1), ("linear last",), options={"rank": 1}, fixed=True),
    "ostl": Entry(oracle.ostl, ("chain", "edges", "states", "conv", "units")),
    "ostl_with_recurrence": Entry(partial(oracle.ostl, with_h=True), ("chain", "states"), own_edges=True),
    "otpe": Entry(oracle.otpe, ("chain", "linear last")),
    "otpe given a decay": Entry(
        partial(oracle.otpe, next_decay=lambda *_: 0.7), ("adlif",), "otpe", {"output_decay": 0.7}
    ),
    "approximate_otpe": Entry(oracle.approximate_otpe, ("chain", "edges", "conv")),
    "approximate_otpe as the authors": Entry(
        partial(oracle.approximate_otpe, bias_trace=False, next_decay=lambda *_: 0.7),
        ("states",),
        "approximate_otpe",
        {"bias_trace": False, "output_decay": 0.7},
    ),
    "ottt": Entry(oracle.ottt, ("chain", "edges", "states", "conv", "delays", "adlif of a layer")),
    "sltt": Entry(oracle.sltt, ("chain", "linear last")),
    "e_prop": Entry(oracle.e_prop, ("chain",)),
    "e_prop given a decay": Entry(partial(oracle.e_prop, kappa=0.6), (), "e_prop", {"output_decay": 0.6}),
    "e_prop_random": Entry(oracle.e_prop, ("chain",)),
    "e_prop_adaptive": Entry(oracle.e_prop, ("chain",)),
    "e_prop_direct": Entry(oracle.e_prop, ("chain",)),
    "pp_prop": Entry(partial(oracle.pp_prop, decay=0.8), ("chain", "edges", "brf"), options={"decay": 0.8}, fixed=True),
    "decolle": Entry(oracle.ottt, ("chain",)),
    "opzo": Entry(oracle.ottt, ("chain",)),
    "hypr": Entry(oracle.ostl, ("chain",)),
    "s_tllr": Entry(s_tllr, ("chain", "edges", "conv"), options=S_TLLR, fixed=True),
    "tess": Entry(s_tllr, ("chain",), options=S_TLLR, fixed=True),
    "osttp": Entry(oracle.ostl, ("chain",)),
    "rflo": Entry(oracle.ostl, ("chain",)),
    "etlp": Entry(partial(oracle.ottt, bias_trace=False), ("chain",)),
    "dfa": Entry(oracle.sltt, ("linear last",)),
    "drtp": Entry(oracle.sltt, ("linear last",)),
    # A route that no name of the registry combines with this rule; test_layers.py has others.
    "otpe, bases": Entry(oracle.otpe, ("conv",), "otpe", {"route": FixedBases("sine")}),
}


def made(name: str, model: Connect) -> Any:
    """The rule of an entry for a model, which draws the same numbers each time that it is made."""
    entry = TABLE[name]
    return RULES[entry.rule or name].make(rngs=nnx.Rngs(5), model=model, **entry.options)


def layers_of(model: Connect) -> Any:
    """The layers of a stack as rules see them."""
    return Stack.read(with_plain_synapses(model)).layers


def route_of(rule: Any, model: Connect, layers: Any, targets: np.ndarray) -> oracle.routes.Route:
    """The oracle's route with the matrices of a rule's route; `targets` are those of each step times their weights."""
    route, seen = rule.route, layers_of(model)
    if isinstance(route, Symmetric):
        return oracle.Symmetric()
    if not isinstance(route, Direct | Target | Local | FixedBases):
        named = [["kernel", *(f"edge{n}_kernel" for n in range(len(layer.synapses) - 1))] for layer in seen]
        kernels = [[np.asarray(kernel) for kernel in route.kernels(layer)] for layer in seen]
        matrices = [dict(zip(names, found, strict=True)) for names, found in zip(named, kernels, strict=True)]
        return oracle.Matrices([*matrices, *({"kernel": layer.kernel} for layer in layers[len(seen) :])])
    hidden = zip(seen[:-1], layers, strict=False)
    matrices = [np.asarray(route.matrix(ours, theirs.size, C, jnp.float64)) for ours, theirs in hidden]
    if isinstance(route, Target):
        return oracle.Target(matrices, targets)
    return oracle.Direct(matrices) if isinstance(route, Direct) else oracle.Local(matrices)


# ------------------------------------------------------------------------------------------------------------- the programs


class Found(NamedTuple):
    loss: float
    gradients: list[dict[str, np.ndarray]]  # per layer and name, as the oracle has them


class Case(NamedTuple):
    """A rule of the table on a network, which nothing changes. `gradients` keeps one compiled program for it and a window, to
    which inputs, targets and the mask are arguments: a law that changes these alone costs milliseconds."""

    name: str
    model: Connect
    layers: list[oracle.Layer]
    rule: Any
    inputs: np.ndarray

    def run(
        self, x: Any = None, targets: Any = TARGETS, mask: Any = ALL, window: int | None = WINDOW, **options: Any
    ) -> Found:
        """By the package. Without a mask, a program of its own."""
        x = jnp.asarray(self.inputs if x is None else x)
        mask = None if mask is None else jnp.asarray(mask)
        loss, found = gradients(
            self.model, weighted_squares, x, jnp.asarray(targets), rule=self.rule, window=window, mask=mask, **options
        )
        return Found(float(loss), gradients_of(self.model, found))

    def trial(self, penalties: Any = ()) -> testing.Case:
        """The same for the laws that users check their rules by, which share the program."""
        batch = {"loss_fn": weighted_squares, "inputs": self.inputs, "targets": TARGETS}
        return testing.Case(lambda: (self.model, nnx.clone(self.rule)), **batch, penalties=penalties)

    def expected(self, x: Any = None, targets: Any = TARGETS, mask: Any = ALL, rule: Any = None, **options: Any) -> Any:
        """By the oracle: under this rule, or another one of the oracle's."""
        if rule is None:
            rule = TABLE[self.name].oracle
            if hasattr(self.rule, "route"):
                weighted = targets * weights_of(mask)[..., None]
                options = options | {"route": route_of(self.rule, self.model, self.layers, weighted)}
        return rule(self.layers, self.inputs if x is None else x, signal_of(targets, mask), **options)


@cache
def case(name: str, network: str) -> Case:
    entry = TABLE[name]
    model, layers = NETWORKS[network].pair(fixed=entry.fixed, own_edges=entry.own_edges)
    return Case(name, model, layers, made(name, model), inputs_of(network))
