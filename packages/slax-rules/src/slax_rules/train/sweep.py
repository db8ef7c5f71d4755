"""The comparison of learning rules: each is trained with several seeds, at the learning rate that validation samples choose."""

import dataclasses
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Literal, SupportsIndex

import jax
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from slax_rules.layerwise.passes import as_rule
from slax_rules.loop.checks import check_online_loss, checked_window
from slax_rules.loop.entry import train_offline, train_online
from slax_rules.loop.programs import Programs, StaticPart
from slax_rules.loop.windows import all_finite, trained_together
from slax_rules.losses import LossFn, accuracy
from slax_rules.masks import check_some_entry
from slax_rules.training.batches import Batch, as_batch, epoch_batches
from slax_rules.training.epoch import prepared
from slax_rules.training.evaluation import Metric, evaluate
from slax_rules.training.fit_checks import warn_without_credit
from slax_rules.training.history import make_bar
from slax_rules.training.sweep_results import Run, Sweep

# A step takes about as long as with all optimizations of LLVM, and compiles in two thirds of the time.
COMPILER_OPTIONS = {"xla_backend_optimization_level": 1}

# Folded into the key of a seed for weights and rules, so that they are independent of samples drawn by the key itself.
START = 1


def sweep(
    make_model: Callable[[nnx.Rngs], nnx.RNNCellBase],
    optimizer: Callable[[Any], optax.GradientTransformation] | Mapping[str, Any],
    loss_fn: LossFn,
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    *,
    rules: Mapping[str, Any],
    rates: Sequence[float],
    seeds: SupportsIndex | Sequence[int] = 5,
    trial_seeds: int | None = None,
    validation: Iterable[Any] | Callable[[int], Iterable[Any]] | None = None,
    test: Iterable[Any] | Callable[[int], Iterable[Any]] | None = None,
    metric: Metric = accuracy,
    mode: Literal["min", "max"] | None = None,
    update: Literal["offline", "online"] = "offline",
    window: int | Mapping[str, int | None] | None = None,
    evaluate_at: Sequence[int] = (),
    progress: bool | None = None,
) -> Sweep:
    """Train a model under each of several rules, with several learning rates and seeds, and compare them fairly.

    Every rule gets the same number of trials: one training for each rate and seed. For a given seed, all rules start from the
    same weights and see the same batches in the same order. The rate of a rule is the one with the best mean score on
    validation samples. Test samples are read only after this choice, and only by the networks that were trained at that rate.
    One compiled program per rule serves all its rates and seeds.

    Args:
        make_model: maps `nnx.Rngs` to a new model.
        optimizer: maps a learning rate to an Optax transformation: `optax.adam`, or `lambda rate: optax.chain(...)`. The rate
            is a traced number, not a float. Or a dict with one for each rule: FPTT is `lambda rate: fptt(optax.adam(rate))`.
        loss_fn: see `fit`.
        batches: batches (inputs, targets) or (inputs, targets, mask), as for `fit`, which each training goes through once: a
            list, a function that maps a seed to an iterable, or a `Sampler`, whose epochs are the seeds.
        rules: by name, a rule or a list of rules for layers, as for `fit`; or a function `make(rngs=..., model=...)` for a rule
            that draws random numbers, such as `RULES["decolle"].make`.
        rates: the learning rates.
        seeds: the seeds, or their number, counted from 0.
        trial_seeds: the number of seeds that try all rates; the others train at the chosen rate alone. All by default.
        validation: batches by which rates are chosen, or a function that maps a seed to them; optional for a single rate.
        test: batches for the final score, or a function that maps a seed to them; none by default.
        metric: the score: maps outputs, targets, and the mask if there is one to a number; see `evaluate`.
        mode: "max" if a larger score is better, "min" if a smaller one is. It may be omitted for `accuracy`.
        update, window: see `fit`; the window may be a dict with one for each rule.
        evaluate_at: numbers of batches after which a run is evaluated, in addition to its end; 0 is before training. The
            arrays of model and rule at these points are kept.
        progress: whether to draw a progress bar; by default only at a terminal.

    Returns:
        The scores, the chosen rates, and the trained networks.

    Raises:
        TypeError, ValueError: arguments that do not fit together; see `fit` for model, rules, inputs and targets.
        FloatingPointError: a rule for which no rate kept all trials and their scores finite, or held-out inputs that are not
            finite. A trial that is not finite is listed in the table, and its rate is not chosen.

    Warns:
        UserWarning: seeds with the same network at the end; BPTT or TBPTT with `update="online"` and no `window`, see `fit`.

    Example:
        >>> import jax
        >>> import optax
        >>> from flax import nnx
        >>> from slax_neurons import LI, LIF, connect
        >>> from slax_rules import BPTT, OTTT, cross_entropy, sweep
        >>> def make_model(rngs):
        ...     return connect([nnx.Linear(8, 16, rngs=rngs), LIF(), nnx.Linear(16, 2, rngs=rngs), LI()])
        >>> def batches(seed, count=10):
        ...     for key in jax.random.split(jax.random.key(seed), count):
        ...         labels = jax.random.bernoulli(key, shape=(32,)).astype(int)
        ...         yield jax.random.bernoulli(key, 0.2 + 0.4 * labels[None, :, None], (20, 32, 8)), labels
        >>> found = sweep(
        ...     make_model, optax.adam, cross_entropy, batches, rules={"bptt": BPTT(), "ottt": OTTT()}, rates=[1e-3, 1e-2],
        ...     seeds=3, validation=lambda seed: batches(100 + seed, 1), test=lambda seed: batches(200 + seed, 1))
        >>> found.chosen
        {'bptt': 0.01, 'ottt': 0.01}
        >>> found.test("ottt").shape, found.differences("bptt")["ottt"].n
        ((3,), 3)
    """
    sets = {"batches": batches, "validation": validation, "test": test}
    _check(make_model, optimizer, loss_fn, sets, rules, rates, update, window)
    given = seeds if isinstance(seeds, Sequence | np.ndarray) else range(operator.index(seeds))
    numbers = tuple(map(operator.index, given))
    count = len(numbers) if trial_seeds is None else trial_seeds
    if not 1 <= count <= len(numbers) or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"sweep got the seeds {numbers}, and {count} of them for trials, expected different seeds, and 1 or more."
        )
    rates = tuple(sorted(rates))
    is_accuracy = accuracy in (metric, getattr(metric, "func", None))
    limits = (0.0, 1.0) if is_accuracy else (-np.inf, np.inf)
    chooses = validation is not None and len(rates) > 1
    mode = "max" if mode is None and (is_accuracy or not chooses) else mode
    if mode not in ("min", "max"):
        raise ValueError(
            f'sweep got mode={mode!r}, expected "max" if a larger score is better or "min" if a smaller one is. Only accuracy '
            "needs no mode."
        )
    found = Sweep(rates, {}, {}, {}, limits)
    total = len(rules) * (len(rates) * count + len(numbers) - count)
    settings: dict[str, _Setting] = {}
    for name, rule in rules.items():
        network = _network(make_model, rule, 0)
        steps = checked_window(_of(window, name))
        if update == "online":
            warn_without_credit("sweep", network[1], steps)
        settings[name] = _Setting(nnx.graphdef(network), _of(optimizer, name), loss_fn, update, steps)
    with closing(make_bar(total, 0, progress)) as bar:

        def trained(name: str, rate: float, seed: int) -> Run:
            start = nnx.state(_network(make_model, rules[name], seed))
            run = _train(settings[name], start, _for_seed(batches, seed), evaluate_at, name, rate, seed)
            if validation is not None:
                run.validation.update(_scores(run, loss_fn, _for_seed(validation, seed), metric))
            bar.set_postfix({"rule": name, "rate": rate, "seed": seed}, refresh=False)
            bar.update(1)
            return run

        for name in rules:
            found.trials[name] = [[trained(name, rate, seed) for seed in numbers[:count]] for rate in rates]
            chosen = _choose(name, found, validation is not None, mode)
            rate = found.chosen[name] = rates[chosen]
            found.best[name] = found.trials[name][chosen] + [trained(name, rate, seed) for seed in numbers[count:]]
            for run in () if test is None else found.best[name]:
                run.test.update(_scores(run, loss_fn, _for_seed(test, run.seed), metric))
    first, *others = next(iter(found.best.values()))
    if same := [run.seed for run in others if _is_same(first, run)]:
        warnings.warn(
            f"sweep got the same network from the seeds {', '.join(map(str, (first.seed, *same)))}, expected a network of each "
            "seed: an interval needs independent runs. Draw the weights from the rngs that make_model gets, or make batches a "
            "function of the seed.",
            UserWarning,
            stacklevel=2,
        )
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Setting(StaticPart):
    """What stays fixed in a training; equal settings share their compiled program."""

    graphdef: Any  # of the model and the rule
    optimizer: Callable[[Any], optax.GradientTransformation]
    loss_fn: LossFn
    update: str
    window: int | None

    def objects(self, network: nnx.State, of_optimizer: Any, rate: Any) -> tuple[Any, Any, nnx.Optimizer]:
        """The model, the rule and the optimizer, from the state of the first two and that of the optimizer or None."""
        model, rule = nnx.merge(self.graphdef, network, copy=True)
        trained = trained_together(model, rule)
        optimizer = nnx.Optimizer(trained, self.optimizer(rate), wrt=nnx.Param)
        if of_optimizer is not None:
            nnx.update(optimizer, of_optimizer)
        return model, rule, optimizer


