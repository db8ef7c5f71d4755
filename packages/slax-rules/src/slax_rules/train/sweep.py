"""The comparison of learning rules: each is trained with several seeds, at the learning rate that validation samples choose."""

import itertools
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import jax
import numpy as np
import optax
from flax import nnx

from slax_rules.api import checked_window
from slax_rules.losses import LossFn, accuracy
from slax_rules.train.batches import as_batch, checked, epoch_batches
from slax_rules.train.evaluate import Metric, evaluate
from slax_rules.train.fit import check_update, make_bar
from slax_rules.train.intervals import ROUNDING
from slax_rules.train.runs import Run, Sweep, in_words
from slax_rules.train.saved_runs import SavedTraining
from slax_rules.train.sweep_training import Training, Values, check_arguments, checked_steps, of_rule, plain


def sweep(
    make_model: Callable[..., nnx.RNNCellBase],
    optimizer: Callable[[Any], optax.GradientTransformation] | Mapping[str, Any],
    loss_fn: LossFn,
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    *,
    rules: Mapping[str, Any],
    rates: Values,
    settings: Mapping[str, Values] | None = None,
    seeds: SupportsIndex | Sequence[int] = 5,
    trial_seeds: int | None = None,
    validation: Iterable[Any] | Callable[[int], Iterable[Any]] | None = None,
    test: Iterable[Any] | Callable[[int], Iterable[Any]] | None = None,
    metric: Metric = accuracy,
    mode: Literal["min", "max"] | None = None,
    update: Literal["offline", "online"] = "offline",
    window: int | Mapping[str, int | None] | None = None,
    evaluate_at: Values = (),
    reference: str | None = None,
    directory: str | Path | None = None,
    progress: bool | None = None,
) -> Sweep:
    """Train a model under each of several rules, with several learning rates and seeds, and compare them fairly.

    Every rule gets the same number of trials: one training for each rate, setting and seed. For a given seed, all rules start
    from the same weights and see the same batches in the same order. The rate and the setting of a rule are those with the best
    mean score on validation samples. Test samples are read only after this choice, and only by the networks that were trained
    with it. One compiled program per rule and setting serves all its rates and seeds.

    Args:
        make_model: maps `nnx.Rngs`, and the values of a setting by name, to a new model.
        optimizer: maps a learning rate to an Optax transformation: `optax.adam`, or `lambda rate: optax.chain(...)`. The rate
            is a traced number, not a float. Or a dict with one for each rule: FPTT is `lambda rate: fptt(optax.adam(rate))`.
        loss_fn: see `fit`.
        batches: batches (inputs, targets) or (inputs, targets, mask), as for `fit`, which each training goes through once: a
            list, a function that maps a seed to an iterable, or a `Sampler`, whose epochs are the seeds.
        rules: by name, a rule, as for `fit`; or a function `make(rngs=..., model=...)` for a rule
            that draws random numbers, such as `RULES["decolle"].make`.
        rates: the learning rates.
        settings: by name, the values of further settings, such as `{"decay": [0.9, 0.98], "width": [64, 128]}`: every
            combination is tried, as `make_model(rngs, decay=0.9, width=64)`.
        seeds: the seeds, or their number, counted from 0.
        trial_seeds: the number of seeds that try all rates and settings; the others train with the chosen ones alone. All by
            default.
        validation: batches by which they are chosen, or a function that maps a seed to them; optional for a single rate.
        test: batches for the final score, or a function that maps a seed to them; none by default.
        metric: the score: maps outputs, targets, and the mask if there is one to a number; see `evaluate`.
        mode: "max" if a larger score is better, "min" if a smaller one is. It may be omitted for `accuracy`.
        update, window: see `fit`; the window may be a dict with one for each rule.
        evaluate_at: numbers of batches, >= 0, after which a run is evaluated, in addition to its end; 0 is before training. The
            arrays of model and rule at these points are kept.
        reference: the rule that the table compares the others with; by default that of the name "bptt", in letters of any case,
            or else the one with the best mean score on validation samples.
        directory: a folder for the runs. Each run is saved there when it is trained, and another call reads it in place of
            training it again. So a sweep that was killed continues, with the same result bit for bit, and one with more rules,
            rates, settings or seeds trains the missing runs alone. A run that is read has to agree with this call in rule,
            update, window, arrays of model, rule and optimizer, weights at the start, options of neurons, number of batches,
            last batch and `evaluate_at`; in the module and name of the loss and of functions among the options of neurons, such
            as a surrogate's; and in the norms of the optimizer's first two updates, within 1e-5. What a function of the same
            name computes is not compared, and neither is a schedule after these updates.
        progress: whether to draw a progress bar; by default only at a terminal.

    Returns:
        The scores, the chosen rates, and the trained networks. If an exception ends the sweep, including an interrupt from the
        keyboard, the exception has the runs so far as its attribute `sweep`.

    Raises:
        TypeError, ValueError: arguments that do not fit together, a directory with a run of another sweep; see `fit` for model,
            rules, inputs and targets.
        OSError: a directory that cannot be written to.
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
        {'bptt': {'rate': 0.01}, 'ottt': {'rate': 0.01}}
        >>> found.test("ottt").shape, sorted(found.differences()["ottt"])
        ((3,), ['high', 'low', 'mean', 'p_value'])
    """
    seeds = seeds if isinstance(seeds, Sequence | np.ndarray) else range(operator.index(seeds))
    numbers = tuple(map(operator.index, seeds))
    count = len(numbers) if trial_seeds is None else trial_seeds
    sets = {"batches": batches, "validation": validation, "test": test}
    check_arguments(
        make_model, rules, {"optimizer": optimizer, "window": window}, rates, settings, numbers, count, sets
    )
    if reference is not None and reference not in rules:
        raise ValueError(f"sweep got the reference {reference!r}, expected one of the rules: {', '.join(rules)}.")
    evaluate_at = checked_steps(evaluate_at)
    values = [map(plain, of_setting) for of_setting in (settings or {}).values()]
    points = tuple(
        {"rate": rate, **dict(zip(settings or {}, chosen, strict=True))}
        for chosen in itertools.product(*values)
        for rate in sorted(map(float, rates))
    )
    is_accuracy = accuracy in (metric, getattr(metric, "func", None))
    mode = "max" if mode is None and (is_accuracy or validation is None or len(points) == 1) else mode
    if mode not in ("min", "max"):
        raise ValueError(f'sweep got mode={mode!r}, expected "max" if a larger score is better, or "min".')
    limits = (0.0, 1.0) if is_accuracy else (-np.inf, np.inf)
    found = Sweep(points, {}, {}, {}, limits, mode, reference)
    windows = {name: checked_window(of_rule(window, name)) for name in rules}
    for name, rule in rules.items():
        check_update("sweep", loss_fn, update, rule, windows[name])
    total = len(rules) * (len(points) * count + len(numbers) - count)
    how = (make_model, optimizer, loss_fn, batches, rules, update, windows, evaluate_at)
    training = Training(*how)
    if directory is not None:
        training = SavedTraining(*how, Path(directory).expanduser().absolute())
        training.read(points, numbers)
    with closing(make_bar(total, 0, progress)) as bar:

        def trained(name: str, point: Mapping[str, Any], seed: int) -> Run:
            run = training.run(name, point, seed)
            if validation is not None:
                run.validation.update(_scores(run, loss_fn, epoch_batches(validation)(seed), metric))
            bar.set_postfix({"rule": name, **point, "seed": seed}, refresh=False)
            bar.update(1)
            return run

        try:
            for name in rules:
                trials = found.trials[name] = [[] for _ in points]
                for runs, point in zip(trials, points, strict=True):
                    for seed in numbers[:count]:
                        runs.append(trained(name, point, seed))
                chosen = _choose(name, found, validation is not None, mode)
                found.chosen[name], found.best[name] = points[chosen], list(trials[chosen])
                for seed in numbers[count:]:
                    found.best[name].append(trained(name, points[chosen], seed))
                for run in () if test is None else found.best[name]:
                    run.test.update(_scores(run, loss_fn, epoch_batches(test)(run.seed), metric))
        except BaseException as error:
            error.sweep = found  # type: ignore[attr-defined]
            raise
    first, *others = next(iter(found.best.values()))
    ends = [jax.tree.leaves(nnx.state(run.network()[0], nnx.Param)) for run in (first, *others)]
    same = [run.seed for run, end in zip(others, ends[1:], strict=True) if all(map(np.array_equal, end, ends[0]))]
    if same:
        warnings.warn(
            f"sweep got the same network from the seeds {', '.join(map(str, (first.seed, *same)))}, expected a network of each "
            "seed: an interval needs independent runs. Draw the weights from the rngs that make_model gets, or make batches a "
            "function of the seed.",
            UserWarning,
            stacklevel=2,
        )
    return found


