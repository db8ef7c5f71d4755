"""The registry of learning rules, with each rule's requirements, conditions for exactness, omissions, costs and sources."""

import dataclasses
import difflib
import functools
import importlib.resources
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from flax import nnx

from slax_neurons.building_blocks import Table
from slax_rules.bptt import BPTT, TBPTT
from slax_rules.forward_propagation import fptt
from slax_rules.influence.rtrl import RTRL
from slax_rules.influence.snap import SnAp
from slax_rules.influence.uoro import UORO
from slax_rules.layerwise.layer import LayerRule, Route, Symmetric
from slax_rules.layerwise.ostl import OSTL
from slax_rules.layerwise.otpe import OTPE, ApproximateOTPE, EProp
from slax_rules.layerwise.ottt import DECOLLE, OTTT
from slax_rules.layerwise.pp_prop import PPProp
from slax_rules.layerwise.routes import Adaptive, Direct, FixedBases, Random, Target
from slax_rules.layerwise.s_tllr import STLLR
from slax_rules.layerwise.sltt import SLTT
from slax_rules.rule import LearningRule

# What `slax_rules` takes from here: a new rule is its file, its entry in `RULES`, and its name in this list.
__all__ = [
    "BPTT", "DECOLLE", "OSTL", "OTPE", "OTTT", "RTRL", "RULES", "SLTT", "STLLR", "TBPTT", "UORO", "ApproximateOTPE", "EProp",
    "Exactness", "PPProp", "RuleEntry", "SnAp", "cite",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Exactness:
    """The conditions under which a rule's gradient equals BPTT's.

    Args:
        always: exact for every model and sequence.
        in_the_mean: exact in the mean over the rule's noise, for every model and sequence.
        last_layers: number of layers, from the last one downward, for which it is exact in a stack without late edges.
        steps: exact for every sequence of at most this number of steps; 0 if for none.
        condition: condition for the above, and other cases in which it is exact; empty if there is nothing to add.

    Example:
        >>> from slax_rules import RULES, Exactness
        >>> print(RULES["tbptt"].exact)
        a sequence of up to 10 steps
        >>> print(Exactness(last_layers=1))
        last layer of a stack; a sequence of one step
    """

    always: bool = False
    in_the_mean: bool = False
    last_layers: int = 0
    steps: int = 1
    condition: str = ""

    def __str__(self) -> str:
        if self.always:
            return "always"
        parts = ["in the mean over its noise"] if self.in_the_mean else []
        if self.last_layers:
            layers = "last layer" if self.last_layers == 1 else f"last {self.last_layers} layers"
            parts.append(f"{layers} of a stack")
        if self.condition.startswith("if "):
            parts[-1] = f"{parts[-1]} {self.condition}"
        elif self.condition:
            parts.append(self.condition)
        if self.steps:
            parts.append("a sequence of one step" if self.steps == 1 else f"a sequence of up to {self.steps} steps")
        return "; ".join(parts)


@functools.cache
def bibliography() -> dict[str, str]:
    """The BibTeX entries of rules.bib, by key."""
    text = (importlib.resources.files("slax_rules") / "rules.bib").read_text("utf-8")
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry for entry in text.strip().split("\n\n")}


def _in_short(entry: str) -> str:
    fields = dict(re.findall(r"(\w+) = \{(.*)\}", entry.replace(r"{\o}", "ø").replace(r"{\'e}", "é")))
    names = [author.split(",")[0] for author in fields["author"].split(" and ")]
    authors = ", ".join(names) if len(names) <= 3 else f"{names[0]} et al."
    where = [f", {kind} {fields[name]}" for name, kind in (("eprint", "arXiv"), ("doi", "doi")) if name in fields]
    return "".join([f"{authors} {fields['year']}", *where[:1]])


