"""The kept tables of the toy scale, tests/references, obey the laws of what was measured.

`make tiny` computes every experiment again, and compares its tables with these: so the laws hold of what experiments compute.
"""

import itertools
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments.pipeline.golden_tables import read

TABLES = {path.stem: read(path) for path in sorted((Path(__file__).parents[1] / "references").glob("*.csv"))}
LAST = {"64-10-10": "2", "24-16-16-9": "3"}  # the last layers of the networks of gradient_similarity
STAGES = ("initial", "trained", "own")  # of the weights in the grid
BOUNDS = {"low": (-1, 0), "high": (1,)}  # of cosines and shares
ONE = pytest.approx(1, abs=2e-6)


def rows(stem, **where):
    found = [row for row in TABLES[stem] if where.items() <= row.items()]
    assert found, (stem, where)
    return found


def samples(row, quantity=""):
    return [float(text) for text in row[f"{quantity}values"].split() if text != "None"]


def both(row, one, other):
    return zip(samples(row, f"{one}_"), samples(row, f"{other}_"), strict=True)


def mean(stem, **where):
    (row,) = rows(stem, **where)
    return float(row["mean"])


def rounding(cell):
    return 0.51 * 10.0 ** Decimal(cell).as_tuple().exponent


WITH_SAMPLES = [(stem, of.removesuffix("values")) for stem in TABLES for of in TABLES[stem][0] if of.endswith("values")]


@pytest.mark.parametrize(("stem", "quantity"), WITH_SAMPLES)
def test_means_and_intervals_are_those_of_the_samples_beside_them(stem, quantity):
    """The interval is that of Student's t, over seeds and test samples that they share, cut at the bounds of the quantity."""
    for row in TABLES[stem]:
        numbers, center = samples(row, quantity), row[quantity.removesuffix("_") or "mean"]
        if not numbers:
            assert not row[f"{quantity}low"]
            continue
        scale = 2e-6 * (1 + np.abs(numbers).max())
        assert float(center) == pytest.approx(np.mean(numbers), abs=rounding(center) + scale)
        if len(numbers) > 1:
            parts, sizes = np.array([stats.sem(numbers)]) ** 2, np.array([len(numbers)])
            if tests := row.get(f"{quantity}tests"):  # sums over the seeds
                of_tests = np.array(tests.split(), float) / len(numbers)
                assert of_tests.mean() == pytest.approx(np.mean(numbers), abs=scale)
                parts, sizes = np.append(parts, stats.sem(of_tests) ** 2), np.append(sizes, len(of_tests))
            freedom = parts.sum() ** 2 / max((parts**2 / (sizes - 1)).sum(), 1e-300)
            half = stats.t.isf(0.025, freedom) * parts.sum() ** 0.5 if parts.any() else 0.0
            for end, expected in (("low", np.mean(numbers) - half), ("high", np.mean(numbers) + half)):
                found = float(row[f"{quantity}{end}"])
                is_cut = found in BOUNDS[end] and (expected < found if end == "low" else expected > found)
                assert is_cut or found == pytest.approx(expected, abs=rounding(row[f"{quantity}{end}"]) + 5 * scale)


def test_gradients_are_exact_where_the_rule_is():
    """OSTL in the last layer, OTPE there and below a read-out that does not spike, RTRL and BPTT everywhere."""
    for row in rows("gradient_similarity"):
        last = row["layer"] == LAST[row["layers"]]
        if row["rule"] in ("ostl", "otpe"):
            is_exact = last or (row["rule"], row["layers"], row["layer"]) == ("otpe", "24-16-16-9", "2")
            assert (float(row["cosine"]) > 1 - 2e-6) == is_exact, row
    places = ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3))
    for stage, (depth, layer) in itertools.product(("initial", "trained"), places):
        at = {"depth": str(depth), "quantity": stage, "layer": str(layer)}
        ostl, otpe = (mean("depth", rule=rule, **at) for rule in ("ostl", "otpe"))
        assert (ostl == ONE, otpe == ONE) == (layer > depth, layer >= depth)
    for row in rows("otpe_paper", rule="otpe", quantity="cosine"):  # its output layer is OSTL
        assert (float(row["mean"]) == ONE) == (row["layer"] == "3"), row
    for rule, quantity in itertools.product(("bptt", "rtrl", "otpe"), ("cosine", "norm_ratio")):  # one hidden layer
        assert {float(row["mean"]) for row in rows("rules_table", rule=rule, quantity=quantity)} == {1.0}
    assert all(float(row["mean"]) < 0.999 for row in rows("rules_table", rule="fptt", quantity="cosine"))


def test_terms_add_up_to_the_gradient_and_none_passes_through_layers_above_the_last():
    shares = defaultdict(list)
    for row in rows("gradient_similarity_terms"):
        where = tuple(row[name] for name in ("task", "training_steps", "layer"))
        shares[where].append(samples(row, "share_"))
        if row["term"].startswith("above"):
            vanishes = row["layer"] == LAST[row["layers"]]
            assert (float(row["norm_ratio"]) < 1e-5) == vanishes == (float(row["norm_ratio"]) < 1e-2)
    sums = [np.sum(parts, axis=0) for parts in shares.values() if parts[0]]
    assert len(sums) == 7
    assert np.concatenate(sums) == pytest.approx(1, abs=1e-5)


