"""The laws of every learning rule. `check_rule` checks them for a rule of your own, in a test of your package."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from slax_neurons import LI, LIF, connect
from slax_rules.api import gradients, train_online
from slax_rules.losses import squared_error
from slax_rules.penalties import Penalty
from slax_rules.registry import RULES, Exactness, RuleEntry
from slax_rules.rules.base import Rule
from slax_rules.rules.bptt import BPTT
from slax_rules.stream import extend_stream, start_stream

T, B, N, C, WINDOW = 12, 3, 7, 4, 3
ALL = np.ones((T, B), bool)
SPIKES = (np.random.default_rng(0).uniform(size=(T, B, N)) < 0.4).astype(float)
TARGETS = np.random.default_rng(1).normal(size=(T, B, C))


def chain() -> nnx.RNNCellBase:
    """Two layers of LIF neurons and a read-out that integrates, in float64. No reset has a gradient, as most claims require."""
    rng = np.random.default_rng(0)
    options: dict[str, Any] = {"decay": 0.8, "param_dtype": jnp.float64}
    modules: list[Any] = []
    for n_in, n_out in ((N, 6), (6, 5), (5, C)):
        modules.append(nnx.Linear(n_in, n_out, rngs=nnx.Rngs(0), param_dtype=jnp.float64))
        modules[-1].kernel[...] = jnp.asarray(rng.normal(size=(n_in, n_out)) * 2 / n_in**0.5)
        modules.append(LIF(threshold=0.7, stop_reset_gradient=True, **options) if n_out > C else LI(**options))
    return connect(modules)


class Case(NamedTuple):
    """The case for which a law is checked.

    Args:
        make: makes the model and the rule, with the same numbers each time.
        exact: the conditions under which the gradient has to equal BPTT's.
        updates: includes "online" if the rule can update after each window.
        loss_fn, inputs, targets, penalties: as in `gradients`, of 12 steps and 3 samples.
    """

    make: Callable[[], tuple[Any, Any]]
    exact: Exactness = Exactness(steps=0)
    updates: Sequence[str] = ("offline", "online")
    loss_fn: Any = squared_error
    inputs: np.ndarray = SPIKES
    targets: np.ndarray = TARGETS
    penalties: Sequence[Penalty] = ()

    def run(
        self, x: Any = None, targets: Any = None, mask: Any = ALL, window: int | None = WINDOW, exact: bool = False
    ) -> tuple[Any, nnx.State]:
        """The loss and the gradient, BPTT's if `exact`. Calls that differ in inputs, targets and mask are one program."""
        model, rule = self.make()
        x, targets = jnp.asarray(self.inputs if x is None else x), self.targets if targets is None else targets
        options: dict[str, Any] = {"rule": BPTT() if exact else rule, "window": window, "penalties": self.penalties}
        mask = None if mask is None else jnp.asarray(mask)
        return gradients(model, self.loss_fn, x, jnp.asarray(targets), mask, **options)


def assert_same(what: str, found: Any, expected: Any) -> None:
    """Asserts that the leaves of two trees are equal up to rounding, relative to the largest number of each leaf."""
    pairs = list(zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True))
    largest = max(float(np.abs(b).max()) for _, b in pairs)
    for (path, a), b in pairs:
        bound = float(jnp.finfo(b.dtype).eps * (4000 * np.abs(b).max() + largest))
        error = float(np.abs(np.asarray(a) - np.asarray(b)).max())
        where = jax.tree_util.keystr(path, simple=True, separator="/")
        assert error <= bound, f"{what}: {where} differs by {error:.3g}, expected at most {bound:.3g}."


def a_gradient_is_complete_and_finite_and_found_again(case: Case) -> None:
    params, (loss, gradient), again = nnx.state(case.make()[0], nnx.Param), case.run(), case.run()
    found, expected = (jax.tree.map(lambda a: f"{a.dtype}{a.shape}", tree) for tree in (gradient, params))
    assert found == expected, f"Got {found}, expected {expected}."
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((loss, gradient))), "Got NaN or infinity."
    pairs = zip(jax.tree.leaves((loss, gradient)), jax.tree.leaves(again), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs), "The same call twice gave two gradients."
    true_loss, true = case.run(exact=True)
    assert_same("the loss beside that under BPTT", loss, true_loss)
    by_path = zip(jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(true), strict=True)
    silent = [path for (path, a), b in by_path if b.any() and not a.any()]
    zero = [jax.tree_util.keystr(path, simple=True, separator="/") for path in silent]
    assert not zero, f"The gradient of {', '.join(zero)} is exactly zero, that of BPTT is not."


