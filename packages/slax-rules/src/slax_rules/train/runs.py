"""What `sweep` returns: the runs of all rules, rates and seeds, with tables and curves of their scores."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from flax import nnx

from slax_neurons.building_blocks import aligned
from slax_rules.train.intervals import holm, interval, p_value


@dataclasses.dataclass(eq=False)
class Run:
    """One training of a `sweep`.

    Args:
        rule, point, seed: the name of its rule, its learning rate and other settings by name, and its seed.
        losses: the loss of each batch.
        not_finite: the first batch, counted from 1, whose step, or a loss of held-out samples after it, was not finite, as in
            `fit`; or None. The run is not evaluated from there on.
        validation, test: the scores by the number of batches before them. The test samples are read at the chosen rate alone.

    Example:
        `sweep(...).best["otpe"][0]` is the run of the rule "otpe" with the first seed, at the learning rate that was chosen.
    """

    rule: str
    point: dict[str, Any]
    seed: int
    losses: np.ndarray
    not_finite: int | None
    validation: dict[int, float]
    test: dict[int, float]
    _graphdef: Any = dataclasses.field(repr=False)
    _states: dict[int, Any] = dataclasses.field(repr=False)

    @classmethod
    def of(
        cls, rule: str, point: Mapping[str, Any], seed: int, losses: np.ndarray, graphdef: Any, states: dict[int, Any]
    ) -> "Run":
        """A run without scores, from its losses and the states of model and rule by number of batches."""
        bad = next((int(index) + 1 for index in np.flatnonzero(~np.isfinite(losses))), None)
        return cls(rule, dict(point), seed, losses, bad, {}, {}, graphdef, states)

    @property
    def rate(self) -> float:
        """The learning rate."""
        rate: float = self.point["rate"]
        return rate

    @property
    def steps(self) -> tuple[int, ...]:
        """The numbers of batches at which it was evaluated; the last is the end."""
        return tuple(self._states)

    def network(self, step: int | None = None) -> tuple[Any, Any]:
        """The model and the rule after this number of batches, one of `steps`; at the end by default.

        Raises:
            ValueError: a number of batches at which the run was not evaluated.
        """
        model, rule = nnx.merge(self._graphdef, self._states[self._kept(step)], copy=True)
        return model, rule

    def score(self, samples: Literal["validation", "test"], step: int | None = None) -> float:
        """A score, or NaN for a run that was not finite before.

        Raises:
            ValueError: a sweep without these samples, or a number of batches at which the run was not evaluated.
        """
        scores: dict[int, float] = getattr(self, samples)
        if not scores and self.not_finite is None:
            raise ValueError(f"Got no {samples} samples. To have a score of them: sweep(..., {samples}=[...]).")
        return scores.get(self._kept(step), np.nan)

    def _kept(self, step: int | None) -> int:
        step = self.steps[-1] if step is None else step
        if step not in self._states:
            known = ", ".join(map(str, self.steps))
            raise ValueError(f"Got {step} batches, expected one of: {known}. Ask for it: evaluate_at=({step},).")
        return step


@dataclasses.dataclass(frozen=True, repr=False)
class Sweep:
    """The result of `sweep`; `print` shows its table.

    Args:
        points: what was tried: each learning rate, "rate", in increasing order, for each combination of settings.
        trials: by rule, the runs `[points][seeds]` that the point was chosen by.
        chosen: by rule, the point with the best mean score on the validation samples, the first of two equals.
        best: by rule, the runs of all seeds at that point.
        limits: the least and largest possible score, to which the intervals of the table are clipped: 0 and 1 for `accuracy`.
        mode: "max" if a larger score is better, "min" if a smaller one is.
        reference: the rule that the table compares the others with. If it is None, this is the rule of the name "bptt", in
            letters of any case, or else the rule with the best mean score on the validation samples.

    Example:
        See `sweep`.
    """

    points: tuple[dict[str, Any], ...]
    trials: dict[str, list[list[Run]]]
    chosen: dict[str, dict[str, Any]]
    best: dict[str, list[Run]]
    limits: tuple[float, float] = (-np.inf, np.inf)
    mode: Literal["min", "max"] = "max"
    reference: str | None = None

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates, increasing."""
        return tuple(dict.fromkeys(point["rate"] for point in self.points))

    def validation(self, rule: str) -> np.ndarray:
        """The final scores of the trials on validation samples, by point and seed [P, S]; NaN for a run that was not finite.

        Raises:
            ValueError: a sweep without validation samples.
        """
        return np.array([[run.score("validation") for run in runs] for runs in self.trials[rule]])

    def test(self, rule: str, step: int | None = None) -> np.ndarray:
        """The scores on the test samples by seed [S], after a number of batches of `evaluate_at`, or at the end; NaN for a run
        that was not finite before.

        Raises:
            ValueError: a sweep without test samples, or a number of batches at which the runs were not evaluated.
        """
        return np.array([run.score("test", step) for run in self.best[rule]])

    def differences(self, reference: str | None = None, step: int | None = None) -> dict[str, dict[str, float]]:
        """For each other rule, its test score minus the reference's, and the paired t test that the two have the same mean.

        All rules start from the same weights and see the same batches, so differences within a seed vary less than scores do.
        The tests are about other seeds, with the same test samples. A reference that validation samples chose among the rules
        is not corrected for.

        Args:
            reference: a rule; by default that of the table.
            step: the scores after this number of batches of `evaluate_at`; at the end by default.

        Returns:
            By rule, the "mean" of the differences of equal seeds, the limits "low" and "high" of its 95 % interval, and
            "p_value", two-sided, after Holm's correction for the number of rules; see `slax_rules.train.intervals`. NaN where
            a run was not finite, for a single seed, and as the p-value of differences that are all equal.

        Raises:
            ValueError: a reference that is no rule of this sweep, or no test samples.
        """
        reference = self._reference() if reference is None else reference
        if reference not in self.best:
            raise ValueError(f"Got the reference {reference!r}, expected one of: {', '.join(self.best)}.")
        base = self.test(reference, step)
        scores = {rule: self.test(rule, step) for rule in self.best if rule != reference and self._is_tested(rule)}
        corrected = holm([p_value(its, base) for its in scores.values()])
        pairs = zip(scores.items(), corrected, strict=True)
        return {rule: {**interval(its - base), "p_value": p} for (rule, its), p in pairs}

    def _is_tested(self, rule: str) -> bool:
        """Whether all runs of a rule have scores on test samples, or were not finite before."""
        return all(run.test or run.not_finite for run in self.best[rule])

    def _validation_mean(self, rule: str) -> float | None:
        """The mean score of the chosen trials of a rule on validation samples, if there are any."""
        trials = self.trials[rule][self.points.index(self.chosen[rule])]
        return float(np.mean([run.score("validation") for run in trials])) if trials[0].validation else None

    def _reference(self) -> str:
        """The rule that the table compares the others with."""
        if self.reference in self.best:
            return self.reference
        if named := [rule for rule in self.best if rule.lower() == "bptt"]:
            return named[0]
        choose = max if self.mode == "max" else min
        return choose(self.best, key=lambda rule: self._validation_mean(rule) or 0.0)

    def rows(self) -> list[dict[str, Any]]:
        """The table: for each rule the chosen rate and settings, the mean score on validation samples, the mean score on test
        samples with its interval, the number of seeds, (point, seed, batch) of runs that were not finite, and "difference",
        the score minus that of the reference, with its interval and p-value as in `differences`. None where there is none, such
        as the interval of a single seed and the p-value of differences that are all equal; a mean with a run that was not
        finite is NaN."""
        if not self.best:
            return []
        found, reference = [], self._reference()
        differences = self.differences() if self._is_tested(reference) else {}
        widest = self.limits[1] - self.limits[0]
        for rule, best in self.best.items():
            runs = dict.fromkeys([*(run for runs in self.trials[rule] for run in runs), *best])
            score = interval(self.test(rule)) if self._is_tested(rule) else {}
            minus = differences.get(rule, {})
            low, high = _clipped(score, *self.limits)
            difference_low, difference_high = _clipped(minus, -widest, widest)
            found.append(
                {"rule": rule, **self.chosen[rule], "validation": self._validation_mean(rule)}
                | {"test": score.get("mean"), "low": low, "high": high, "seeds": len(best)}
                | {"not_finite": [(run.point, run.seed, run.not_finite) for run in runs if run.not_finite]}
                | {"reference": reference, "difference": minus.get("mean"), "difference_low": difference_low}
                | {"difference_high": difference_high, "p_value": _or_none(minus.get("p_value", np.nan))}
            )
        return found

    def curves(self, samples: Literal["validation", "test"] = "test") -> dict[str, dict[str, np.ndarray]]:
        """By rule, the score along the training at the chosen rate: "batches", the numbers of `evaluate_at` and the last, and
        "mean", "low" and "high" over seeds, the 95 % interval within the limits; NaN where a run was not finite."""
        found = {}
        for rule, runs in self.best.items():
            steps = runs[0].steps
            at = [interval(np.array([run.score(samples, step) for run in runs])) for step in steps]
            bands = {end: np.clip([one[end] for one in at], *self.limits) for end in ("mean", "low", "high")}
            found[rule] = {"batches": np.array(steps)} | bands
        return found

    def __repr__(self) -> str:
        """The rows as text, each table with its head: of all rules, and of their differences to the reference, if any."""
        names, rows = list(self.points[0]), self.rows()
        scores = [["rule", *names, "validation", "test", "95 % interval", "seeds", "runs that were not finite"]]
        differences = [[f"test minus {rows[0]['reference']}", "mean", "95 % interval", "p (Holm)"]] if rows else []
        for row in rows:
            broken = "; ".join(
                f"{in_words(point)}, seed {seed}, batch {step}" for point, seed, step in row["not_finite"]
            )
            values = [row["rule"], *(as_text(row[name]) for name in names)]
            numbers = [_number(row[name]) for name in ("validation", "test")]
            scores.append([*values, *numbers, _limits(row["low"], row["high"]), str(row["seeds"]), broken or "none"])
            if row["difference"] is not None:
                limits = _limits(row["difference_low"], row["difference_high"])
                mean, p = _number(row["difference"], "+.4f"), _number(row["p_value"], ".2g")
                differences.append([row["rule"], mean, limits, p])
        tables = [scores, differences] if differences[1:] else [scores]
        return "\n\n".join("\n".join(aligned(table, left=1)) for table in tables)

    def draw_curves(self, ax: Any, samples: Literal["validation", "test"] = "test") -> None:
        """Draw the mean score of each rule against the number of batches, with a band for its 95 % interval; see `curves`.

        Args:
            ax: axes of Matplotlib.
            samples: whose scores; with `evaluate_at`, there is more than the last.
        """
        for rule, curve in self.curves(samples).items():
            batches, low, high = (curve[name] for name in ("batches", "low", "high"))
            (line,) = ax.plot(batches, curve["mean"], marker="o", markersize=3, label=rule)
            ax.fill_between(batches, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        ax.set(xlabel="batches", ylabel=f"score on {samples} samples")
        ax.legend()

    def draw(self, ax: Any) -> None:
        """Draw the mean score on the validation samples against the learning rate, at the chosen settings, with a ring at the
        chosen rate.

        Args:
            ax: axes of Matplotlib.
        """
        for rule in self.best:
            chosen = self.chosen[rule]
            shown = [point | {"rate": 0} == chosen | {"rate": 0} for point in self.points]
            means, best = self.validation(rule).mean(axis=1)[shown], self.rates.index(chosen["rate"])
            (line,) = ax.plot(self.rates, means, marker="o", markersize=4, label=rule)
            ax.plot(self.rates[best], means[best], "o", markersize=11, fillstyle="none", color=line.get_color())
        ax.set(xscale="log", xlabel="learning rate", ylabel="score on validation samples")
        ax.legend()


def in_words(point: Mapping[str, Any]) -> str:
    """A point as text: "rate 0.01, decay 0.9"."""
    return ", ".join(f"{name} {as_text(value)}" for name, value in point.items())


def as_text(value: Any) -> str:
    """A number in few digits, and anything else as it prints."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _clipped(score: Mapping[str, float], least: float, largest: float) -> tuple[Any, Any]:
    """The limits of an interval within the limits of what it is about; None if there is no interval."""
    low, high = np.clip([score.get("low", np.nan), score.get("high", np.nan)], least, largest).tolist()
    return _or_none(low), _or_none(high)


def _or_none(value: float) -> float | None:
    """A number, or None in place of NaN."""
    return None if np.isnan(value) else value


def _number(value: float | None, form: str = ".4f") -> str:
    """A number as text; a dash if there is none."""
    return "-" if value is None or np.isnan(value) else f"{value:{form}}"


def _limits(low: float | None, high: float | None) -> str:
    """An interval as text; a dash if there is none, as of one seed."""
    return "-" if low is None else f"{_number(low):>7} to {_number(high):>7}"