@dataclasses.dataclass(frozen=True)
class RuleEntry:
    """A learning rule: `gradients(model, ..., rule=RULES["otpe"].make())`.

    `RULES["mine"] = RuleEntry(title="mine", rule=Mine)` adds a rule of your own, also to the experiments of this repository,
    and so does an entry point `mine` of an installed package, in the group `slax.rules`.

    Args:
        title: its name in figures and tables.
        rule: its class.
        requires: the models that it can handle.
        exact: the conditions under which its gradient equals BPTT's.
        omits: the paths that its gradient leaves out.
        memory: count of numbers it carries per sample for a layer of I inputs and N neurons with S states each; P = I N.
        time: time of a step of such a layer, in the same symbols, up to a constant.
        cites: keys in rules.bib of the publications that define it.
        options: options of the class for this entry.
        route: the class of its route, if it is not `Symmetric`.
        needs_rngs: whether it is constructed with `rngs`.
        updates: the ways to update with its gradient: "offline", "online".
        optimizer: a wrapper of the optimizer, if the rule is implemented there.

    Example:
        >>> from slax_rules import RULES
        >>> entry = RULES["tbptt"]
        >>> entry.title, entry.source
        ('TBPTT(10)', 'Williams, Peng 1990, doi 10.1162/neco.1990.2.4.490')
        >>> entry.make(steps=20)
        TBPTT(steps=20)
    """

    title: str
    rule: type[LearningRule] | type[LayerRule]
    requires: str = ""
    exact: Exactness = Exactness(steps=0)
    omits: str = ""
    memory: str = ""
    time: str = ""
    cites: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    route: Callable[..., Route] | None = None
    needs_rngs: bool = False
    updates: tuple[Literal["offline", "online"], ...] = ("offline", "online")
    optimizer: Callable[..., Any] | None = None

    @property
    def bibtex(self) -> str:
        """The publications that define it, as BibTeX."""
        return "\n\n".join(bibliography()[key] for key in self.cites)

    @property
    def source(self) -> str:
        """The same in short: authors, year, and the number at arXiv or the DOI."""
        return "; ".join(_in_short(bibliography()[key]) for key in self.cites)

    def make(self, *, rngs: nnx.Rngs | None = None, model: Any = None, **options: Any) -> LearningRule | LayerRule:
        """Make the rule, with options in addition to the entry's.

        Args:
            rngs: random streams for rules that draw numbers; others ignore them.
            model: the model, for `Adaptive` feedback, whose matrices have the shapes of its kernels; others ignore it.
            **options: options of the class; with a `route`, neither rngs nor a model is needed.

        Raises:
            TypeError: no `rngs`, or no model, for a rule that needs them.
        """
        if "route" in options:
            return self.rule(**{**self.options, **options})
        if self.needs_rngs and rngs is None:
            raise TypeError(f"{self.title} draws random numbers, got no rngs. Give them: make(rngs=nnx.Rngs(0)).")
        drawn: dict[str, Any] = {"rngs": rngs} if self.needs_rngs else {}
        if self.route is Adaptive:
            if model is None:
                raise TypeError(
                    f"{self.title} learns a matrix for each kernel of a model, got no model. Give it: "
                    "make(rngs=rngs, model=model)."
                )
            options["route"] = self.route(model, **drawn)
        elif self.route is not None:
            options["route"] = self.route(**drawn)
        else:
            options |= drawn
        return self.rule(**{**self.options, **options})


class Rules(Table[RuleEntry]):
    """The registry, whose error for an unknown name lists the known names."""

    def __init__(self, **library: RuleEntry):
        super().__init__("slax.rules", RuleEntry, library)

    def __missing__(self, name: str) -> RuleEntry:
        plain = {known.replace("_", ""): known for known in self}
        close = difflib.get_close_matches(str(name).lower().replace("_", "").replace("-", ""), plain, n=1)
        hint = f" Did you mean {plain[close[0]]!r}?" if close else ""
        raise KeyError(f"RULES got the name {name!r}, expected one of: {', '.join(self)}.{hint}")


