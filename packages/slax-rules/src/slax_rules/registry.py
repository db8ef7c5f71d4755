"""The registry of learning rules; rules.csv has their requirements, conditions for exactness, omissions, costs and sources."""

import csv
import dataclasses
import difflib
import functools
import importlib.resources
import re
from collections.abc import Callable, Mapping
from functools import partial
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
from slax_rules.layerwise.otpe import OTPE, EProp
from slax_rules.layerwise.ottt import DECOLLE, OTTT, ApproximateOTPE
from slax_rules.layerwise.pp_prop import PPProp
from slax_rules.layerwise.routes import Adaptive, Direct, FixedBases, Random, Target
from slax_rules.layerwise.s_tllr import STLLR
from slax_rules.layerwise.sltt import SLTT
from slax_rules.rule import LearningRule

# What `slax_rules` takes from here: a new rule is its file, its row in rules.csv, its entry in `RULES`, its name in this list.
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


def _file(name: str) -> str:
    return (importlib.resources.files("slax_rules") / name).read_text("utf-8")


@functools.cache
def bibliography() -> dict[str, str]:
    """The BibTeX entries of rules.bib, by key."""
    entries = _file("rules.bib").strip().split("\n\n")
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry for entry in entries}


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


def described(**entries: Callable[..., RuleEntry]) -> dict[str, RuleEntry]:
    """The entries by name, each with its row of rules.csv."""
    rows = {row.pop("name"): row for row in csv.DictReader(_file("rules.csv").splitlines())}
    library = {}
    for name, make in entries.items():
        title, cites, condition = (rows[name].pop(key) for key in ("title", "cites", "exact_if"))
        entry = make(title=title, cites=tuple(cites.split()), **rows[name])
        library[name] = dataclasses.replace(entry, exact=dataclasses.replace(entry.exact, condition=condition))
    return library


ALWAYS, NOWHERE, ONE_STEP = Exactness(always=True), Exactness(steps=0), Exactness()
LAST_LAYER, LAST_LAYER_ALONE = Exactness(last_layers=1), Exactness(last_layers=1, steps=0)


def _along(rule: type[LayerRule], route: Callable[..., Route], exact: Exactness, **rest: Any) -> partial[RuleEntry]:
    """An entry along a route that draws numbers."""
    return partial(RuleEntry, rule=rule, route=route, needs_rngs=True, exact=exact, **rest)


RULES = Rules(
    **described(
        bptt=partial(RuleEntry, rule=BPTT, exact=ALWAYS, updates=("offline",)),
        tbptt=partial(RuleEntry, rule=TBPTT, options={"steps": 10}, exact=Exactness(steps=10)),
        rtrl=partial(RuleEntry, rule=RTRL, exact=ALWAYS),
        snap=partial(RuleEntry, rule=SnAp, options={"n": 1}, exact=ONE_STEP),
        uoro=partial(RuleEntry, rule=UORO, needs_rngs=True, exact=Exactness(in_the_mean=True)),
        ostl=partial(RuleEntry, rule=OSTL, exact=LAST_LAYER),
        ostl_with_recurrence=partial(RuleEntry, rule=OSTL, options={"recurrence": True}, exact=LAST_LAYER),
        otpe=partial(RuleEntry, rule=OTPE, exact=Exactness(last_layers=2)),
        approximate_otpe=partial(RuleEntry, rule=ApproximateOTPE, exact=ONE_STEP),
        ottt=partial(RuleEntry, rule=OTTT, exact=LAST_LAYER),
        sltt=partial(RuleEntry, rule=SLTT, exact=ONE_STEP),
        e_prop=partial(RuleEntry, rule=EProp, exact=Exactness(last_layers=2)),
        e_prop_random=_along(EProp, Random, LAST_LAYER_ALONE),
        e_prop_adaptive=_along(EProp, Adaptive, LAST_LAYER_ALONE),
        e_prop_direct=_along(EProp, Direct, LAST_LAYER_ALONE),
        pp_prop=partial(RuleEntry, rule=PPProp, exact=ONE_STEP),
        decolle=partial(RuleEntry, rule=DECOLLE, needs_rngs=True, exact=LAST_LAYER_ALONE),
        hypr=partial(RuleEntry, rule=OSTL, exact=LAST_LAYER),
        s_tllr=partial(RuleEntry, rule=STLLR, exact=ONE_STEP),
        tess=partial(RuleEntry, rule=STLLR, route=FixedBases),
        osttp=_along(OSTL, Target, LAST_LAYER_ALONE),
        etlp=_along(OTTT, Target, NOWHERE, options={"bias_trace": False}),
        dfa=_along(SLTT, Direct, NOWHERE),
        drtp=_along(SLTT, Target, NOWHERE),
        fptt=partial(RuleEntry, rule=BPTT, optimizer=fptt, updates=("online",), exact=ONE_STEP),
    )
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