def test_all_rules_start_alike_and_exact_ones_end_alike():
    for quantity in ("accuracy", "spikes"):
        assert len({row["values"] for row in rows("rules_table", mode="initial", quantity=quantity)}) == 1
    after = [mean("rules_table", rule=rule, mode="offline", quantity="accuracy") for rule in ("bptt", "rtrl", "otpe")]
    assert len(set(after)) == 1 != len({row["mean"] for row in rows("rules_table", quantity="accuracy")})
    for stem, where in (("landscapes", {"quantity": "loss", "training_steps": "0"}), ("demo", {"after": "0"})):
        kept = [{**row, "rule": ""} for row in rows(stem, **where) if row["rule"] in ("bptt", "rtrl")]
        assert kept[0] == kept[1] and len(kept) == 2


def test_rules_are_ranked_by_the_numbers_of_their_table():
    """The rank correlation over rules with one hidden layer, of which BPTT, RTRL and OTPE are one; noise alone is in no set."""
    others = {"bptt", "rtrl", "otpe", "forward_gradient", "node_perturbation"}
    ranked = {row["rule"] for row in rows("rules_table", mode="offline")} - others
    sets = {"with_feedback": ranked - {"decolle"}, "other": {"dfa", "opzo", "osttp"}, "all": ranked}

    def numbers(rules, **where):
        return np.transpose([samples(*rows("rules_table", rule=rule, **where)) for rule in sorted(rules)])

    for row in rows("rules_table_ranks"):
        rules = sets[row["rules"]]
        cosines = numbers(rules, mode=row["stage"], layer="1", quantity="cosine")
        accuracies = numbers(rules, mode="offline", quantity="accuracy")
        expected = [stats.spearmanr(*of).statistic for of in zip(cosines, accuracies, strict=True)]
        assert samples(row) == pytest.approx(expected, abs=1e-6) and int(row["number"]) == len(rules)
    assert {row["rules"] for row in rows("rules_table_ranks")} == set(sets)


def test_gradients_of_otpe_are_those_of_bptt_in_the_last_two_layers():
    places = ("training", "rule", "batches", "quantity", "layer")
    for row in rows("depth_cause", gradient="otpe"):
        if row["layer"]:
            bptt = mean("depth_cause", gradient="bptt", **{name: row[name] for name in places})
            assert (float(row["mean"]) == pytest.approx(bptt, abs=1e-4)) == (row["layer"] != "1"), row


def test_a_shorter_gradient_is_the_same_where_lengths_are_one():
    for quantity in ("accuracy", "minus_bptt"):
        where = {"optimizer": "normalized", "quantity": quantity}
        whole, shorter = (rows("questions_optimizer", way=way, **where) for way in ("bptt", "short_bptt"))
        assert [row["values"] for row in whole] == [row["values"] for row in shorter]


def test_cells_of_the_grid_are_compared_seed_by_seed_and_are_exact_in_the_read_out():
    cells = {(row["temporal"], row["spatial"]): row for row in rows("credit_grid")}
    for other in ("bptt", "fixed"):
        for row in cells.values():
            gap = np.subtract(samples(row, "accuracy_"), samples(cells[other, ""], "accuracy_"))
            assert samples(row, f"minus_{other}_") == pytest.approx(gap, abs=1e-6)
    assert [samples(cells["bptt", ""], f"cosine_{stage}_") for stage in STAGES] == [[ONE] * 2] * 3
    assert all(samples(cells["fixed", ""], f"cosine_{stage}_") == [] for stage in STAGES)
    eligibilities = 65 * 10 + 2 * 11 * 10  # 64-10-10-10; a bias is one more input
    carried = {row["temporal"]: int(row["carried"]) for row in cells.values() if row["temporal"] != "bptt"}
    assert carried == {"fixed": 11 * 10, "sltt": 0, "ostl": eligibilities}
    last = rows("credit_grid_cosine", layer="3")
    assert all((row["temporal"] == "ostl") == (float(row["cosine"]) > 1 - 2e-6) for row in last)
    for stage in ("initial", "trained"):  # no route of the signal matters there, at the same weights
        assert len({row["cosine_values"] for row in last if (row["temporal"], row["stage"]) == ("sltt", stage)}) == 1


def test_a_bound_is_above_its_error_and_a_higher_rank_has_less_of_both():
    for stage in ("initial", "trained"):
        ranks = rows("certificates_bounds", stage=stage)
        for row in ranks:
            assert all(0 < error < bound for error, bound in both(row, "error", "bound"))
            assert all(least <= cosine for least, cosine in both(row, "least_cosine", "cosine"))
        assert all(float(a[name]) > float(b[name]) for a, b in itertools.pairwise(ranks) for name in ("error", "bound"))
        for row, rule in ((ranks[0], "snap"), (ranks[-1], "sketched_rtrl")):  # of ranks 0 and 8, in the recurrent layer
            (found,) = rows("certificates", stage=stage, rule=rule)
            assert samples(row, "cosine_") == pytest.approx(samples(found, "cosine_"), abs=1e-4)


def test_planes_go_through_the_checkpoints():
    def path(plane):
        at = [rows("landscapes", plane=plane, quantity=axis) for axis in "xy"]
        return np.transpose([[float(row["mean"]) for row in of_axis] for of_axis in at])

    upstream, nearest = path("upstream"), path("nearest")
    assert np.ptp(upstream - nearest, axis=0) == pytest.approx([0, 0], abs=2e-6)
    assert list(upstream[-1]) == [0, 0] and nearest.mean(axis=0) == pytest.approx([0, 0], abs=2e-6)
    (solution,) = rows("landscapes", rule="rtrl", quantity="loss", training_steps="8")
    on_plane = {"plane": "upstream", "rule": "rtrl", "quantity": "loss_on_plane", "training_steps": "8"}
    assert mean("landscapes", **on_plane) == pytest.approx(samples(solution)[0], abs=1e-6)