ANY_CELL = "any cell"
LAYERS = "layers of a Linear or Conv and any element-wise neuron"
UNIFORM = "layers of a Linear or Conv and a linear neuron whose parameters are the same in the entire layer"
ONE_DECAY = "with one decay in the layer above"
ABOVE = "paths through the memory of the layers above, and over late edges"
KERNELS = "layers of a Linear or Conv and any element-wise neuron, with a kernel in each edge"
TARGETS = "labels, or targets in the shape of the outputs"
LAST = "a single layer; a layer with no memory above it"
READ_OUT_KERNEL = "the kernels of a last layer without spikes"
NO_MEMORY = "the last layer, where its neurons have no memory"
NO_SIGNALS = "all signals from above, in whose place is the projected target"
FEEDBACK = "hidden layers get the error of the read-out through random matrices"


def _along(entry: RuleEntry, route: Callable[..., Route], title: str, **changes: Any) -> RuleEntry:
    """An entry along a route that draws numbers, which is exact in the last layer alone."""
    changes.setdefault("exact", Exactness(last_layers=1, steps=0))
    return dataclasses.replace(entry, title=title, route=route, needs_rngs=True, **changes)


_BPTT = RuleEntry(
    title="BPTT",
    rule=BPTT,
    requires=ANY_CELL,
    exact=Exactness(always=True),
    omits="nothing",
    memory="T (I + N S)",
    time="P",
    cites=("werbos1990bptt",),
    updates=("offline",),
)
_OSTL = RuleEntry(
    title="OSTL",
    rule=OSTL,
    requires=LAYERS,
    exact=Exactness(last_layers=1, condition=LAST),
    omits=ABOVE,
    memory="S P",
    time="S^2 P",
    cites=("bohnstingl2022ostl",),
)
_OTTT = RuleEntry(
    title="OTTT",
    rule=OTTT,
    requires=UNIFORM,
    exact=Exactness(
        last_layers=1, condition="if states depend on spikes by no gradient (a detached reset; not ALIF, AdLIF)"
    ),
    omits=f"{ABOVE}; paths through spikes",
    memory="S I",
    time="P",
    cites=("xiao2022ottt",),
)
_SLTT = RuleEntry(
    title="SLTT",
    rule=SLTT,
    requires=LAYERS,
    exact=Exactness(condition="no memory in any neuron"),
    omits="all paths through time",
    memory="0",
    time="P",
    cites=("meng2023sltt",),
)
_E_PROP = RuleEntry(
    title="e-prop",
    rule=EProp,
    requires=f"{LAYERS}, {ONE_DECAY}",
    exact=Exactness(
        last_layers=2,
        condition="if the last one integrates and the other is not recurrent (otherwise the last layer)",
    ),
    omits="paths through time in the layers above, except for one leaky sum, and over late edges",
    memory="(S + 1) P",
    time="S^2 P",
    cites=("bellec2020eprop",),
)
_S_TLLR = RuleEntry(
    title="S-TLLR",
    rule=STLLR,
    requires=f"{LAYERS} that has no parameters of its own",
    exact=Exactness(condition=READ_OUT_KERNEL),
    omits=f"{ABOVE}; the memory of the neuron, in whose place are the rule's own traces",
    memory="I + N",
    time="2 P",
    cites=("apolinario2025stllr",),
)

