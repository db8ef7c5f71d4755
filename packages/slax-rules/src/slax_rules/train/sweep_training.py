"""The training of the runs of a `sweep`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from slax_rules.loop import trained_together
from slax_rules.masks import check_some_entry
from slax_rules.rules.base import check_is_rule
from slax_rules.step import Step, jitted
from slax_rules.train.batches import as_batch, epoch_batches
from slax_rules.train.runs import Run
from slax_rules.train.steps import Flags, guarded_step
from slax_rules.train.sweep_arguments import of_rule

# A step takes about as long as with all optimizations of LLVM, and compiles in two thirds of the time.
COMPILER_OPTIONS = {"xla_backend_optimization_level": 1}

# Folded into the key of a seed for weights and rules, so that they are independent of samples drawn by the key itself.
START = 1


Objects = tuple[Any, Any, nnx.Optimizer]  # the model, the rule and the optimizer


@dataclasses.dataclass(frozen=True)
class Training:
    """How the runs of a sweep are trained. It has the arguments of `sweep`, with the window of each rule."""

    make_model: Callable[..., nnx.RNNCellBase]
    optimizer: Any
    loss_fn: Any
    batches: Any
    rules: Mapping[str, Any]
    update: Literal["offline", "online"]
    windows: Mapping[str, int | None]
    evaluate_at: Sequence[int]

    def run(self, rule: str, point: Mapping[str, Any], seed: int) -> Run:
        """The run of a rule, a point and a seed."""
        return self.train(self.start(rule, point, seed), rule, point, seed)[0]

    def start(self, rule: str, point: Mapping[str, Any], seed: int) -> Objects:
        """The model, the rule and the optimizer before training. The weights do not depend on the rule."""
        model_key, rule_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), START))
        rate, setting = point["rate"], {name: value for name, value in point.items() if name != "rate"}
        model = self.make_model(nnx.Rngs(model_key), **setting)
        if not isinstance(model, nnx.RNNCellBase):
            raise TypeError(f"make_model returned {type(model).__name__}, expected a cell, as connect makes.")
        given = self.rules[rule]
        made = callable(given) and not isinstance(given, type)
        given = given(rngs=nnx.Rngs(rule_key), model=model) if made else given
        check_is_rule(given)
        transformation = _with_rate_in_state(of_rule(self.optimizer, rule))
        optimizer = nnx.Optimizer(trained_together(model, given), transformation, wrt=nnx.Param)
        in_state = optimizer.opt_state.hyperparams["rate"]
        in_state[...] = jnp.asarray(rate, in_state.dtype)
        return model, given, optimizer

    def train(self, objects: Objects, rule: str, point: Mapping[str, Any], seed: int) -> tuple[Run, Any]:
        """Train once; the run, and its last batch."""
        graph, state = nnx.split(objects)
        step = jitted(guarded_step, Step(graph, self.loss_fn, self.update, self.windows[rule]), **COMPILER_OPTIONS)
        flags = Flags.first(objects[0])
        states = {0: state} if 0 in self.evaluate_at else {}
        pending: list[Array] = []
        batch = None
        for batch in map(as_batch, epoch_batches(self.batches)(seed)):
            for mask in batch[2:]:
                check_some_entry(mask)
            state, flags, loss = step(state, flags, batch)
            pending.append(loss)
            if len(pending) in self.evaluate_at:
                states[len(pending)] = state
        if (count := len(pending)) < (least := max([1, *self.evaluate_at])):
            raise ValueError(f"sweep got {count} batches for seed {seed}, expected at least {least}.")
        states = {at: of_network(kept) for at, kept in (states | {count: state}).items()}
        losses = np.array(jax.device_get(pending))
        return Run.of(rule, point, seed, losses, nnx.graphdef(objects[:2]), states), batch


@functools.lru_cache(maxsize=64)
def _with_rate_in_state(make: Callable[[Any], optax.GradientTransformation]) -> optax.GradientTransformation:
    """A transformation with its learning rate in its state; the same object each time, so that it is the same program."""
    return optax.inject_hyperparams(lambda rate: make(rate))(rate=1.0)


def of_network(state: nnx.State) -> nnx.State:
    """The state of model and rule in that of (model, rule, optimizer)."""
    return nnx.filter_state(state, lambda path, _: path[0] < 2)
