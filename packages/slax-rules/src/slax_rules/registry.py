"""The registry of learning rules: their requirements, conditions for exactness, omissions, costs and sources."""

import dataclasses
import functools
import importlib.resources
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from flax import nnx

from slax_neurons.building_blocks import Named
from slax_rules.rules.approximate_otpe import ApproximateOTPE
from slax_rules.rules.base import Route, Rule, Symmetric
from slax_rules.rules.bptt import BPTT, TBPTT
from slax_rules.rules.decolle import DECOLLE
from slax_rules.rules.e_prop import EProp
from slax_rules.rules.forward_gradient import ForwardGradient
from slax_rules.rules.fptt import fptt
from slax_rules.rules.kf_rtrl import KFRTRL
from slax_rules.rules.node_perturbation import NodePerturbation
from slax_rules.rules.opzo import OPZO
from slax_rules.rules.ostl import OSTL
from slax_rules.rules.otpe import OTPE
from slax_rules.rules.ottt import OTTT
from slax_rules.rules.pp_prop import PPProp
from slax_rules.rules.routes import Adaptive, Direct, FixedBases, Random, Target
from slax_rules.rules.rtrl import RTRL
from slax_rules.rules.s_tllr import STLLR
from slax_rules.rules.sketched_rtrl import SketchedRTRL
from slax_rules.rules.sltt import SLTT
from slax_rules.rules.snap import SnAp
from slax_rules.rules.uoro import UORO

__all__ = [
    "BPTT", "DECOLLE", "KFRTRL", "OPZO", "OSTL", "OTPE", "OTTT", "RTRL", "RULES", "SLTT", "STLLR", "TBPTT", "UORO",
    "ApproximateOTPE", "EProp", "ForwardGradient", "NodePerturbation", "PPProp", "RuleEntry", "SketchedRTRL", "SnAp", "cite",
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
        >>> from slax_rules import RULES
        >>> print(RULES["tbptt"].exact)
        a sequence of up to 10 steps
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
            last = "last layer" if self.last_layers == 1 else f"last {self.last_layers} layers"
            parts.append(f"{last} of a stack without late edges")
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
    entries = (importlib.resources.files("slax_rules") / "rules.bib").read_text("utf-8").strip().split("\n\n")
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry for entry in entries}


def _in_short(entry: str) -> str:
    fields = dict(re.findall(r"(\w+) = \{(.*)\}", entry.replace(r"{\o}", "ø").replace(r"{\'e}", "é")))
    names = [author.split(",")[0] for author in fields["author"].split(" and ")]
    authors = ", ".join(names) if len(names) <= 3 else f"{names[0]} et al."
    where = f", arXiv {fields['eprint']}" if "eprint" in fields else f", doi {fields['doi']}" if "doi" in fields else ""
    return f"{authors} {fields['year']}{where}"


@dataclasses.dataclass(frozen=True)
class RuleEntry:
    """An entry of `RULES`, which makes a learning rule: `gradients(model, ..., rule=RULES["otpe"].make())`.

    `RULES["mine"] = RuleEntry(title="mine", rule=Mine)` adds a rule of your own, also to the experiments of this repository.

    Args:
        title: its name in figures and tables.
        rule: its class.
        requires: the models that it can handle.
        exact: the conditions under which its gradient equals BPTT's.
        omits: the paths that its gradient leaves out.
        memory: numbers that it carries per sample for a layer of I inputs and N neurons with S states each; P = I N.
        time: time of a step of such a layer, in the same symbols, up to a constant.
        cites: keys in rules.bib of the publications that define it.
        options: options of the class for this entry.
        route: the class of its route, if it is not `Symmetric`.
        needs_rngs: whether it is constructed with `rngs`.
        updates: the ways to update with its gradient: "offline", "online".
        optimizer: a wrapper of the optimizer, if the rule is implemented there. `make()` then returns only a part of the rule:
            for FPTT it returns `BPTT()`, which trains as FPTT only with `optimizer(optax.adam(1e-3))` and `update="online"`.

    Example:
        >>> from slax_rules import RULES
        >>> RULES["tbptt"].source
        'Williams, Peng 1990, doi 10.1162/neco.1990.2.4.490'
        >>> RULES["tbptt"].make(steps=20)
        TBPTT(steps=20)
    """

    title: str
    rule: type[Rule]
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

    def make(self, *, rngs: nnx.Rngs | None = None, model: Any = None, **options: Any) -> Rule:
        """Make the rule, with options in addition to the entry's.

        Args:
            rngs: random streams for rules that draw numbers; others ignore them.
            model: the model, for `Adaptive` feedback and `OPZO`, whose matrices have shapes of its kernels; others ignore it.
            **options: options of the class; with a `route`, neither rngs nor a model is needed.

        Raises:
            TypeError: no `rngs`, or no model, for a rule that needs them.
        """
        if "route" in options:
            return self.rule(**{**self.options, **options})
        given: dict[str, Any] = {"rngs": rngs} if self.needs_rngs else {}
        given |= {"model": model} if Adaptive is self.route or OPZO is self.rule else {}
        for name, value in given.items():
            if value is None:
                raise TypeError(f"{self.title} got no {name}, expected make(rngs=nnx.Rngs(0), model=model).")
        made = given if self.route is None else {"route": self.route(**given)}
        return self.rule(**{**self.options, **options, **made})