RULES = Rules(
    bptt=_BPTT,
    tbptt=RuleEntry(
        title="TBPTT(10)",
        rule=TBPTT,
        options={"steps": 10},
        requires=ANY_CELL,
        exact=Exactness(steps=10),
        omits="paths from one piece of the sequence to the next",
        memory="K (I + N S), K = 10",
        time="P",
        cites=("williams1990tbptt",),
    ),
    rtrl=RuleEntry(
        title="RTRL",
        rule=RTRL,
        requires=ANY_CELL,
        exact=Exactness(always=True),
        omits="nothing",
        memory="all states times all parameters of the model",
        time="all states times P",
        cites=("williams1989rtrl",),
    ),
    snap=RuleEntry(
        title="SnAp-1",
        rule=SnAp,
        options={"n": 1},
        requires=ANY_CELL,
        exact=Exactness(
            condition="without edges, for parameters that reach all states of their neuron in one step (not weights before "
            "BRF); with n steps' reach, where n steps reach all"
        ),
        omits="the influence of a parameter on states that it does not reach within n steps",
        memory="all states times all parameters of the model, masked",
        time="all states squared times P",
        cites=("menick2021snap",),
    ),
    uoro=RuleEntry(
        title="UORO",
        rule=UORO,
        needs_rngs=True,
        requires=ANY_CELL,
        exact=Exactness(in_the_mean=True),
        omits="nothing; it adds noise",
        memory="N S + P",
        time="P",
        cites=("tallec2018uoro",),
    ),
    ostl=_OSTL,
    ostl_with_recurrence=dataclasses.replace(
        _OSTL,
        title="OSTL with recurrence",
        options={"recurrence": True},
        requires=f"{LAYERS}, with edges from a layer to itself alone",
        omits="paths through the memory of the layers above",
        memory="N S times P and the layer's own recurrent weights",
        time="N times as much",
    ),
    otpe=RuleEntry(
        title="OTPE",
        rule=OTPE,
        requires=f"{LAYERS}, {ONE_DECAY}",
        exact=Exactness(
            last_layers=2,
            condition="if the last one integrates or has a soft reset that passes no gradient (otherwise the last layer)",
        ),
        omits="paths through time in the layers above, except for one leaky sum",
        memory="(S + 1) P + N",
        time="S^2 P",
        cites=("summe2023otpe",),
    ),
    approximate_otpe=RuleEntry(
        title="approximate OTPE",
        rule=ApproximateOTPE,
        requires=f"{UNIFORM}, {ONE_DECAY}",
        exact=Exactness(condition="where OTPE is, if in addition psi does not change over time"),
        omits="what OTPE omits, paths through spikes, and how psi changes over time",
        memory="2 S I + S N",
        time="P",
        cites=("summe2023otpe",),
    ),
    ottt=_OTTT,
    sltt=_SLTT,
    e_prop=_E_PROP,
    e_prop_random=_along(
        _E_PROP,
        Random,
        "e-prop, random",
        requires=f"{KERNELS}, {ONE_DECAY}",
        omits="what e-prop omits; signals pass below through random matrices",
    ),
    e_prop_adaptive=_along(
        _E_PROP,
        Adaptive,
        "e-prop, adaptive",
        requires=f"{KERNELS}, {ONE_DECAY}",
        omits="what e-prop omits; signals pass below through learned matrices",
        memory="(S + 1) P, and P for the matrices",
    ),
    e_prop_direct=_along(
        _E_PROP,
        Direct,
        "e-prop, direct",
        omits=f"what e-prop omits; {FEEDBACK}",
        time="S^2 P + N C for C outputs",
    ),
    pp_prop=RuleEntry(
        title="pp-prop",
        rule=PPProp,
        requires=f"{LAYERS} that defines integrate and fire and has no parameters of its own",
        exact=Exactness(),
        omits=f"{ABOVE}; everything that a product of two traces cannot represent",
        memory="I + S N",
        time="P",
        cites=("wang2026braintrace",),
    ),
    decolle=dataclasses.replace(
        _OTTT,
        title="DECOLLE",
        rule=DECOLLE,
        needs_rngs=True,
        exact=Exactness(last_layers=1, steps=0, condition="each layer's own loss, where OTTT is exact for it"),
        omits="all signals from above; paths through spikes",
        time="P + N C for C outputs",
        cites=("kaiser2020decolle",),
    ),
    hypr=dataclasses.replace(
        _OSTL,
        title="HYPR",
        omits=f"{ABOVE}; with a reset that reads the stored spike, the authors' code also omits the path through it",
        cites=("baronig2026hypr",),
    ),
    s_tllr=_S_TLLR,
    tess=dataclasses.replace(
        _S_TLLR,
        title="TESS",
        route=FixedBases,
        exact=Exactness(steps=0, condition=READ_OUT_KERNEL),
        omits="all signals from above; the memory of the neuron, in whose place are the rule's own traces",
        time="2 P + N C for C outputs",
        cites=("apolinario2025tess",),
    ),
    osttp=_along(
        _OSTL,
        Target,
        "OSTTP",
        requires=f"{LAYERS}; {TARGETS}",
        omits=NO_SIGNALS,
        time="S^2 P + N C for C outputs",
        cites=("ortner2023osttp",),
    ),
    etlp=_along(
        _OTTT,
        Target,
        "ETLP",
        options={"bias_trace": False},
        requires=f"{UNIFORM}; {TARGETS}; a mask of the events, `random_steps`",
        exact=Exactness(steps=0, condition="the kernels of the last layer, where OTTT is exact for it"),
        omits=f"{NO_SIGNALS}; paths through spikes",
        time="P + N C for C outputs",
        cites=("quintana2024etlp",),
    ),
    dfa=_along(
        _SLTT,
        Direct,
        "DFA",
        exact=Exactness(steps=0, condition=NO_MEMORY),
        omits=f"all paths through time; {FEEDBACK}",
        time="P + N C for C outputs",
        cites=("nokland2016dfa",),
    ),
    drtp=_along(
        _SLTT,
        Target,
        "DRTP",
        requires=f"{LAYERS}; {TARGETS}",
        exact=Exactness(steps=0, condition=NO_MEMORY),
        omits=f"all paths through time; {NO_SIGNALS}",
        time="P + N C for C outputs",
        cites=("frenkel2021drtp",),
    ),
    fptt=dataclasses.replace(
        _BPTT,
        title="FPTT",
        optimizer=fptt,
        updates=("online",),
        exact=Exactness(),
        omits="all paths from one window to the next; a regularizer pulls the parameters of all steps together",
        memory="2 P, once for all samples",
        cites=("kag2021fptt", "yin2023fptt"),
    ),
)
"""All learning rules by name, as in `RULES["otpe"].make()`, each a `RuleEntry` with what it requires, omits and costs; with the
entry points `slax.rules`."""


