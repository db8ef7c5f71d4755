"""What made the figures, taken together from results and records."""

import json

import pytest
from small_gallery import certified, record, result

from gallery.runs import in_common, read_run, run_of, together
from gallery.wording import older

ONE = [record()], [False]  # a record that is not older than the sources


def test_settings_are_those_that_all_results_have_alike():
    run = run_of([result("first", lr=0.1), result("second", lr=0.1, extra=[1, 2]), result("second", lr=0.2)], *ONE)
    assert run.settings == {"scale": "quick", "steps": 20, "optimizer.name": "adamax", "optimizer.rate": 0.01}
    assert run.differing == {"task": ["first", "second"], "lr": [0.1, 0.2], "extra": [[1, 2]]}


def test_empty_group_of_settings_is_kept():
    assert in_common([{"options": {}}]) == ({"options": {}}, {})
    assert run_of([result("first", options={})], *ONE).settings["options"] == {}


def test_seeds_versions_and_results_are_counted():
    other = result("first") | {"seed": 3, "seeds": [{}], "versions": {"python": "3.13.0", "numpy": "2.4"}}
    run = run_of([result("first"), other, {**other, "seeds": 5}], *ONE)
    assert (run.results, run.seeds, run.seeds_each) == (3, [3, 7], [1, 3])
    assert run.versions == {"jax": ["0.10.2"], "numpy": ["2.4"], "python": ["3.11.7", "3.13.0"]}


def test_records_are_added_up():
    records = [
        record(date="2026-01-03T00:00:00+00:00", wall_seconds=1.5),
        record(date="2026-01-01T00:00:00+00:00", device="gpu", wall_seconds=2.0),
        record(date="2026-01-02T00:00:00+00:00", device="gpu"),
    ]
    run = run_of([result("first")] * 4, records, [True, False, True])
    assert run.devices == {"gpu": 2, "cpu": 1} and list(run.devices) == ["gpu", "cpu"]
    assert list(run.commits.values()) == list(run.machines.values()) == [3]
    assert (run.first[:10], run.last[:10], run.seconds) == ("2026-01-01", "2026-01-03", 43.5)
    assert list(run.older.values()) == [2]


def written(folder, *names):
    for name in names:
        (folder / name).write_text(json.dumps(result("first")))
    return [folder / name for name in names]


def test_records_are_read_from_beside_the_results(tmp_path):
    certified(written(tmp_path, "bptt.json"))
    certified(written(tmp_path, "digits.json", "digits.timing.json"))
    results = [tmp_path / name for name in ("bptt.json", "digits.json", "digits.timing.json")]
    run = read_run(results, [tmp_path / "bptt.json"])
    assert (run.results, sum(run.commits.values()), run.seconds) == (3, 2, 80.0)
    assert "1 of 2 jobs are older than the sources: made at commit 0123456789" in older(run)
    results[0].write_text(results[0].read_text() + " ")
    with pytest.raises(SystemExit, match=r"bptt.json differs from its record.* Make it again"):
        read_run(results)
    (lost,) = written(tmp_path, "lost.json")
    with pytest.raises(SystemExit, match=r"There is no .*lost.record.json"):
        read_run([lost])


def test_experiment_without_results_has_no_run():
    with pytest.raises(ValueError, match="no results"):
        run_of([], [], [])


def test_greatest_count_is_first_and_equal_ones_are_in_order_of_their_names():
    assert list(together([{"b": 1, "c": 1}, {"a": 1, "c": 2}]).items()) == [("c", 3), ("a", 1), ("b", 1)]