def _network(make_model: Callable[[nnx.Rngs], Any], rule: Any, seed: int) -> tuple[Any, Any]:
    """The model and the rule of a seed. The weights do not depend on the rule."""
    model_key, rule_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), START))
    model = make_model(nnx.Rngs(model_key))
    if not isinstance(model, nnx.RNNCellBase):
        raise TypeError(
            f"make_model returned {type(model).__name__}, expected a cell, such as the stack that connect makes."
        )
    made = rule(rngs=nnx.Rngs(rule_key), model=model) if callable(rule) and not isinstance(rule, type) else rule
    as_rule(made)
    return model, made


def _train(
    setting: _Setting,
    network: nnx.State,
    batches: Iterable[Any],
    evaluate_at: Sequence[int],
    name: str,
    rate: float,
    seed: int,
) -> Run:
    """Train once, under the rule of this name, with a rate and a seed."""
    of_optimizer = nnx.state(setting.objects(network, None, rate)[2])
    states = {0: network} if 0 in evaluate_at else {}
    pending: list[Array] = []
    for batch in map(as_batch, batches):
        for mask in batch[2:]:
            check_some_entry(mask)
        network, of_optimizer, loss = _step(setting, network, of_optimizer, rate, batch)
        pending.append(loss)
        if len(pending) in evaluate_at:
            states[len(pending)] = network
    count, least = len(pending), max([1, *evaluate_at])
    if count < least:
        raise ValueError(
            f"sweep got {count} batches for seed {seed}, expected at least {least}. A generator can be read only once: give "
            "a list, or a function that maps a seed to an iterable."
        )
    losses = np.array(jax.device_get(pending))
    states[count] = network
    bad = [int(index) + 1 for index in np.flatnonzero(~np.isfinite(losses))[:1]]
    params = {step: jax.tree.leaves(nnx.filter_state(kept, nnx.Param)) for step, kept in states.items()}
    bad += [max(step, 1) for step, leaves in params.items() if not jax.jit(all_finite)(leaves)]
    first_bad = min(bad, default=None)
    return Run(name, rate, seed, losses, first_bad, validation={}, test={}, _graphdef=setting.graphdef, _states=states)


