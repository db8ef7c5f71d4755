"""Train a network under a rule, a control of it, or a reference, at the learning rate with the best validation accuracy.

A rule is one of the library, or one of these, whose last layer has its exact gradient, as under each rule with traces:

    without_traces   SLTT in hidden layers
    fixed            hidden layers that stay as they were drawn

A variant is the rule "itself"; "traces" or "signals", what hidden layers get from another sample of the batch (exchange.py); or
"each_step", the rule itself with an update in each step that counts, in place of one for each sequence.
"""

from collections.abc import Callable
from typing import Any

import optax
from flax import nnx

from experiments.common.learning import choose
from experiments.common.measures import at_the_end
from experiments.common.tasks import make_model, with_own_spikes
from experiments.controls.exchange import Exchanged
from experiments.credit_grid.grid import NoSignal
from experiments.questions.sources import sampler_of
from slax_neurons import Connect
from slax_rules import OSTL, RULES, SLTT, LayerRule, PerLayer

HIDDEN: dict[str, LayerRule] = {"without_traces": SLTT(), "fixed": SLTT(route=NoSignal())}
EACH_STEP = "each_step"
DECAY = 0.99  # of the mean squares under RMSprop


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """ "trials", the trials of the learning rate, and "seeds", the numbers of each seed."""
    sampler, update = sampler_of(config), "online" if config["variant"] == EACH_STEP else "offline"
    where = f"controls, {config['task']}, {config['optimizer']}, {config['rule']}, {config['variant']}"
    known = {"rule": "sltt"} if config["rule"] in HIDDEN else {}  # what the window of online updates is looked up by
    how = {"network": network, "rule_of": lambda _: rule_of(config), "optimizer_of": optimizer_of}
    trials, runs = choose(config | known | {"online_window": 1}, update, sampler, where, **how)
    return {"trials": trials, "seeds": [at_the_end(run, sampler(run.seed)) for run in runs]}


def network(config: dict[str, Any], rngs: nnx.Rngs) -> Connect:
    """Layers of LIF with a read-out of LI; if `recurrent`, the first layer gets its own spikes one step later."""
    model = make_model(config, rngs)
    return with_own_spikes(model, rngs) if config["recurrent"] else model


def rule_of(config: dict[str, Any]) -> Callable[..., Any]:
    """The function that makes the rule."""
    name, variant = config["rule"], config["variant"]

    def make(**_: Any) -> Any:
        hidden = len(config["layers"]) - 2
        rule = PerLayer([HIDDEN[name]] * hidden + [OSTL()]) if name in HIDDEN else RULES[name].make()
        return Exchanged(rule, variant) if variant in ("traces", "signals") else rule

    return make


def optimizer_of(config: dict[str, Any], rate: Any) -> optax.GradientTransformation:
    return {"adam": optax.adam(rate), "rmsprop": optax.rmsprop(rate, decay=DECAY)}[config["optimizer"]]
