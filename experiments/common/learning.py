"""The one procedure by which rules are compared: settings are chosen on validation samples, with as many trials for each rule,
and the test set is read once, by networks trained with the chosen settings. It is `slax_rules.sweep`, by a configuration.

First, all `learning_rates` are tried. Then, if the configuration has `second_trials`, two values of a second setting are tried
at the best rate. It is a setting of the rule's own: the alpha of FPTT, or the window between two online updates. A rule without
such a setting tries two more learning rates instead, halfway (in the logarithm) between the best rate and its neighbors.

The best settings have the largest mean validation accuracy; of equals, the least mean validation loss, then the smallest rate.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.common.samples import SeedSamples, seeds_of
from experiments.common.tasks import make_model
from slax_neurons import Connect
from slax_rules import RULES, TBPTT, accuracy, cross_entropy, evaluate, fit, sweep
from slax_rules.loop import trained_together
from slax_rules.train.runs import Run, Sweep

Update = Literal["offline", "online"]  # one optimizer step per sequence, or one per window
SamplesOf = Callable[[int], SeedSamples]

RATE, WINDOW, ALPHA = "learning_rate", "online_window", "alpha"
EQUAL = 1e-6  # difference of mean scores that are equal: those of float32 differ in their last digits
SMALLEST = 1e-12  # the least length that is divided by
FPTT_WINDOW = 1  # steps between two updates of FPTT, which is part of the optimizer
OPTIMIZERS = {"adam": optax.adam, "adamax": optax.adamax}


class NotFinite(SystemExit):
    """No learning rate kept all trials finite."""


def named_rule(config: dict[str, Any]) -> Callable[..., Any]:
    """The function that makes the rule with the configured name."""
    return RULES[config["rule"]].make


def gradient_rule(name: str, rule: Any) -> Any:
    """The rule for inspecting its gradient of a sequence: for FPTT, before its regularizer, this is the sum of the gradients of
    its windows."""
    return TBPTT(steps=FPTT_WINDOW) if RULES[name].optimizer else rule


def online_window(config: dict[str, Any], rule: Any) -> int:
    """The number of steps between two online updates, from the configuration except for FPTT and TBPTT, which set their own."""
    if RULES[config["rule"]].optimizer:
        return FPTT_WINDOW
    return rule.steps if isinstance(rule, TBPTT) else config["online_window"]


def transformation(config: dict[str, Any], rate: Any) -> optax.GradientTransformation:
    """The configured `optimizer`, in the wrapper of the configured rule if it has one, with `optimizer_options`; perhaps after
    a `clip`, the largest global norm of a gradient, which is scaled down to it."""
    made = OPTIMIZERS[config["optimizer"]](rate)
    if config.get("clip"):
        made = optax.chain(optax.clip_by_global_norm(config["clip"]), made)
    wrapper = RULES[config["rule"]].optimizer if "rule" in config else None
    return wrapper(made, **config["optimizer_options"]) if wrapper else made


@cache
def with_rate_in_state(optimizer: str) -> optax.GradientTransformation:
    """An optimizer of OPTIMIZERS with the learning rate in its state, so that one program serves all rates."""
    return optax.inject_hyperparams(OPTIMIZERS[optimizer])(learning_rate=1.0)


def scaled(to: float, least: float = SMALLEST) -> optax.GradientTransformation:
    """Scale the gradient of each array to a length; one that is shorter than `least` by as much as one of that length."""
    return optax.stateless_with_tree_map(lambda array, _: with_length(array, to, least))


def with_length(array: jax.Array, to: Any, least: float = SMALLEST) -> jax.Array:
    """The array in its direction, with another length; zero stays zero."""
    return array * (to / jnp.maximum(jnp.linalg.norm(array), least))


def train(
    config: dict[str, Any],
    update: Update,
    sampler: SamplesOf,
    where: str,
    *,
    rates: Sequence[float],
    seeds: int,
    network: Callable[[dict[str, Any], nnx.Rngs], Connect] = make_model,
    rule_of: Callable[[dict[str, Any]], Callable[..., Any]] = named_rule,
    optimizer_of: Callable[[dict[str, Any], Any], optax.GradientTransformation] = transformation,
    metric: Callable[..., Any] = accuracy,
    tests: bool = True,
    validates: bool = True,
    evaluate_at: Sequence[int] = (),
    **options: Any,
) -> Sweep:
    """The sweep of one rule over learning rates and the first seeds of the configuration.

    Args:
        config: provides `steps`, the number of batches of a training, `n_steps`, `online_window`, `optimizer`, `anneal` and
            `optimizer_options`, and what `network` needs; perhaps `clip`, and `evaluate_at`, the numbers of batches before the
            end after which the network is evaluated too.
        update: whether there is an update for each sequence or for each window.
        sampler: maps a seed to its samples.
        where: the experiment, the task and the rule, for progress and errors.
        seeds: their number.
        metric: larger is better.
        rates, options: see `slax_rules.sweep`.
        network: `network(config, rngs)`.
        rule_of: `rule_of(config)(rngs=..., model=...)`.
        optimizer_of: `optimizer_of(config, rate)`.
        tests, validates: whether the test samples and the validation samples are read.
        evaluate_at: more numbers of batches after which the network is kept and evaluated.

    The program stops if no rate keeps all trials finite, unless `NotFinite` is caught.
    """
    make, make_network, window = rule_of(config), partial(network, config), None
    if update == "online":
        window = online_window(config, make(rngs=nnx.Rngs(0), model=make_network(nnx.Rngs(0))))
    updates = config["steps"] * (1 if window is None else -(-config["n_steps"] // window))

    def optimizer(rate: Any) -> optax.GradientTransformation:
        return optimizer_of(config, optax.cosine_decay_schedule(rate, updates) if config["anneal"] else rate)

    try:
        return sweep(
            make_network,
            optimizer,
            cross_entropy,
            lambda seed: sampler(seed).batches(),
            rules={where: make},
            rates=rates,
            seeds=seeds_of(config, seeds),
            validation=(lambda seed: [sampler(seed).validation]) if validates else None,
            test=(lambda seed: [sampler(seed).test]) if tests else None,
            metric=metric,
            mode="max",
            update=update,
            window=window,
            evaluate_at=(*evaluate_at, *(step for step in config.get("evaluate_at", ()) if step < config["steps"])),
            **options,
        )
    except FloatingPointError as error:
        raise NotFinite(str(error)) from None


def finite_runs(found: Sweep) -> list[Run]:
    """The runs of a sweep of one rule at the chosen rate; the program stops at a run that was not finite."""
    (runs,) = found.best.values()
    for run in runs:
        if run.not_finite:
            raise SystemExit(
                f"{run.rule}, seed {run.seed}, the loss or the gradient of training step {run.not_finite} of {len(run.losses)} "
                "is not finite. Possible causes are a learning rate that is too high, and inputs that are not finite."
            )
    return runs


def at_one_rate(config: dict[str, Any], sampler: SamplesOf, where: str, **how: Any) -> list[Run]:
    """The runs of all seeds at the configured `learning_rate`, with an update for each sequence. See `train`."""
    given = {"rates": [config["learning_rate"]], "seeds": config["seeds"], "validates": False}
    return finite_runs(train(config, "offline", sampler, where, **given, **how))


def fit_or_stop(
    where: str, model: Connect, rule: Any, made: optax.GradientTransformation, batches: Any, **how: Any
) -> np.ndarray:
    """Train a model in place by `fit`, and return the losses; the program stops at a step that is not finite."""
    trained = trained_together(model, rule)
    optimizer = nnx.Optimizer(trained, made, wrt=nnx.Param)
    loss_fn = how.pop("loss_fn", cross_entropy)
    try:
        return fit(model, optimizer, loss_fn, batches, rule=rule, **how).losses
    except FloatingPointError as error:
        raise SystemExit(f"{where}: {error}") from None


def choose(
    config: dict[str, Any], update: Update, sampler: SamplesOf, where: str, second: str = RATE, **how: Any
) -> tuple[dict[str, Any], list[Run]]:
    """The trials of the first `rate_seeds` seeds as JSON, and the runs of all `seeds` with the chosen settings.

    The networks of these runs alone read the test set, after the choice.

    A score is 0 if the training was not finite, as it may be at a rate that is too high, and its settings are not chosen. If no
    second trial has settings that keep all its seeds finite, its scores are all 0.

    Args:
        config: provides `learning_rates`, `seeds`, `rate_seeds`, and perhaps `second_trials`, two values for each name of a
            second setting; without it, there are none.
        update, sampler, where, how: see `train`.
        second: the name of the second setting.
    """
    rates, count = sorted(config["learning_rates"]), config["rate_seeds"]
    run = partial(train, update=update, sampler=sampler, where=where, **how)
    loss = partial(validation_loss, sampler)
    has_second = config.get("second_trials") is not None
    if has_second and second == WINDOW:
        check_windows(config, where)
    first = run(config, rates=rates, seeds=count, tests=False)
    of_best = first.trials[where][best_of(first.trials[where], loss)]
    trials, own, best = trials_of(first, of_best[0].rate), config, of_best[0].rate
    if not has_second:
        return trials, finite_runs(run(config, rates=[best], seeds=config["seeds"]))

    def tried(config: dict[str, Any], rates: list[float]) -> list[list[Run]]:
        try:
            return run(config, rates=rates, seeds=count, tests=False).trials[where]
        except NotFinite:
            return [[] for _ in rates]

    if second == RATE:
        values = halfway(rates, best)
        others = tried(config, values)
    else:
        values = config["second_trials"][second]
        others = [runs for value in values for runs in tried(with_setting(config, second, value), [best])]
    scores = [[run.score("validation") for run in runs] or [0.0] * count for runs in others]
    trials["second"] = {"setting": second, "values": values, "validation": np.nan_to_num(np.array(scores).T).tolist()}
    index = best_of([of_best, *others], loss)
    if index:
        trials["chosen"][second] = values[index - 1]
        own = config if second == RATE else with_setting(config, second, values[index - 1])
    final = run(own, rates=[trials["chosen"][RATE]], seeds=config["seeds"])
    return trials, finite_runs(final)


def check_windows(config: dict[str, Any], where: str) -> None:
    """Stop at a window that is not shorter than the sequence: it would be one update per sequence, and not several."""
    for window in (config[WINDOW], *config["second_trials"][WINDOW]):
        if window >= config["n_steps"]:
            raise SystemExit(
                f"{where}: got a window of {window} steps between updates within a sequence of {config['n_steps']} steps, "
                f"expected fewer. Change {WINDOW} or second_trials.{WINDOW}."
            )


def best_of(trials: Sequence[Sequence[Run]], loss: Callable[[Run], float]) -> int:
    """The index of the runs with the best mean score on validation samples; of equals, of the least mean loss, then rate."""
    scores = [np.mean([run.score("validation") for run in runs]) if runs else np.nan for runs in trials]
    tied = np.flatnonzero(np.isclose(scores, np.nanmax(scores), rtol=0, atol=EQUAL))
    if len(tied) == 1:
        return int(tied[0])
    return int(min(tied, key=lambda index: (np.mean([loss(run) for run in trials[index]]), trials[index][0].rate)))


def validation_loss(sampler: SamplesOf, run: Run) -> float:
    """The loss of the network of a run on its validation samples."""
    loss: float = evaluate(run.network()[0], cross_entropy, [sampler(run.seed).validation])["loss"]
    return loss


def trials_of(found: Sweep, chosen: float) -> dict[str, Any]:
    """The trials of a sweep of one rule: the scores on the validation samples at the end, by seed and rate, and the chosen
    rate; and the scores "earlier", by the number of batches, by which a rate could be chosen for a shorter training."""
    (name,) = found.trials
    scores = np.nan_to_num(found.validation(name).T).tolist()
    runs = list(zip(*found.trials[name], strict=True))  # by seed and rate
    before = [step for step in runs[0][0].steps[:-1] if step]
    earlier = {str(step): [[run.validation.get(step, 0.0) for run in of] for of in runs] for step in before}
    return trials_without_second(list(found.rates), scores, chosen) | ({"earlier": earlier} if earlier else {})


def trials_without_second(rates: list[float], scores: list[list[float]], chosen: float) -> dict[str, Any]:
    """The trials of learning rates alone, as JSON: the scores by seed and rate, and the chosen rate."""
    return {"learning_rates": rates, "validation": scores, "second": None, "chosen": {RATE: chosen}}


def second_setting(rule: str, update: Update) -> str:
    """The setting that a rule of `RULES` tries second: TBPTT(K) has its window by its name."""
    if RULES[rule].optimizer:
        return ALPHA
    return WINDOW if update == "online" and rule != "tbptt" else RATE


def with_setting(config: dict[str, Any], name: str, value: float) -> dict[str, Any]:
    """The configuration with another value of a second setting."""
    return config | (
        {"optimizer_options": config["optimizer_options"] | {ALPHA: value}} if name == ALPHA else {name: value}
    )


def halfway(rates: list[float], best: float) -> list[float]:
    """The two rates halfway, in the logarithm, from the best rate to its neighbors.

    Beyond an end of the rates, it is as far as on the other side.
    """
    place = rates.index(best)
    below = rates[place - 1] if place else best**2 / rates[1]
    above = rates[place + 1] if best != rates[-1] else best**2 / rates[-2]
    return [math.sqrt(below * best), math.sqrt(best * above)]
