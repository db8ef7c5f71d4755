"""What `sweep` returns: the runs of all rules, rates and seeds, with tables and curves of their scores."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from flax import nnx

from slax_neurons.building_blocks import html_table


def interval(numbers: np.ndarray) -> dict[str, float]:
    """The "mean" of numbers x_1, ..., x_n, and "low" and "high", the limits of Student's 95 % confidence interval for it.

        mean ± t s / sqrt(n),    s^2 = sum_i (x_i - mean)^2 / (n - 1)

    where t is the quantile of Student's distribution with n - 1 degrees of freedom. The limits are NaN for a single number.

    Example:
        >>> import numpy as np
        >>> from slax_rules.train.runs import interval
        >>> {name: round(number, 3) for name, number in interval(np.array([0.8, 0.9, 1.0])).items()}
        {'mean': 0.9, 'low': 0.652, 'high': 1.148}
    """
    from scipy.special import stdtrit  # here, since it takes a tenth of a second to import, and training does without

    mean, count = float(np.mean(numbers)), len(numbers)
    error = np.std(numbers, ddof=1) / np.sqrt(count) if count > 1 else np.nan
    half = float(stdtrit(count - 1, 0.975) * error)
    return {"mean": mean, "low": mean - half, "high": mean + half}


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


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The result of `sweep`; `print` shows its table.

    Args:
        points: what was tried: each learning rate, "rate", in increasing order, for each combination of settings.
        trials: by rule, the runs `[points][seeds]` that the point was chosen by.
        chosen: by rule, the point with the best mean score on the validation samples, the first of two equals.
        best: by rule, the runs of all seeds at that point.
        limits: the least and largest possible score, to which the intervals of the table are clipped: 0 and 1 for `accuracy`.

    Example:
        See `sweep`.
    """

    points: tuple[dict[str, Any], ...]
    trials: dict[str, list[list[Run]]]
    chosen: dict[str, dict[str, Any]]
    best: dict[str, list[Run]]
    limits: tuple[float, float] = (-np.inf, np.inf)

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

    def differences(self, reference: str, step: int | None = None) -> dict[str, dict[str, float]]:
        """For each other rule, its test score minus the reference's: "mean", "low" and "high" of the differences of equal
        seeds, the limits of the 95 % interval.

        All rules start from the same weights and see the same batches, so differences within a seed vary less than scores do.

        Raises:
            ValueError: a reference that is no rule of this sweep.
        """
        if reference not in self.best:
            raise ValueError(f"Got the reference {reference!r}, expected one of: {', '.join(self.best)}.")
        base = self.test(reference, step)
        others = (rule for rule in self.best if rule != reference)
        return {rule: interval(self.test(rule, step) - base) for rule in others}

    def rows(self) -> list[dict[str, Any]]:
        """The table: for each rule the chosen rate and settings, the mean score on validation samples, the mean score on test
        samples with its interval (None without such samples), the number of seeds, and (point, seed, batch) of runs that were
        not finite."""
        found = []
        for rule, best in self.best.items():
            trials = self.trials[rule][self.points.index(self.chosen[rule])]
            runs = dict.fromkeys([*(run for runs in self.trials[rule] for run in runs), *best])
            is_tested = all(run.test or run.not_finite for run in best)
            score = interval(self.test(rule)) if is_tested else None
            low, high = np.clip([score["low"], score["high"]], *self.limits).tolist() if score else (None, None)
            mean = float(np.mean([run.score("validation") for run in trials])) if trials[0].validation else None
            row = {"rule": rule, **self.chosen[rule], "validation": mean, "test": score and score["mean"]}
            broken = [(run.point, run.seed, run.not_finite) for run in runs if run.not_finite]
            found.append(row | {"low": low, "high": high, "seeds": len(best), "not_finite": broken})
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

    def _cells(self) -> list[list[str]]:
        """The rows of the table as text, with its head."""
        names = list(self.points[0])
        rows = [["rule", *names, "validation", "test", "95 % interval", "seeds", "runs that were not finite"]]
        for row in self.rows():
            numbers = (row[name] for name in ("validation", "test", "low", "high"))
            chosen_by, score, low, high = ("-" if number is None else f"{number:.4f}" for number in numbers)
            interval = f"{low:>6} to {high:>6}" if row["seeds"] > 1 else "-"
            broken = "; ".join(
                f"{in_words(point)}, seed {seed}, batch {step}" for point, seed, step in row["not_finite"]
            )
            values = [as_text(row[name]) for name in names]
            rows.append([row["rule"], *values, chosen_by, score, interval, str(row["seeds"]), broken or "none"])
        return rows

    def __str__(self) -> str:
        """The table as text."""
        width = max([4, *map(len, self.best)])
        lines = []
        for rule, *values, chosen_by, score, interval, seeds, broken in self._cells():
            tried = "".join(f"  {value:>8}" for value in values)
            lines.append(f"{rule:{width}}{tried}  {chosen_by:>10}  {score:>6}  {interval:16}  {seeds:>5}  {broken}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table(self._cells(), left=1)

    def draw_curves(
        self,
        ax: Any,
        samples: Literal["validation", "test"] = "test",
        styles: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Draw the mean score of each rule against the number of batches, with a band for its 95 % interval; see `curves`.

        Args:
            ax: axes of Matplotlib.
            samples: whose scores; with `evaluate_at`, there is more than the last.
            styles: by rule, options of `ax.plot`.
        """
        for rule, curve in self.curves(samples).items():
            style = {"marker": "o", "markersize": 3, "label": rule} | dict((styles or {}).get(rule, {}))
            (line,) = ax.plot(curve["batches"], curve["mean"], **style)
            ax.fill_between(
                curve["batches"], curve["low"], curve["high"], color=line.get_color(), alpha=0.2, linewidth=0
            )
        ax.set(xlabel="batches", ylabel=f"score on {samples} samples")
        ax.legend()

    def draw(self, ax: Any, styles: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Draw the mean score on the validation samples against the learning rate, at the chosen settings, with a ring at the
        chosen rate.

        Args:
            ax: axes of Matplotlib.
            styles: by rule, options of `ax.plot`, such as {"otpe": {"color": "C1"}}.
        """
        for rule in self.best:
            shown = [
                index
                for index, point in enumerate(self.points)
                if point | {"rate": 0} == self.chosen[rule] | {"rate": 0}
            ]
            means, best = self.validation(rule).mean(axis=1)[shown], self.rates.index(self.chosen[rule]["rate"])
            style = {"marker": "o", "markersize": 4, "label": rule} | dict((styles or {}).get(rule, {}))
            (line,) = ax.plot(self.rates, means, **style)
            ax.plot(self.rates[best], means[best], "o", markersize=11, fillstyle="none", color=line.get_color())
        ax.set(xscale="log", xlabel="learning rate", ylabel="score on validation samples")
        ax.legend()


def in_words(point: Mapping[str, Any]) -> str:
    """A point as text: "rate 0.01, decay 0.9"."""
    return ", ".join(f"{name} {as_text(value)}" for name, value in point.items())


def as_text(value: Any) -> str:
    """A number in few digits, and anything else as it prints."""
    return f"{value:g}" if isinstance(value, int | float) else str(value)