def _scores(run: Run, loss_fn: LossFn, batches: Iterable[Any], metric: Metric) -> Iterator[tuple[int, float]]:
    """The score after each number of batches at which the run was finite; a loss that is not marks the run."""
    held_out = list(batches)
    for step in run.steps:
        if run.not_finite is not None and step >= run.not_finite:
            return
        try:
            found = evaluate(run.network(step)[0], loss_fn, held_out, metrics={"score": metric})
        except FloatingPointError:
            if not all(np.isfinite(checked(as_batch(batch))[0]).all() for batch in held_out):
                raise
            run.not_finite = max(step, 1)
            return
        yield step, found["score"]


def _choose(name: str, found: Sweep, is_validated: bool, mode: str) -> int:
    """The index of the best point, the first of those that are equal but for rounding."""
    runs = [run for of_rate in found.trials[name] for run in of_rate]
    broken = next((run for run in runs if run.not_finite), None)
    means = found.validation(name).mean(axis=1) if is_validated else np.array([np.nan if broken else 0.0])
    if not np.isnan(means).all():
        best = np.nanmax(means) if mode == "max" else np.nanmin(means)
        return int(np.flatnonzero(np.isclose(means, best, rtol=ROUNDING, atol=0))[0])
    first = broken or next(run for run in runs if np.isnan(run.score("validation")))
    cause = (
        f"the step of batch {first.not_finite} is not finite, or a loss of held-out samples after it. Try smaller rates, and "
        "see that inputs are finite and targets in range."
    )
    raise FloatingPointError(
        f"{name}: no learning rate of {', '.join(f'{rate:g}' for rate in found.rates)} kept all trials finite. With "
        f"{in_words(first.point)}, seed {first.seed}, {cause if broken else 'the metric is not a number. Check it.'}"
    )
