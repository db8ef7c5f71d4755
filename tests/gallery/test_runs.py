"""What made the figures, taken together from results and records."""

import json

import pytest
from small_gallery import record, result

from gallery.runs import in_common, read_run, run_of, together


def test_settings_are_those_that_all_results_have_alike():
    run = run_of([result("first", lr=0.1), result("second", lr=0.1, extra=[1, 2]), result("second", lr=0.2)], [])
    assert run.settings == {"scale": "quick", "steps": 20, "optimizer.name": "adamax", "optimizer.rate": 0.01}
    assert run.differing == {"task": ["first", "second"], "lr": [0.1, 0.2], "extra": [[1, 2]]}


def test_empty_group_of_settings_is_kept():
    assert in_common([{"options": {}}]) == ({"options": {}}, {})
    assert run_of([result("first", options={})], []).settings["options"] == {}


def test_seeds_versions_and_results_are_counted():
    other = result("first") | {"seed": 3, "seeds": [{}], "versions": {"python": "3.13.0", "numpy": "2.4"}}
    run = run_of([result("first"), other, {**other, "seeds": 5}], [])
    assert (run.results, run.seeds, run.seeds_each) == (3, [3, 7], [1, 3])
    assert run.versions == {"jax": ["0.10.2"], "numpy": ["2.4"], "python": ["3.11.7", "3.13.0"]}


def test_records_are_added_up():
    records = [
        record("a", date="2026-01-03T00:00:00+00:00", wall_seconds=1.5),
        record("b", date="2026-01-01T00:00:00+00:00", device="gpu", wall_seconds=2.0),
        record("c", date="2026-01-02T00:00:00+00:00", device="gpu"),
    ]
    run = run_of([result("first")] * 4, records)
    assert run.devices == {"gpu": 2, "cpu": 1} and list(run.devices) == ["gpu", "cpu"]
    assert list(run.commits.values()) == list(run.machines.values()) == [3]
    assert (run.first[:10], run.last[:10], run.seconds, run.without_record) == ("2026-01-01", "2026-01-03", 43.5, 1)


def test_records_are_read_from_beside_the_results(tmp_path):
    names = ["bptt.json", "digits.timing.json", "lost.json"]
    for name in names:
        (tmp_path / name).write_text(json.dumps(result("first")))
    for name in names[:2]:
        (tmp_path / name).with_suffix(".record.json").write_text(json.dumps(record(name)))
    assert (tmp_path / "digits.timing.record.json").exists()
    run = read_run(tmp_path / name for name in names)
    assert (run.results, run.without_record, run.seconds) == (3, 1, 80.0)


def test_experiment_without_results_has_no_run():
    with pytest.raises(ValueError, match="no results"):
        run_of([], [])


def test_greatest_count_is_first_and_equal_ones_are_in_order_of_their_names():
    assert list(together([{"b": 1, "c": 1}, {"a": 1, "c": 2}]).items()) == [("c", 3), ("a", 1), ("b", 1)]