@partial(Programs, compiler_options=COMPILER_OPTIONS)
def _step(
    setting: _Setting, network: nnx.State, of_optimizer: nnx.State, rate: Any, batch: Batch
) -> tuple[nnx.State, nnx.State, Array]:
    model, rule, optimizer = setting.objects(network, of_optimizer, rate)
    inputs, targets, mask = prepared(model, batch)
    step = train_online if setting.update == "online" else train_offline
    loss = step(model, optimizer, setting.loss_fn, inputs, targets, mask, rule=rule, window=setting.window)
    return nnx.state((model, rule)), nnx.state(optimizer), loss


def _scores(run: Run, loss_fn: LossFn, batches: Iterable[Any], metric: Metric) -> Iterator[tuple[int, float]]:
    """The score after each number of batches at which the run was finite; a loss that is not marks the run."""
    held_out = list(batches)
    for step in run.steps:
        if run.not_finite is not None and step >= run.not_finite:
            return
        model, _ = run.network(step)
        try:
            found = evaluate(model, loss_fn, held_out, metrics={"score": metric})
        except FloatingPointError:
            if not all(np.isfinite(as_batch(batch)[0]).all() for batch in held_out):
                raise
            run.not_finite = max(step, 1)
            return
        yield step, found["score"]


def _choose(name: str, found: Sweep, is_validated: bool, mode: str) -> int:
    """The index of the best rate."""
    runs = [run for of_rate in found.trials[name] for run in of_rate]
    broken = [run for run in runs if run.not_finite]
    means = found.validation(name).mean(axis=1) if is_validated else np.array([np.nan if broken else 0.0])
    if np.isnan(means).all():
        first = (broken or [run for run in runs if np.isnan(run._score("validation"))])[0]
        cause = (
            f"the loss or the gradient of batch {first.not_finite} is not finite, or the parameters or a loss of held-out "
            "samples after it. Try smaller rates, and see that inputs are finite and targets in range."
        )
        raise FloatingPointError(
            f"{name}: no learning rate of {', '.join(f'{rate:g}' for rate in found.rates)} kept all trials finite. At "
            f"{first.rate:g}, seed {first.seed}, "
            + (cause if broken else "the metric is not a number, though the loss is finite. Check the metric.")
        )
    return int(np.nanargmax(means) if mode == "max" else np.nanargmin(means))