ALWAYS, ONE_STEP = Exactness(always=True), Exactness()
IN_THE_MEAN = Exactness(in_the_mean=True, steps=0)
LAST_LAYER_ALONE = Exactness(last_layers=1, steps=0)
# What a rule requires and omits, where several share it.
ANY_NEURON = "layers of a Linear or Conv and any element-wise neuron"
LINEAR_NEURON = "layers of a Linear or Conv and a linear neuron whose parameters are the same in the entire layer"
ONE_DECAY = ", with one decay in the layer above"
TARGETS = "; labels, or targets in the shape of the outputs"
MEMORY_ABOVE = "paths through the memory of the layers above"
EXCEPT_ONE_SUM = "paths through time in the layers above, except for one leaky sum, and over late edges"
NO_MEMORY_ABOVE = Exactness(last_layers=1, condition="there also a layer with no memory above it")

# fmt: off
RULES: Named[RuleEntry] = Named({
    "bptt": RuleEntry(
        "BPTT", BPTT, requires="any cell", exact=ALWAYS, omits="nothing", memory="T (I + N S)", time="P",
        cites=("werbos1990bptt",), updates=("offline",),
    ),
    "tbptt": RuleEntry(
        "TBPTT(10)", TBPTT, requires="any cell", exact=Exactness(steps=10),
        omits="paths from one piece of the sequence to the next", memory="K (I + N S), K = 10", time="P",
        cites=("williams1990tbptt",), options={"steps": 10},
    ),
    "rtrl": RuleEntry(
        "RTRL", RTRL, requires="any cell", exact=ALWAYS, omits="nothing",
        memory="for each state, the parameters that reach it, of its unit and of the layers below",
        time="all states times P", cites=("williams1989rtrl",),
    ),
    "snap": RuleEntry(
        "SnAp-1", SnAp, requires="any cell",
        exact=Exactness(condition="without edges, for parameters that reach all states of their neuron in one step (not "
            "weights before BRF); with n steps' reach, where n steps reach all"),
        omits="the influence of a parameter on states that it does not reach within n steps",
        memory="for each state, the parameters that reach it within n steps", time="all states squared times P",
        cites=("menick2021snap",), options={"n": 1},
    ),
    "sketched_rtrl": RuleEntry(
        "sketched RTRL(8)", SketchedRTRL, requires="any cell",
        exact=Exactness(condition="where SnAp-1 is, and for a rank of as many as all states"),
        omits="the influence outside of one step's reach that a matrix of low rank cannot represent; it bounds its own error",
        memory="that of SnAp-1, and r (N S + P), r = 8", time="all states squared times P, and the cube of all states",
        cites=("sketchedrtrl2026",), options={"rank": 8},
    ),
    "uoro": RuleEntry(
        "UORO", UORO, requires="any cell", exact=Exactness(in_the_mean=True), omits="nothing; it adds noise",
        memory="N S + P", time="P", cites=("tallec2018uoro",), needs_rngs=True,
    ),
    "kf_rtrl": RuleEntry(
        "KF-RTRL", KFRTRL,
        requires="any cell whose parameters are in Linear modules, each called once in a step and read nowhere else",
        exact=Exactness(in_the_mean=True, steps=2), omits="nothing; it adds noise", memory="I + N S N for each Linear",
        time="all states times P, and their square times N", cites=("mujika2018kfrtrl",), needs_rngs=True,
    ),
    "forward_gradient": RuleEntry(
        "forward gradient", ForwardGradient, requires="any cell", exact=IN_THE_MEAN,
        omits="nothing; it adds noise, more with each parameter", memory="N S", time="P",
        cites=("baydin2022forward",), needs_rngs=True,
    ),
    "node_perturbation": RuleEntry(
        "node perturbation", NodePerturbation,
        requires=ANY_NEURON + " that has no parameters of its own, without parameters after the last neuron",
        exact=IN_THE_MEAN, omits="nothing; it adds noise", memory="N S + P", time="P",
        cites=("fiete2006perturbation", "werfel2005learning"), needs_rngs=True,
    ),
    "ostl": RuleEntry(
        "OSTL", OSTL, requires=ANY_NEURON, exact=NO_MEMORY_ABOVE, omits=MEMORY_ABOVE + ", and over late edges", memory="S P",
        time="S^2 P", cites=("bohnstingl2022ostl",),
    ),
    "ostl_with_recurrence": RuleEntry(
        "OSTL with recurrence", OSTL, requires=ANY_NEURON + ", with edges from a layer to itself alone",
        exact=Exactness(last_layers=1, condition="with its own edges, the last layer, and one with no memory above it"),
        omits=MEMORY_ABOVE, memory="N S times P and the layer's own recurrent weights",
        time="N times as much", cites=("bohnstingl2022ostl",), options={"recurrence": True},
    ),
    "otpe": RuleEntry(
        "OTPE", OTPE, requires=ANY_NEURON + ONE_DECAY,
        exact=Exactness(last_layers=2, condition="if the last one integrates or has a soft reset that passes no gradient "
            "(otherwise the last layer)"),
        omits=EXCEPT_ONE_SUM, memory="(S + 1) P + N", time="S^2 P", cites=("summe2023otpe",),
    ),
    "approximate_otpe": RuleEntry(
        "approximate OTPE", ApproximateOTPE, requires=LINEAR_NEURON + ONE_DECAY,
        exact=Exactness(condition="where OTPE is, if in addition psi does not change over time"),
        omits="what OTPE omits, paths through spikes, and how psi changes over time", memory="2 S I + S N", time="P",
        cites=("summe2023otpe",),
    ),
    "ottt": RuleEntry(
        "OTTT", OTTT, requires=LINEAR_NEURON,
        exact=Exactness(last_layers=1, condition="if states depend on spikes by no gradient (a detached reset; not ALIF, "
            "AdLIF)"),
        omits=MEMORY_ABOVE + ", and over late edges; paths through spikes", memory="S I", time="P", cites=("xiao2022ottt",),
    ),
    "sltt": RuleEntry(
        "SLTT", SLTT, requires=ANY_NEURON, exact=Exactness(condition="no memory in any neuron"),
        omits="all paths through time", memory="0", time="P", cites=("meng2023sltt",),
    ),
    "e_prop": RuleEntry(
        "e-prop", EProp, requires=ANY_NEURON + ONE_DECAY,
        exact=Exactness(last_layers=2, condition="if the last one integrates (otherwise the last layer)"),
        omits=EXCEPT_ONE_SUM, memory="(S + 1) P", time="S^2 P", cites=("bellec2020eprop",),
    ),
    "e_prop_random": RuleEntry(
        "e-prop, random", EProp, requires=ANY_NEURON + ", with a kernel in each edge" + ONE_DECAY, exact=LAST_LAYER_ALONE,
        omits="what e-prop omits; signals pass below through random matrices", memory="(S + 1) P", time="S^2 P",
        cites=("bellec2020eprop",), route=Random, needs_rngs=True,
    ),
    "e_prop_adaptive": RuleEntry(
        "e-prop, adaptive", EProp, requires=ANY_NEURON + ", with a kernel in each edge" + ONE_DECAY, exact=LAST_LAYER_ALONE,
        omits="what e-prop omits; signals pass below through learned matrices", memory="(S + 1) P, and P for the matrices",
        time="S^2 P", cites=("bellec2020eprop",), route=Adaptive, needs_rngs=True,
    ),
    "e_prop_direct": RuleEntry(
        "e-prop, direct", EProp, requires=ANY_NEURON + ONE_DECAY, exact=LAST_LAYER_ALONE,
        omits="what e-prop omits; hidden layers get the error of the read-out through random matrices", memory="(S + 1) P",
        time="S^2 P + N C for C outputs", cites=("bellec2020eprop",), route=Direct, needs_rngs=True,
    ),
    "pp_prop": RuleEntry(
        "pp-prop", PPProp, requires=ANY_NEURON + " that defines integrate and fire and has no parameters of its own",
        exact=ONE_STEP,
        omits=MEMORY_ABOVE + ", and over late edges; everything that a product of two traces cannot represent",
        memory="I + S N", time="P", cites=("wang2026braintrace",),
    ),
    "opzo": RuleEntry(
        "OPZO", OPZO, requires=LINEAR_NEURON + ", each hidden one below a Linear; LI as the read-out", exact=LAST_LAYER_ALONE,
        omits="what OTTT omits; hidden layers get the error of the read-out through matrices that noise has learned",
        memory="S I", time="P + N C for C outputs, and a pass forward with noise", cites=("xiao2024opzo",), needs_rngs=True,
    ),
    "decolle": RuleEntry(
        "DECOLLE", DECOLLE, requires=LINEAR_NEURON,
        exact=Exactness(last_layers=1, steps=0, condition="each layer's own loss, where OTTT is exact for it"),
        omits="all signals from above; paths through spikes", memory="S I", time="P + N C for C outputs",
        cites=("kaiser2020decolle",), needs_rngs=True,
    ),
    "hypr": RuleEntry(
        "HYPR", OSTL, requires=ANY_NEURON, exact=NO_MEMORY_ABOVE,
        omits=MEMORY_ABOVE + ", and over late edges; with a reset that reads the stored spike, the authors' code also omits "
            "the path through it", memory="S P", time="S^2 P", cites=("baronig2026hypr",),
    ),
    "s_tllr": RuleEntry(
        "S-TLLR", STLLR, requires=ANY_NEURON + " that has no parameters of its own",
        exact=Exactness(condition="the kernels of a last layer without spikes"),
        omits=MEMORY_ABOVE + ", and over late edges; the memory of the neuron, in whose place are the rule's own traces",
        memory="I + N", time="2 P", cites=("apolinario2025stllr",),
    ),
    "tess": RuleEntry(
        "TESS", STLLR, requires=ANY_NEURON + " that has no parameters of its own",
        exact=Exactness(steps=0, condition="the kernels of a last layer without spikes"),
        omits="all signals from above; the memory of the neuron, in whose place are the rule's own traces", memory="I + N",
        time="2 P + N C for C outputs", cites=("apolinario2025tess",), route=FixedBases,
    ),
    "osttp": RuleEntry(
        "OSTTP", OSTL, requires=ANY_NEURON + TARGETS, exact=LAST_LAYER_ALONE,
        omits="all signals from above, in whose place is the projected target", memory="S P",
        time="S^2 P + N C for C outputs", cites=("ortner2023osttp",), route=Target, needs_rngs=True,
    ),
    "rflo": RuleEntry(
        "RFLO", OSTL, requires=ANY_NEURON + "; as published, a recurrent layer of LeakyRate below a read-out without memory",
        exact=LAST_LAYER_ALONE,
        omits=MEMORY_ABOVE + ", and over late edges; hidden layers get the error of the read-out through random matrices",
        memory="S P", time="S^2 P + N C for C outputs", cites=("murray2019rflo",), route=Direct, needs_rngs=True,
    ),
    "etlp": RuleEntry(
        "ETLP", OTTT, requires=LINEAR_NEURON + TARGETS + "; a mask of the events, `random_steps`",
        exact=Exactness(steps=0, condition="the kernels of the last layer, where OTTT is exact for it"),
        omits="all signals from above, in whose place is the projected target; paths through spikes", memory="S I",
        time="P + N C for C outputs", cites=("quintana2024etlp",), options={"bias_trace": False}, route=Target,
        needs_rngs=True,
    ),
    "dfa": RuleEntry(
        "DFA", SLTT, requires=ANY_NEURON,
        exact=Exactness(steps=0, condition="the last layer, where its neurons have no memory"),
        omits="all paths through time; hidden layers get the error of the read-out through random matrices", memory="0",
        time="P + N C for C outputs", cites=("nokland2016dfa",), route=Direct, needs_rngs=True,
    ),
    "drtp": RuleEntry(
        "DRTP", SLTT, requires=ANY_NEURON + TARGETS,
        exact=Exactness(steps=0, condition="the last layer, where its neurons have no memory"),
        omits="all paths through time; all signals from above, in whose place is the projected target", memory="0",
        time="P + N C for C outputs", cites=("frenkel2021drtp",), route=Target, needs_rngs=True,
    ),
    "fptt": RuleEntry(
        "FPTT", BPTT, requires="any cell", exact=ONE_STEP,
        omits="all paths from one window to the next; a regularizer pulls the parameters of all steps together",
        memory="2 P, once for all samples", time="P", cites=("kag2021fptt", "yin2023fptt"), optimizer=fptt,
        updates=("online",),
    ),
})
# fmt: on
"""All learning rules by name, as in `RULES["otpe"].make()`, each a `RuleEntry` with what it requires, omits and costs."""


def cite(rule: str | Rule) -> str:
    """Return the BibTeX entries of the publications that define a rule.

    A rule and a route that have a name in `RULES` together have its sources; others have the rule's, and one of the route.

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
        raise TypeError(f"cite got {type(rule).__name__}, expected a name in RULES or a rule of a class in RULES.")
    route = type(getattr(rule, "route", Symmetric()))
    alike = [entry for entry in of_class if (entry.route or Symmetric) is route]
    named = [entry for entry in alike if entry.options.items() <= vars(rule).items()]
    if named:
        return max(named, key=lambda entry: len(entry.options)).bibtex
    # The route alone has a name where the rule has no traces; otherwise its first combination says where it is from.
    with_route = [entry for entry in RULES.values() if entry.route is route]
    sources = [of_class[0], *sorted(with_route, key=lambda entry: entry.rule is not SLTT)[:1]]
    return "\n\n".join(dict.fromkeys(entry.bibtex for entry in sources))
