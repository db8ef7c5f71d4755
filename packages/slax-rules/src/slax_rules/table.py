"""The table of learning rules: what each is made of, what it needs, when it is exact, what it leaves out, what it costs."""

import dataclasses
from collections.abc import Callable
from typing import Any

from flax import nnx

from slax_rules.approximate_otpe import approximate_otpe
from slax_rules.decolle import decolle
from slax_rules.e_prop import e_prop
from slax_rules.fptt import fptt
from slax_rules.ostl import ostl
from slax_rules.ostl_with_recurrence import ostl_with_recurrence
from slax_rules.otpe import otpe
from slax_rules.ottt import ottt
from slax_rules.pp_prop import pp_prop
from slax_rules.rtrl import rtrl
from slax_rules.sltt import sltt
from slax_rules.snap import snap
from slax_rules.uoro import uoro


@dataclasses.dataclass(frozen=True)
class Rule:
    """A learning rule: `gradients(rule.wrap(model), ..., window=rule.window)`.

    Args:
        title: as it is called in print.
        wrap: maps a plain cell, and options by keyword, to the cell under the rule.
        window: the window that makes the rule out of a plain cell, None for the whole sequence; or None where the rule is
            in the cell and the window changes nothing.
        requires: what it can treat.
        equals_bptt: when its gradient is that of BPTT.
        drops: what its gradient leaves out.
        memory: numbers that it carries per sample for a layer of I inputs and N neurons with S states each; P = I N.
        time: of a step of such a layer, in the same letters, up to a constant.
        source: where it is defined.
        options: those of `wrap` that have no default.
        optimizer: wraps the optimiser, where that is where the rule is.
    """

    title: str
    wrap: Callable[..., nnx.RNNCellBase]
    requires: str
    equals_bptt: str
    drops: str
    memory: str
    time: str
    source: str
    window: int | None = None
    options: tuple[str, ...] = ()
    optimizer: Callable[..., Any] | None = None

    @property
    def exact(self) -> bool:
        """Whether its gradient is always that of BPTT."""
        return self.equals_bptt == ALWAYS


ALWAYS = "always"
ANY_CELL = "any cell"
LAYERS = "layers of a Linear or Conv and any element-wise neuron"
ALIKE = "layers of a Linear or Conv and a linear neuron, the same in the whole layer"
ONE_STEP = "a sequence of one step; no memory in any neuron"
LAST = "last layer of a stack; one layer; a layer above which nothing has a memory"
ABOVE = "paths that come back to time in a layer above, and over late edges"


def _plain(model: nnx.RNNCellBase) -> nnx.RNNCellBase:
    return model


