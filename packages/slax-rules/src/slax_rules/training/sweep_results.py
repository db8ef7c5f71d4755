"""The result of a comparison of learning rules: the runs, their scores, the table and the picture."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from flax import nnx
from scipy.special import stdtrit


class Interval(NamedTuple):
    """The mean of some numbers x_1, ..., x_n, and Student's confidence interval for it.

        mean ± t s / sqrt(n),    s^2 = sum_i (x_i - mean)^2 / (n - 1)

    where t is the quantile of Student's distribution with n - 1 degrees of freedom. The limits are NaN for a single number.

    Example:
        >>> from slax_rules import Interval
        >>> found = Interval.of([0.8, 0.9, 1.0])
        >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3), found.n
        (0.9, 0.652, 1.148, 3)
    """

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, numbers: Sequence[float] | np.ndarray, level: float = 0.95) -> "Interval":
        """The interval of some numbers.

        Raises:
            ValueError: no numbers, or a level outside (0, 1).
        """
        count = len(numbers)
        if not count or not 0 < level < 1:
            raise ValueError(f"Got {count} numbers and level={level}, expected at least one number, and 0 < level < 1.")
        mean = float(np.mean(numbers))
        half = np.nan
        if count > 1:
            half = float(stdtrit(count - 1, (1 + level) / 2) * np.std(numbers, ddof=1) / np.sqrt(count))
        return cls(mean, mean - half, mean + half, count)


@dataclasses.dataclass(eq=False)
class Run:
    """One training of a `sweep`.

    Args:
        rule, rate, seed: the name of its rule, its learning rate and its seed.
        losses: the loss of each batch.
        not_finite: the first batch, counted from 1, whose loss or gradient, or the parameters or a loss of held-out samples
            after it, were not finite; or None. The run is not evaluated from there on.
        validation, test: the scores by the number of batches before them. The test samples are read at the chosen rate alone.

    Example:
        `sweep(...).best["otpe"][0]` is the run of the rule "otpe" with the first seed, at the learning rate that was chosen.
    """

    rule: str
    rate: float
    seed: int
    losses: np.ndarray
    not_finite: int | None
    validation: dict[int, float]
    test: dict[int, float]
    _graphdef: Any = dataclasses.field(repr=False)
    _states: dict[int, Any] = dataclasses.field(repr=False)

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

    def _score(self, samples: Literal["validation", "test"], step: int | None = None) -> float:
        """A score, or NaN for a run that was not finite before."""
        scores: dict[int, float] = getattr(self, samples)
        if not scores and self.not_finite is None:
            raise ValueError(
                f"Got no {samples} samples, expected some to have a score of. Give them: sweep(..., {samples}=[...])."
            )
        return scores.get(self._kept(step), np.nan)

    def _kept(self, step: int | None) -> int:
        step = self.steps[-1] if step is None else step
        if step not in self._states:
            known = ", ".join(map(str, self.steps))
            raise ValueError(
                f"Got {step} batches, expected one of: {known}. Ask for it: sweep(..., evaluate_at=({step},))."
            )
        return step


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The result of `sweep`; `print` shows its table.

    Args:
        rates: the learning rates, increasing.
        trials: by rule, the runs `[rates][seeds]` that the learning rate was chosen by.
        chosen: by rule, the learning rate with the best mean score on the validation samples, the smaller of two equals.
        best: by rule, the runs of all seeds at that rate.
        limits: the least and largest possible score, to which the intervals of the table are clipped: 0 and 1 for `accuracy`.

    Example:
        See `sweep`.
    """

    rates: tuple[float, ...]
    trials: dict[str, list[list[Run]]]
    chosen: dict[str, float]
    best: dict[str, list[Run]]
    limits: tuple[float, float] = (-np.inf, np.inf)

    def validation(self, rule: str) -> np.ndarray:
        """The final scores of the trials on validation samples, by rate and seed [R, S]; NaN for a run that was not finite.

        Raises:
            ValueError: a sweep without validation samples.
        """
        return np.array([[run._score("validation") for run in runs] for runs in self.trials[rule]])

    def test(self, rule: str, step: int | None = None) -> np.ndarray:
        """The scores on the test samples by seed [S], after a number of batches of `evaluate_at`, or at the end; NaN for a run
        that was not finite before.

        Raises:
            ValueError: a sweep without test samples, or a number of batches at which the runs were not evaluated.
        """
        return np.array([run._score("test", step) for run in self.best[rule]])

    def differences(self, reference: str, step: int | None = None, level: float = 0.95) -> dict[str, Interval]:
        """For each other rule, its test score minus the reference's, as the interval of the differences of equal seeds.

        All rules start from the same weights and see the same batches, so differences within a seed vary less than scores do.

        Raises:
            ValueError: a reference that is no rule of this sweep.
        """
        if reference not in self.best:
            raise ValueError(f"Got the reference {reference!r}, expected one of: {', '.join(self.best)}.")
        base = self.test(reference, step)
        others = (rule for rule in self.best if rule != reference)
        return {rule: Interval.of(self.test(rule, step) - base, level) for rule in others}

    def rows(self, level: float = 0.95) -> list[dict[str, Any]]:
        """The table: for each rule the chosen rate, the mean score on validation samples, the mean score on test samples with
        its interval (None without such samples), the number of seeds, and (rate, seed, batch) of runs that were not finite."""
        found = []
        for rule, best in self.best.items():
            trials = self.trials[rule][self.rates.index(self.chosen[rule])]
            runs = dict.fromkeys([*(run for runs in self.trials[rule] for run in runs), *best])
            chosen_by = [run._score("validation") for run in trials] if trials[0].validation else None
            is_tested = all(run.test or run.not_finite for run in best)
            score = Interval.of(self.test(rule), level) if is_tested else None
            low, high = np.clip(score[1:3], *self.limits).tolist() if score else (None, None)
            found.append(
                {
                    "rule": rule,
                    "rate": self.chosen[rule],
                    "validation": chosen_by and float(np.mean(chosen_by)),
                    "test": score and score.mean,
                    "low": low,
                    "high": high,
                    "seeds": len(best),
                    "not_finite": [(run.rate, run.seed, run.not_finite) for run in runs if run.not_finite],
                }
            )
        return found

    def __str__(self) -> str:
        """The table as text."""
        width = max(4, *map(len, self.best))
        lines = [
            f"{'rule':{width}}  {'rate':>8}  validation    test  95 % interval     seeds  runs that were not finite"
        ]
        for row in self.rows():
            scores = [
                f"{row[name]:.4f}" if row[name] is not None else "-" for name in ("validation", "test", "low", "high")
            ]
            interval = f"{scores[2]:>6} to {scores[3]:>6}" if row["seeds"] > 1 else "-"
            told = "; ".join(f"rate {rate:g}, seed {seed}, batch {step}" for rate, seed, step in row["not_finite"])
            text = f"{row['rule']:{width}}  {row['rate']:8g}  {scores[0]:>10}  {scores[1]:>6}  {interval:16}"
            lines.append(f"{text}  {row['seeds']:5}  {told or 'none'}")
        return "\n".join(lines)

    def draw(self, ax: Any, styles: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Draw the mean score on the validation samples against the learning rate, with a ring at the chosen rate.

        Args:
            ax: axes of Matplotlib.
            styles: by rule, options of `ax.plot`, such as {"otpe": {"color": "C1"}}.
        """
        for rule in self.best:
            style = {"marker": "o", "markersize": 4, "label": rule, **(styles or {}).get(rule, {})}
            means = self.validation(rule).mean(axis=1)
            (line,) = ax.plot(self.rates, means, **style)
            best = self.rates.index(self.chosen[rule])
            ring = {"marker": "o", "markersize": 11, "fillstyle": "none", "color": line.get_color()}
            ax.plot(self.rates[best], means[best], **ring)
        ax.set(xscale="log", xlabel="learning rate", ylabel="score on validation samples")
        ax.legend()
