"""The jobs of every experiment, and the two commands that compute and draw them."""

import importlib
import json

import numpy as np
import pytest

from experiments import plot, run
from experiments.common import job as jobs
from experiments.common.job import SCALES, Job, experiments, figures_of, jobs_of, settings_of

NEURONS = ["if", "lif", "li", "cuba_lif", "alif", "adlif", "brf", "ltc"]


@pytest.mark.parametrize("experiment", experiments())
@pytest.mark.parametrize("scale", SCALES)
def test_each_job_has_a_module_that_computes_it_and_its_settings(experiment, scale):
    settings = settings_of(experiment, scale)
    made = list(importlib.import_module(f"experiments.{experiment}.jobs").jobs(settings))
    found = jobs_of(experiment, scale, settings)
    assert len(found) == len(made) > 0
    assert len({json.dumps(job.config, sort_keys=True) for job in found.values()}) == len(found)
    for job in found.values():
        assert job.config["scale"] == scale
        assert set(job.after) <= set(found)
        assert (jobs.EXPERIMENTS / experiment / f"{job.module}.py").exists()
        assert job.alone == job.name.endswith(".timing")  # times are never the same twice


@pytest.mark.parametrize("experiment", experiments())
def test_each_figure_has_claims_and_a_function_that_draws_it(experiment):
    assert list(importlib.import_module(f"experiments.{experiment}.plot").FIGURES) == figures_of(experiment)


def step_response(folder, *arguments):
    run.main(["step_response", *arguments, "--results", str(folder / "results")])


def test_jobs_are_listed(capsys):
    run.main(["step_response", "--list"])
    assert capsys.readouterr().out.split() == NEURONS


def test_one_job_is_computed_with_its_record(tmp_path):
    step_response(tmp_path, "lif", "--scale", "tiny", "--set", "current_off=150")
    folder = tmp_path / "results" / "tiny" / "step_response"
    assert sorted(path.name for path in folder.iterdir()) == ["lif.json", "lif.record.json"]
    result, record = (json.loads((folder / name).read_text()) for name in ("lif.json", "lif.record.json"))
    assert result["config"]["current_off"] == 150 and result["config"]["neuron"] == "lif" and result["seed"] == 35
    assert len(result["membrane"]) == result["config"]["n_steps"]
    assert record["result"] == "lif.json" and record["wall_seconds"] >= 0


def test_what_has_a_result_of_these_settings_is_not_computed_again(tmp_path, capsys):
    def computed(*arguments):
        step_response(tmp_path, *arguments)
        return [line.removeprefix("step_response: ") for line in capsys.readouterr().out.splitlines()]

    assert computed() == NEURONS
    assert computed() == []
    (tmp_path / "results" / "quick" / "step_response" / "li.json").unlink()
    assert computed() == ["li"]
    assert computed("--set", "current_off=150") == NEURONS


def test_figures_are_drawn_from_the_results_that_are_named(tmp_path):
    step_response(tmp_path, "lif", "alif")
    folders = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "figures")]
    with pytest.raises(SystemExit, match=r"no result of if, li, cuba_lif, .*experiments.run step_response` makes it"):
        plot.main(["step_response", *folders])
    plot.main(["step_response", "step_response", "--jobs", "alif", "lif", *folders])
    made = sorted(path.name for path in (tmp_path / "figures" / "quick").iterdir())
    assert made == ["step_response.csv", "step_response.png", "step_response.svg"]
    neurons = [line.split(",")[0] for line in (tmp_path / "figures/quick/step_response.csv").read_text().splitlines()]
    assert list(dict.fromkeys(neurons)) == ["neuron", "alif", "lif"]


def test_results_of_another_scale_are_not_drawn(tmp_path):
    step_response(tmp_path, "lif", "--scale", "tiny")
    results = tmp_path / "results"
    (results / "tiny").rename(results / "paper")
    with pytest.raises(SystemExit, match=r"lif.json is a result of the scale tiny, expected paper"):
        plot.main(["step_response", "--scale", "paper", "--jobs", "lif", "--results", str(results)])


def test_arrays_of_one_job_are_given_to_the_next(tmp_path, monkeypatch):
    """Through a stand-in for the modules of an experiment that has such jobs."""
    compute = {
        "train": lambda config: ({"mean": 1.5}, {"weights": np.full(3, config["number"])}),
        "surfaces": lambda config, *files: (
            {"files": [f.stem for f in files]},
            {"sum": np.load(files[0])["weights"].sum()},
        ),
    }
    real = importlib.import_module

    def modules(name):
        return (
            type("module", (), {"compute": staticmethod(compute[name.rpartition(".")[2]])})
            if "thing" in name
            else real(name)
        )

    monkeypatch.setattr(run.importlib, "import_module", modules)
    first = Job("a/b", {"number": 2.0}, module="train", arrays=True)
    second = Job("a", {}, module="surfaces", after=("a/b",), arrays=True)
    with pytest.raises(SystemExit, match=r"thing: a reads .*b.npz, which is missing: the job a/b makes it"):
        run.run(second, "thing", tmp_path, tmp_path)
    for job in (first, second):
        run.run(job, "thing", tmp_path, tmp_path)
    assert json.loads((tmp_path / "a.json").read_text())["files"] == ["b"]
    assert np.load(tmp_path / "a.npz")["sum"] == 6.0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["accuracy", "digits/nonsense"],
            "There is no job 'digits/nonsense' of accuracy at the scale quick, expected one of: rand",
        ),
        (["accuracy", "--set", "seed=3"], "There is no setting 'seed', expected one of: seeds, steps"),
        (
            ["accuracy", "spoken_digits/bptt", "--data", "/nowhere"],
            r"reads /nowhere/spoken_digits.npz.*`snakemake data`",
        ),
    ],
)
def test_what_there_is_not_stops(command, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        run.main([*command, "--results", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_figure_that_there_is_not_stops(tmp_path):
    with pytest.raises(SystemExit, match="There is no figure 'nonsense' of accuracy, expected one of: accuracy"):
        plot.main(["accuracy", "nonsense", "--results", str(tmp_path)])


def test_job_that_fails_leaves_no_result(tmp_path):
    with pytest.raises(SystemExit, match="expected steps in rising order"):
        step_response(tmp_path, "lif", "--set", "current_off=1")
    assert not list(tmp_path.rglob("*.json"))