RULES: dict[str, Rule] = {
    "bptt": Rule(
        title="BPTT",
        wrap=_plain,
        requires=ANY_CELL,
        equals_bptt=ALWAYS,
        drops="nothing",
        memory="T (I + N S)",
        time="P",
        source="Werbos 1990, doi 10.1109/5.58337",
    ),
    "tbptt": Rule(
        title="TBPTT(10)",
        wrap=_plain,
        window=10,
        requires=ANY_CELL,
        equals_bptt="a sequence no longer than a window",
        drops="paths from one window to the next",
        memory="K (I + N S), K = 10, or as many steps as `window` says",
        time="P",
        source="Williams, Peng 1990, doi 10.1162/neco.1990.2.4.490",
    ),
    "rtrl": Rule(
        title="RTRL",
        wrap=rtrl,
        requires=ANY_CELL,
        equals_bptt=ALWAYS,
        drops="nothing",
        memory="all states times all parameters of the model",
        time="all states times P",
        source="Williams, Zipser 1989, doi 10.1162/neco.1989.1.2.270",
    ),
    "snap": Rule(
        title="SnAp-1",
        wrap=snap,
        requires=ANY_CELL,
        equals_bptt="without edges, where a neuron has one state; with n steps' reach, where n steps reach all",
        drops="influence that a parameter has on states that it does not reach within n steps",
        memory="all states times all parameters of the model, masked",
        time="all states squared times P",
        source="Menick et al. 2021, arXiv 2006.07232",
    ),
    "uoro": Rule(
        title="UORO",
        wrap=uoro,
        options=("rngs",),
        requires=ANY_CELL,
        equals_bptt="in the mean over its noise; a sequence of one step",
        drops="nothing; it adds noise",
        memory="N S + P",
        time="P",
        source="Tallec, Ollivier 2018, arXiv 1702.05043",
    ),
    "ostl": Rule(
        title="OSTL",
        wrap=ostl,
        requires=LAYERS,
        equals_bptt=LAST,
        drops=ABOVE,
        memory="S P",
        time="S^2 P",
        source="Bohnstingl et al. 2022, doi 10.1109/TNNLS.2022.3153985",
    ),
    "ostl_with_recurrence": Rule(
        title="OSTL with recurrence",
        wrap=ostl_with_recurrence,
        requires=f"{LAYERS}, with edges from a layer to itself alone",
        equals_bptt=LAST,
        drops="paths that come back to time in a layer above",
        memory="N S times P and the layer's own recurrent weights",
        time="N times that",
        source="Bohnstingl et al. 2022, doi 10.1109/TNNLS.2022.3153985",
    ),
    "otpe": Rule(
        title="OTPE",
        wrap=otpe,
        requires=f"{LAYERS}, with one decay in the layer above",
        equals_bptt="last two layers of a stack whose last layer integrates, or has a soft reset that passes no gradient",
        drops="paths through time in the layers above, but for one leaky sum",
        memory="(S + 1) P + N",
        time="S^2 P",
        source="Summe, Schaefer, Joshi 2023, arXiv 2311.16151",
    ),
    "approximate_otpe": Rule(
        title="approximate OTPE",
        wrap=approximate_otpe,
        requires=f"{ALIKE}, with one decay in the layer above",
        equals_bptt="where OTPE does, if in addition psi does not change over time",
        drops="what OTPE drops, paths through spikes, and how psi changes over time",
        memory="2 S I + S N",
        time="P",
        source="Summe, Schaefer, Joshi 2023, arXiv 2311.16151",
    ),
    "ottt": Rule(
        title="OTTT",
        wrap=ottt,
        requires=ALIKE,
        equals_bptt="where OSTL does, if states depend on spikes by no gradient (a detached reset; not ALIF, AdLIF)",
        drops=f"{ABOVE}; paths through spikes",
        memory="S I",
        time="P",
        source="Xiao et al. 2022, arXiv 2210.04195",
    ),
    "sltt": Rule(
        title="SLTT",
        wrap=sltt,
        requires=LAYERS,
        equals_bptt=ONE_STEP,
        drops="all paths through time",
        memory="0",
        time="P",
        source="Meng et al. 2023, arXiv 2302.14311",
    ),
    "e_prop": Rule(
        title="e-prop",
        wrap=e_prop,
        requires=f"{LAYERS}, with one decay in the layer above",
        equals_bptt="last layer of a stack; with symmetric feedback, the layer below a last one that integrates",
        drops="paths through time in the layers above, but for one leaky sum, and over late edges",
        memory="(S + 1) P",
        time="S^2 P",
        source="Bellec et al. 2020, doi 10.1038/s41467-020-17236-y",
    ),
    "pp_prop": Rule(
        title="pp-prop",
        wrap=pp_prop,
        requires=f"{LAYERS} in halves, without parameters of the neuron",
        equals_bptt="a sequence of one step",
        drops=f"{ABOVE}; all that a product of two traces cannot hold",
        memory="I + S N",
        time="P",
        source="Wang et al. 2024; braintrace",
    ),
    "decolle": Rule(
        title="DECOLLE",
        wrap=decolle,
        options=("input_shape", "n_outputs", "rngs"),
        requires=ALIKE,
        equals_bptt="each layer's own loss, where OTTT is exact for it",
        drops="all signals from above; paths through spikes",
        memory="S I",
        time="P + N C for C outputs",
        source="Kaiser, Mostafa, Neftci 2020, doi 10.3389/fnins.2020.00424",
    ),
    "fptt": Rule(
        title="FPTT",
        wrap=_plain,
        window=1,
        optimizer=fptt,
        requires=ANY_CELL,
        equals_bptt="a sequence of one step",
        drops="all paths from one window to the next; a regulariser pulls the parameters of all steps together",
        memory="2 P, once for all samples",
        time="P",
        source="Kag, Saligrama 2021; Yin, Corradi, Bohte 2023, doi 10.1038/s42256-023-00650-4",
    ),
}