def _is_same(one: Run, other: Run) -> bool:
    """True if two runs of a rule ended with the same parameters."""
    pairs = zip(*(jax.tree.leaves(nnx.state(run.network()[0], nnx.Param)) for run in (one, other)), strict=True)
    return all(np.array_equal(*pair) for pair in pairs)


def _of(given: Any, rule: str) -> Any:
    """The value for a rule, of one for all or a dict with one for each."""
    return given[rule] if isinstance(given, Mapping) else given


def _for_seed(given: Any, seed: int) -> Iterable[Any]:
    """The batches of a seed, of one list for all or a function of it."""
    return epoch_batches(given)(seed)


def _check(
    make_model: Any, optimizer: Any, loss_fn: Any, sets: Any, rules: Any, rates: Any, update: str, window: Any
) -> None:
    if not callable(make_model) or isinstance(make_model, nnx.Module):
        raise TypeError(
            f"sweep got {type(make_model).__name__} as make_model, expected a function that maps nnx.Rngs to a new model: each "
            "training starts from a new one."
        )
    for one in optimizer.values() if isinstance(optimizer, Mapping) else (optimizer,):
        if not callable(one):
            raise TypeError(
                f"sweep got {type(one).__name__} as the optimizer, expected a function that maps a learning rate to an Optax "
                "transformation: optax.adam, without a rate."
            )
    if not isinstance(rules, Mapping) or not rules:
        raise TypeError('sweep expects rules by name: rules={"bptt": BPTT(), "otpe": OTPE()}.')
    for name, given in {"optimizer": optimizer, "window": window}.items():
        if isinstance(given, Mapping) and (missing := [rule for rule in rules if rule not in given]):
            raise ValueError(
                f"sweep got {name} by rule and none for {', '.join(missing)}, expected one for each rule: "
                f"{name}={{{missing[0]!r}: ...}}."
            )
    if not np.size(rates) or np.ndim(rates) != 1 or min(rates) <= 0 or len(set(rates)) < len(rates):
        raise ValueError(
            f"sweep got rates={rates}, expected a list of different positive numbers, at least one: [1e-3, 1e-2]."
        )
    if update not in ("offline", "online"):
        raise ValueError(f'sweep got update={update!r}, expected "offline" or "online".')
    if update == "online":
        check_online_loss("sweep", loss_fn)
    if sets["validation"] is None and len(rates) > 1:
        raise ValueError("sweep got several rates and no validation samples to choose by. Give some: validation=[...].")
    for name, given in sets.items():
        if isinstance(given, Iterator):
            raise ValueError(
                f"sweep got {type(given).__name__} as {name}, which can be read only once, expected a list, or a function "
                "that maps a seed to an iterable."
            )
