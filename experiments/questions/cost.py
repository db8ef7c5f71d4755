"""Measure the time and memory of one gradient of recall, in each way to learn that is trained on it.

Rules with traces take one step at a time, which needs the least memory; OTPE also takes ten, which needs less time.
"""

from typing import Any

from flax import nnx
from jax import random

from experiments.common.costs import RECOMPUTED, bytes_of, costs, gradient_programs
from experiments.common.tasks import make_model
from experiments.questions.run import VARIANTS, rule_of, window_of
from experiments.questions.sources import recall
from slax_rules import BPTT, OTPE

IN_WINDOWS, WINDOW = "otpe_10", 10  # OTPE in windows of so many steps


def compute(config: dict[str, Any]) -> dict[str, Any]:
    """By way, the costs of a jitted gradient of a batch, its memory per sample, "bytes", and its "window"."""
    n_steps, layers = config["n_steps"], config["layers"]
    model, made = make_model(config, nnx.Rngs(0)), {}
    for way in (way for way in config["ways"] if way not in VARIANTS):
        rule = rule_of({"way": way, "rule": way})(rngs=nnx.Rngs(0), model=model)
        made[way] = rule, window_of(rule, n_steps)
    made |= {RECOMPUTED: (BPTT(remat=True), n_steps), IN_WINDOWS: (OTPE(), WINDOW)}
    batch = recall(layers[0], layers[-1], n_steps).sample(random.key(0), batch_size=config["batch_size"])
    found = costs(gradient_programs(model, made, batch), config["repeats"])
    for way, (rule, window) in made.items():
        found[way] |= {"bytes": bytes_of(model, rule, batch[0].shape, window), "window": window}
    return {"costs": found}
