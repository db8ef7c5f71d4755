"""What the registry says of a rule: when it is exact, what it costs, how it looks in figures."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any, Literal

from flax import nnx

from slax_rules.layerwise.rule import LayerRule
from slax_rules.rule import LearningRule


@dataclasses.dataclass(frozen=True)
class Exactness:
    """When the gradient of a rule is that of BPTT.

    Args:
        always: for every model and sequence.
        in_the_mean: over the rule's noise, for every model and sequence.
        last_layers: for so many layers from the last one downwards, of a stack without late edges.
        steps: for every sequence of at most so many steps; 0 for none.
        condition: under which the above holds, and where else it is exact; empty if there is nothing to add.
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
    """The look of a rule in every figure.

    Args:
        color: of its lines and bars.
        marker, line: matplotlib's names.
        hatch: of its bars.
    """

    color: str
    marker: str
    line: str
    hatch: str


@dataclasses.dataclass(frozen=True)
class RuleEntry:
    """A learning rule: `gradients(model, ..., rule=RULES["otpe"].make())`.

    Args:
        title: its name in print.
        rule: its class.
        requires: the models that it can treat.
        exact: when its gradient is that of BPTT.
        omits: what its gradient leaves out.
        memory: numbers that it carries per sample for a layer of I inputs and N neurons with S states each; P = I N.
        time: of a step of such a layer, in the same letters, up to a constant.
        source: where it is defined.
        bibtex: the same as a BibTeX entry.
        style: its look in figures.
        options: of the class, for this entry.
        needs_rngs: whether it is made with `rngs`.
        updates: the ways to update with its gradient: "offline", "online".
        optimizer: a wrapper of the optimizer, where the rule is there.
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
    needs_rngs: bool = False
    updates: tuple[Literal["offline", "online"], ...] = ("offline", "online")
    optimizer: Callable[..., Any] | None = None

    def make(self, *, rngs: nnx.Rngs | None = None, **options: Any) -> LearningRule | LayerRule:
        """The rule, with options beside those of this entry; `rngs` go to a rule that draws, and are unused by others.

        Raises:
            TypeError: no `rngs` for a rule that draws.
        """
        if self.needs_rngs:
            if rngs is None:
                raise TypeError(f"{self.title} draws random numbers, got no rngs. Give them: make(rngs=nnx.Rngs(0)).")
            options["rngs"] = rngs
        return self.rule(**{**self.options, **options})


class Rules(dict[str, RuleEntry]):
    """The registry, whose error for an unknown name says which names there are."""

    def __missing__(self, name: str) -> RuleEntry:
        plain = {known.replace("_", ""): known for known in self}
        close = difflib.get_close_matches(str(name).lower().replace("_", "").replace("-", ""), plain, n=1)
        hint = f" Did you mean {plain[close[0]]!r}?" if close else ""
        raise KeyError(f"RULES got the name {name!r}, expected one of: {', '.join(self)}.{hint}")
