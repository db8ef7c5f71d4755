"""The procedure by which rules are compared: which settings are tried, with which windows and rates, and what is chosen."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.common import learning
from experiments.common.learning import choose, second_setting, train, transformation
from experiments.common.measures import agreement, compare, layer_of, spikes_of_layers
from experiments.common.tasks import make_model
from slax_neurons import LI, LIF, Edge, connect, unroll
from slax_rules import OTTT, RULES, cross_entropy, gradients
from slax_rules.train.runs import Run, Sweep

CONFIG = {"task": "tiny", "input_rate": 0.02, "initial_rate": 0.3, "layers": [12, 8, 7, 3], "n_steps": 6, "steps": 4}
CONFIG |= {"rule": "ottt", "learning_rates": [0.1, 0.01, 1.0], "seeds": 3, "rate_seeds": 2, "online_window": 4}
CONFIG |= {"optimizer": "adamax", "anneal": True, "optimizer_options": {"alpha": 0.05}}


def scored(calls, score):
    """A stand-in for `sweep` that notes what it is asked for; the score of a trial is `score(rate, window)`. If it is
    NaN, the second seed is not finite."""

    def sweep(make, optimizer, loss_fn, batches, *, rules, rates, seeds, trial_seeds=None, test, window, update, **_):
        ((name, _),) = rules.items()
        calls.append((tuple(rates), len(seeds), test is not None, window))

        def run(rate, seed):
            bad = 2 if np.isnan(score(rate, window)) and seed == 1 else None
            scores = {} if bad else {4: np.nan_to_num(score(rate, window), nan=100) + seed / 100}
            return Run(name, {"rate": rate}, seed, np.ones(4), bad, scores, {}, None, {4: None})

        rates = tuple(sorted(rates))
        trials = [[run(rate, seed) for seed in seeds[:trial_seeds]] for rate in rates]
        means = [np.mean([one.validation.get(4, np.nan) for one in of]) for of in trials]
        if np.isnan(means).all():
            raise FloatingPointError("no rate")
        best = int(np.nanargmax(means))
        runs = [run(rates[best], seed) for seed in seeds]
        points = tuple({"rate": rate} for rate in rates)
        return Sweep(points, {name: trials}, {name: points[best]}, {name: runs})

    return sweep


@pytest.mark.parametrize(
    ("second", "rule", "window", "chosen"),
    [
        (None, "ottt", 4, {}),
        ("learning_rate", "ottt", 4, {"learning_rate": 0.01 * 10**0.5}),
        ("online_window", "ottt", 4, {"online_window": 2}),
        ("alpha", "fptt", 1, {}),  # no better than the configured one
    ],
)
def test_each_rule_has_as_many_trials_and_tests_are_read_at_the_end(second, rule, window, chosen, monkeypatch):
    calls, rates = [], (0.01, 0.1, 1.0)
    monkeypatch.setattr(learning, "sweep", scored(calls, lambda rate, of: -abs(np.log(rate / 0.02)) - (of == 4)))
    monkeypatch.setattr(learning, "validation_loss", lambda sampler, run: 1.0)  # both windows have the same scores
    config = CONFIG | {"rule": rule, "second_trials": second and {"online_window": [2, 3], "alpha": [0.01, 0.25]}}
    trials, runs = choose(config, "online", None, "here", second or "learning_rate")
    assert trials["chosen"] == pytest.approx({"learning_rate": 0.01} | chosen)
    assert [run.seed for run in runs] == [0, 1, 2] and np.shape(trials["validation"]) == (2, 3)
    if second is None:
        _, fresh = choose(config | {"first_seed": 1000}, "online", None, "here")
        assert [run.seed for run in fresh] == [1000, 1001, 1002] and calls[2:] == calls[:2]
        del calls[2:]
    assert sum(len(rates) for rates, _, is_tested, _ in calls if not is_tested) == 3 + 2 * (second is not None)
    assert [is_tested for *_, is_tested, _ in calls] == [False] * (len(calls) - 1) + [True]
    assert calls[0] == (rates, 2, False, window)
    assert calls[-1] == ((trials["chosen"]["learning_rate"],), 3, True, chosen.get("online_window", window))


@pytest.mark.parametrize("second", ["learning_rate", "online_window"])
@pytest.mark.parametrize("lower", [0.25, 0.75, np.nan])
def test_second_trials_that_are_not_finite_score_0_and_are_not_chosen(second, lower, monkeypatch):
    """A seed that is not finite has 0, and so has each seed if no value of a sweep is finite. `lower` is of the lower value."""

    def score(rate, window):
        is_first = rate in CONFIG["learning_rates"] and window == 4
        return 0.5 - rate / 10 if is_first else lower if rate < 0.01 or window == 2 else np.nan

    monkeypatch.setattr(learning, "sweep", scored([], score))
    config = CONFIG | {"second_trials": {"online_window": [2, 3]}}
    trials, runs = choose(config, "online", None, "here", second)
    better = {second: trials["second"]["values"][0]} if lower == 0.75 else {}
    assert trials["chosen"] == {"learning_rate": 0.01} | better and len(runs) == 3
    first, other = np.transpose(trials["second"]["validation"])
    assert list(first) == ([0, 0] if np.isnan(lower) else [lower, lower + 0.01])
    assert list(other) == [100 if second == "learning_rate" and not np.isnan(lower) else 0, 0]


@pytest.mark.parametrize("second", [None, "learning_rate", "online_window"])
@pytest.mark.parametrize(("least", "chosen"), [(0.1, 0.1), (1.0, 1.0), (None, 0.01)])
def test_equal_scores_are_told_apart_by_the_loss_and_then_by_the_rate(second, least, chosen, monkeypatch):
    """The loss is 0 at the rate `least` and 1 at all others."""
    calls = []
    monkeypatch.setattr(learning, "sweep", scored(calls, lambda rate, window: 0.9 * (rate in CONFIG["learning_rates"])))
    monkeypatch.setattr(learning, "validation_loss", lambda sampler, run: float(run.rate != least))
    config = CONFIG | {"second_trials": second and {"online_window": [2, 3]}}
    trials, runs = choose(config, "online", None, "here", second or "learning_rate")
    assert trials["chosen"] == {"learning_rate": chosen}
    assert [(run.rate, run.seed) for run in runs] == [(chosen, 0), (chosen, 1), (chosen, 2)]
    assert calls[-1][0] == (chosen,) and [is_tested for *_, is_tested, _ in calls].index(True) == len(calls) - 1


def test_means_are_equal_also_if_their_float32_scores_are_not():
    def run(rate, score):
        return Run("a", {"rate": rate}, 0, np.ones(4), None, {4: float(np.float32(score))}, {}, None, {4: 0})

    for trials, best in (([(0.8, 1.0), (0.9, 0.9)], 1), ([(0.8, 1.0), (0.9, 0.8999)], 0)):
        found = [[run(rate, score) for score in scores] for rate, scores in zip((0.1, 0.01), trials, strict=True)]
        assert learning.best_of(found, lambda run: 1.0) == best  # of equals, the smallest rate


def test_the_validation_loss_of_a_run_is_that_of_its_network_at_the_end():
    model = make_model(CONFIG, nnx.Rngs(3))
    graphdef, state = nnx.split((model, OTTT()))
    run = Run("ottt", {"rate": 0.1}, 5, np.ones(4), None, {}, {}, graphdef, {4: state})
    rng = np.random.default_rng(0)
    inputs, labels = (rng.random((6, 9, 12)) < 0.3).astype(np.float32), rng.integers(0, 3, 9)
    samples = {5: SimpleNamespace(validation=(inputs, labels))}
    logits = np.asarray(unroll(model, model.initialize_carry((9, 12)), jnp.asarray(inputs))[1], float)
    by_hand = np.log(np.exp(logits).sum(axis=-1)) - logits[:, np.arange(9), labels]
    assert learning.validation_loss(samples.get, run) == pytest.approx(by_hand.mean(), rel=1e-5)


@pytest.mark.parametrize("windows", [{"online_window": 6}, {"second_trials": {"online_window": [2, 6]}}])
def test_a_window_of_the_whole_sequence_is_refused_in_the_search(windows, monkeypatch):
    monkeypatch.setattr(learning, "sweep", scored([], lambda *_: 0.5))
    config = CONFIG | {"second_trials": {"online_window": [2, 3]}} | windows
    with pytest.raises(SystemExit, match=r"here: got a window of 6 steps .* sequence of 6 steps, expected fewer"):
        choose(config, "online", None, "here", "online_window")


def test_training_that_is_not_finite_stops_with_name_seed_and_step():
    broken = Run("a", {"rate": 1.0}, 1, np.ones(4), 2, {}, {}, None, {})
    with pytest.raises(SystemExit, match="a, seed 1, the loss or the gradient of training step 2 of 4 is not finite"):
        learning.finite_runs(Sweep(({"rate": 1.0},), {}, {}, {"a": [broken]}))


def test_second_settings_windows_and_optimizers_are_those_of_the_rule():
    pairs = [(rule, update) for rule in ("ottt", "tbptt", "fptt") for update in ("offline", "online")]
    alpha, rate, window = "alpha", "learning_rate", "online_window"
    assert [second_setting(*pair) for pair in pairs] == [rate, window, rate, rate, alpha, alpha]
    for rule, expected in (("ottt", 4), ("tbptt", 10), ("fptt", 1)):
        assert learning.online_window(CONFIG | {"rule": rule}, RULES[rule].make()) == expected
    params, pull = {"w": jnp.ones(2)}, {}
    for alpha in (0.05, 0.5):
        own = transformation(CONFIG | {"rule": "fptt", "optimizer_options": {"alpha": alpha}}, 0.1)
        state = own.init(params)
        for _ in range(3):
            updates, state = own.update({"w": jnp.full(2, 0.1)}, state, params)
        pull[alpha] = float(updates["w"][0])
    assert pull[0.05] != pull[0.5]


def test_the_rate_falls_to_zero_with_the_last_update(monkeypatch):
    made = []
    monkeypatch.setattr(learning, "sweep", lambda _, optimizer, *__, **given: made.append((optimizer, given["window"])))
    for update, updates in (("offline", 4), ("online", 8)):
        train(CONFIG, update, None, "here", rates=[0.1], seeds=1)
        optimizer, window = made.pop()
        own = optimizer(0.5)
        state, params = own.init({"w": jnp.ones(1)}), {"w": jnp.ones(1)}
        sizes = []
        for _ in range(updates + 1):
            change, state = own.update({"w": jnp.ones(1)}, state, params)
            sizes.append(float(jnp.abs(change["w"][0])))
        assert window == {"offline": None, "online": 4}[update]
        assert sizes[-1] == 0 < sizes[-2] < sizes[0]


def test_a_layer_ends_with_its_neurons_whatever_the_stack_is():
    rngs = nnx.Rngs(0)
    linear = [nnx.Linear(3, 3, rngs=rngs) for _ in range(3)]
    model = connect([linear[0], LIF(), linear[1], LIF(), linear[2], LI()], [Edge(3, 2), Edge(1, 0)], rngs=rngs)
    layer = layer_of(model)
    names = ("modules/0", "modules/2", "modules/4", "synapses/0", "synapses/1")
    assert [layer(f"{name}/kernel") for name in names] == ["1", "2", "3", "2", "1"]


def test_agreement_is_that_of_the_gradients_of_all_batches_as_one():
    model = make_model(CONFIG, nnx.Rngs(1))
    rng = np.random.default_rng(0)
    spikes, labels = rng.random((2, 6, 4, 12)) < 0.3, rng.integers(0, 3, (2, 4))
    found = agreement(model, OTTT(), (spikes, labels))
    ways: list = [{"rule": OTTT()}, {}]
    both = nnx.jit(lambda *batch: [gradients(batch[0], cross_entropy, *batch[1:], **how)[1] for how in ways])
    each = zip(*(both(model, x.astype(np.float32), y) for x, y in zip(spikes, labels, strict=True)), strict=True)
    leaves = [[jax.tree.leaves(of_batch["modules"][2]) for of_batch in of] for of in each]
    ours, exact = (np.mean([np.concatenate([*map(np.ravel, of_batch)]) for of_batch in of], axis=0) for of in leaves)
    assert found["2"]["cosine"] == pytest.approx(ours @ exact / np.linalg.norm(ours) / np.linalg.norm(exact), abs=1e-5)
    assert found["2"]["norm_ratio"] == pytest.approx(np.linalg.norm(ours) / np.linalg.norm(exact), rel=1e-4)
    zero = nnx.state(model, nnx.Param)
    nothing = compare(model, zero, nnx.map_state(lambda path, leaf: 0 * leaf, zero))["1"]
    assert nothing == {"cosine": None, "norm_ratio": None}


def test_activity_is_that_of_a_network_in_evaluation():
    """A dropout of everything, which is off in evaluation, would leave the second hidden layer silent."""
    first, *others = make_model(CONFIG, nnx.Rngs(0)).modules
    inputs = np.random.default_rng(0).random((6, 9, 12)) < 0.3
    plain, dropped = (
        spikes_of_layers(connect([first, others[0], *between, *others[1:]]), inputs)
        for between in ([], [nnx.Dropout(1.0)])
    )
    assert plain == dropped and plain.keys() == {"1", "2"} and min(plain.values()) > 0