def what_the_mask_leaves_out_changes_nothing(case: Case) -> None:
    mask = np.random.default_rng(4).uniform(size=(T, B)) < 0.7
    mask[3:6], mask[-2:, 1] = False, False  # a window in which nothing counts, and padding
    padded, missing = case.inputs.copy(), np.where(mask[..., None], case.targets, np.nan)
    padded[-2:, 1] = 3
    found, other = case.run(mask=mask), case.run(padded, missing, mask)
    assert float(other[0]) == float(found[0]), "The loss reads padding."
    assert_same("with other padding", other[1], found[1])


def samples_are_independent(case: Case) -> None:
    one = [case.run(mask=ALL & (np.arange(B) == sample))[1] for sample in range(B)]
    others = case.inputs.copy()
    others[:, 1:] = others[::-1, 1:]
    assert_same("the first sample, among others", case.run(others, mask=ALL & (np.arange(B) == 0))[1], one[0])
    assert_same("the mean over samples", jax.tree.map(lambda *parts: sum(parts) / B, *one), case.run()[1])


def windows_change_nothing(case: Case) -> None:
    for window in (5, None):  # a shorter one at the end, and the default
        assert_same(f"window={window}", case.run(mask=None, window=window), case.run())


def jit_changes_nothing(case: Case) -> None:
    assert_same("under jit", jax.jit(case.run)(jnp.asarray(case.inputs)), case.run())


def pieces_of_a_stream_are_one_sequence(case: Case) -> None:
    def started(train: Any, *batch: Any) -> Any:
        model, rule = case.make()
        learns = jax.tree.leaves(nnx.state(rule, nnx.Param))
        optimizer = nnx.Optimizer((model, rule) if learns else model, optax.sgd(0.1), wrt=nnx.Param)
        return model, train(model, optimizer, case.loss_fn, *batch, rule=rule, window=WINDOW)

    if "online" in case.updates:
        x, targets = jnp.asarray(case.inputs), jnp.asarray(case.targets)
        whole, _ = started(train_online, x, targets)
        _, stream = started(start_stream, x.shape[1:])
        for piece in (slice(0, T // 2), slice(T // 2, T)):
            stream = extend_stream(stream, x[piece], targets[piece]).stream
        assert_same("a stream in pieces", *(nnx.state(model, nnx.Param) for model in (stream.model, whole)))


def a_gradient_is_that_of_bptt_where_this_is_claimed(case: Case) -> None:
    exact, found, true = case.exact, case.run()[1], case.run(exact=True)[1]
    layers = sorted(true["modules"])  # a synapse each, where neurons have no parameters
    for layer in layers if exact.always else layers[len(layers) - exact.last_layers :]:
        assert_same(f"module {layer}, beside BPTT", found["modules"][layer], true["modules"][layer])
    if exact.steps:
        first = (np.arange(T) < exact.steps)[:, None] & ALL
        pair = (case.run(mask=first, exact=way)[1] for way in (False, True))
        assert_same(f"a sequence of {exact.steps} steps, beside BPTT", *pair)


LAWS: tuple[Callable[[Case], None], ...] = (
    a_gradient_is_complete_and_finite_and_found_again,
    what_the_mask_leaves_out_changes_nothing,
    samples_are_independent,
    windows_change_nothing,
    jit_changes_nothing,
    pieces_of_a_stream_are_one_sequence,
    a_gradient_is_that_of_bptt_where_this_is_claimed,
)


def check_rule(rule: str | RuleEntry | Rule, make_model: Callable[[], Any] = chain) -> None:
    """Check that a learning rule obeys the laws of all rules, `LAWS`, in float64.

    Args:
        rule: an entry, whose `exact` has to hold; the name of one in `RULES`; or a rule, for which no exactness is claimed.
        make_model: makes a stack of 7 inputs and 4 outputs whose neurons have no trainable parameters, the same each time; by
            default two layers of LIF neurons and a read-out.

    Raises:
        AssertionError: a law that does not hold, and where.
        RuntimeError: Python runs without assertions.

    Example:
        >>> from slax_rules.testing import check_rule
        >>> check_rule("bptt")
    """
    if not __debug__:
        raise RuntimeError("check_rule got python -O, without the assertions that tell what fails. Run it without -O.")
    entry = RULES[rule] if isinstance(rule, str) else rule

    def make() -> tuple[Any, Any]:
        model = make_model()
        return model, entry.make(rngs=nnx.Rngs(5), model=model) if isinstance(entry, RuleEntry) else nnx.clone(entry)

    claims = (entry.exact, entry.updates) if isinstance(entry, RuleEntry) else ()
    with jax.enable_x64(True):
        for law in LAWS:
            try:
                law(Case(make, *claims))
            except AssertionError as error:
                raise AssertionError(f"It does not hold that {law.__name__.replace('_', ' ')}. {error}") from error