def cite(rule: str | LearningRule | LayerRule) -> str:
    """Return the BibTeX entries of the publications that define a rule.

    A combination of a rule and a route with a name in `RULES` has the sources of that name; any other combination has the
    source of the rule and one of the route.

    Args:
        rule: a rule, or a name in `RULES`, which also knows rules that are implemented in the optimizer, such as "fptt".

    Raises:
        KeyError: an unknown name.
        TypeError: a rule whose class is not in `RULES`, such as a rule of your own.

    Example:
        >>> from flax import nnx
        >>> from slax_rules import OTPE, SLTT, Direct, cite
        >>> print(cite(OTPE()))
        @misc{summe2023otpe,
          author = {Summe, Thomas and Schaefer, Clemens JS and Joshi, Siddharth},
          title = {Estimating Post-Synaptic Effects for Online Training of Feed-Forward {SNNs}},
          year = {2023},
          eprint = {2311.16151},
          archivePrefix = {arXiv}
        }
        >>> cite(SLTT(route=Direct(rngs=nnx.Rngs(0)))) == cite("dfa")
        True
    """
    if isinstance(rule, str):
        return RULES[rule].bibtex
    of_class = [entry for entry in RULES.values() if entry.rule is type(rule) and entry.optimizer is None]
    if not of_class:
        raise TypeError(f"cite got a {type(rule).__name__}, expected a name in RULES or a rule of a class in RULES.")
    route = type(getattr(rule, "route", Symmetric()))
    named = [entry for entry in of_class if (entry.route or Symmetric) is route and _has(rule, entry.options)]
    if named:
        return max(named, key=lambda entry: len(entry.options)).bibtex
    # The route alone has a name where the rule has no traces; otherwise its first combination says where it is from.
    with_route = [entry for entry in RULES.values() if entry.route is route]
    sources = [of_class[0], *sorted(with_route, key=lambda entry: entry.rule is not SLTT)[:1]]
    return "\n\n".join(dict.fromkeys(entry.bibtex for entry in sources))


def _has(rule: Any, options: Any) -> bool:
    return all(getattr(rule, name, None) == value for name, value in options.items())
