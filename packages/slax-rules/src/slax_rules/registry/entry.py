"""The registry's entry for a rule, with its exactness, its cost and its appearance in figures."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any, Literal

from flax import nnx

from slax_rules.layerwise.routes.feedback import Adaptive
from slax_rules.layerwise.routes.route import Route
from slax_rules.layerwise.rule import LayerRule
from slax_rules.rule import LearningRule


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


@dataclasses.dataclass(frozen=True)
class Style:
    """The appearance of a rule in every figure.

    Args:
        color: color of its lines and bars.
        marker, line: matplotlib's names of marker and line style.
        hatch: hatch of its bars.

    Example:
        >>> from slax_rules import RULES
        >>> RULES["bptt"].style
        Style(color='#4D4D4D', marker='o', line='-', hatch='')
    """

    color: str
    marker: str
    line: str
    hatch: str


@dataclasses.dataclass(frozen=True)
class RuleEntry:
    """A learning rule: `gradients(model, ..., rule=RULES["otpe"].make())`.

    Args:
        title: its name in figures and tables.
        rule: its class.
        requires: the models that it can handle.
        exact: the conditions under which its gradient equals BPTT's.
        omits: the paths that its gradient leaves out.
        memory: count of numbers it carries per sample for a layer of I inputs and N neurons with S states each; P = I N.
        time: time of a step of such a layer, in the same symbols, up to a constant.
        source: the publication that defines it.
        bibtex: the same as a BibTeX entry.
        style: its appearance in figures.
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
    requires: str
    exact: Exactness
    omits: str
    memory: str
    time: str
    source: str
    bibtex: str
    style: Style
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    route: Callable[..., Route] | None = None
    needs_rngs: bool = False
    updates: tuple[Literal["offline", "online"], ...] = ("offline", "online")
    optimizer: Callable[..., Any] | None = None

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


class Rules(dict[str, RuleEntry]):
    """The registry, whose error for an unknown name lists the known names."""

    def __missing__(self, name: str) -> RuleEntry:
        plain = {known.replace("_", ""): known for known in self}
        close = difflib.get_close_matches(str(name).lower().replace("_", "").replace("-", ""), plain, n=1)
        hint = f" Did you mean {plain[close[0]]!r}?" if close else ""
        raise KeyError(f"RULES got the name {name!r}, expected one of: {', '.join(self)}.{hint}")
