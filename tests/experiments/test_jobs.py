"""The jobs of every experiment, and the two commands that compute and draw them."""

import copy
import json
import re

import pytest

from experiments import plot, run
from experiments.common.samples import seeds_of
from experiments.pipeline import job as jobs
from experiments.pipeline import results
from experiments.pipeline.job import ARRAYS, NUMBERS, TIMES, Job, experiment_names, jobs_of, scales_of, settings_of
from experiments.pipeline.results import commit, digest_of, read_record, result_product, write_json
from experiments.step_response import run as of_one_neuron

NEURONS = ["if", "lif", "li", "cuba_lif", "alif", "adlif", "brf", "ltc"]


@pytest.mark.parametrize("experiment, scale", [(name, of) for name in experiment_names() for of in scales_of(name)])
def test_each_job_has_settings_of_its_own_and_reads_arrays(experiment, scale):
    settings = settings_of(experiment, scale)
    found = jobs_of(experiment, scale, settings)
    assert len({json.dumps(job.config, sort_keys=True) for job in found.values()}) == len(found)
    assert found or settings["tasks"] == {}  # not run yet
    assert all(ARRAYS in found[other].endings for job in found.values() for other in job.reads)


@pytest.mark.parametrize("experiment", experiment_names())
def test_fresh_seeds_are_those_of_each_job_with_seeds(experiment):
    if not isinstance(settings_of(experiment, "tiny").get("seeds"), int):
        with pytest.raises(SystemExit, match="There is no setting 'first_seed'"):
            run.jobs_with(experiment, "tiny", ["first_seed=1000"], [])
        return
    for job in run.jobs_with(experiment, "tiny", ["first_seed=1000"], []).values():
        assert ("first_seed" in job.config) == ("seeds" in job.config)
        assert "seeds" not in job.config or list(seeds_of(job.config, 2)) == [1000, 1001]


def step_response(folder, *arguments):
    run.main(["step_response", *arguments, "--results", str(folder / "results")])


def test_one_job_is_computed_with_its_record(tmp_path):
    step_response(tmp_path, "lif", "--scale", "tiny", "--set", "current_off=150")
    folder = tmp_path / "results" / "tiny" / "step_response"
    assert sorted(path.name for path in folder.iterdir()) == ["lif.json", "lif.record.json"]
    result, record = json.loads((folder / "lif.json").read_text()), read_record(folder / "lif.record.json")
    config, own = result["config"], {"current_off": 150, "neuron": "lif"}
    assert config == record["settings"] == config | own and result["seed"] == 35
    assert len(result["membrane"]) == config["n_steps"] and list(record["files"]) == ["lif.json"]
    assert (record["device"], record["commit"]) == ("cpu", commit()) and 100 < record["peak_megabytes"] < 50_000


def test_what_has_a_result_of_these_settings_is_not_computed_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(of_one_neuron, "compute", lambda config: {"membrane": [0.1]})

    def computed(*arguments):
        step_response(tmp_path, *arguments)
        return [line.removeprefix("step_response: ") for line in capsys.readouterr().out.splitlines()]

    assert computed("--list") == computed() == NEURONS
    assert computed() == []
    (tmp_path / "results" / "quick" / "step_response" / "li.json").unlink()
    assert computed() == ["li"]
    result = tmp_path / "results" / "quick" / "step_response" / "lif.json"
    result.write_text(result.read_text().replace("1", "2", 1))
    assert computed() == ["lif"]
    record = result.with_suffix(".record.json")
    older = read_record(record) | {"made_from": "of other sources"}
    write_json(record, older | {"sha256_of_the_rest": digest_of(older)})
    assert computed("--outdated", "keep") == []
    with pytest.raises(SystemExit):
        computed("--outdated", "draw")  # which never computes
    assert computed() == ["lif"]
    assert computed("--set", "current_off=150") == NEURONS


def test_tasks_without_their_spikes_are_left_out_and_said_to_be(tmp_path, monkeypatch, capsys):
    computed = []
    monkeypatch.setattr(results, "SPIKES", tmp_path)
    with pytest.raises(SystemExit, match=r"There is no .*spoken_digits.npz"):
        run.main(["accuracy", "spoken_digits/bptt", "--results", str(tmp_path)])
    monkeypatch.setattr(run, "run", lambda experiment, job, *_: computed.append(job.name))
    run.main(["accuracy", "--results", str(tmp_path)])
    rules = settings_of("accuracy", "quick")["rules"]
    assert computed == [f"{task}/{rule}" for task in ("randman", "digits") for rule in rules]
    told = capsys.readouterr().out
    assert f"accuracy: japanese_vowels/bptt is left out, since {tmp_path}/japanese_vowels.npz is missing" in told


def test_figures_are_drawn_from_the_results_that_are_named(tmp_path):
    step_response(tmp_path, "lif", "alif")
    folders = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "figures")]
    plot.main(["step_response", "step_response", "--jobs", "alif", "lif", *folders])
    made = sorted(path.name for path in (tmp_path / "figures" / "quick").iterdir())
    assert made == [f"step_response.{form}" for form in ("csv", "png", "record.json", "svg")]
    lines = (tmp_path / "figures/quick/step_response.csv").read_text().splitlines()
    assert list(dict.fromkeys(line.split(",")[0] for line in lines)) == ["neuron", "alif", "lif"]


SETTINGS = {"seeds": 3, "rate": 0.01, "rules": ["a"], "tasks": {"t": {"steps": 4}}}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("rate=1e-3", {"rate": 0.001}),  # which YAML reads as a text
        ("tasks.t.rate=1e-2", {}),  # as it is
        ("rules=[b, c]", {"rules": ["b", "c"]}),
        ("tasks.t.rate=0.5", {"tasks": {"t": {"steps": 4, "rate": 0.5}}}),
        ("tasks.u.steps=3", "There is no setting 'u', expected one of: t"),
        ("tasks.t.steps=few", "got the text 'few', expected a number"),
    ],
)
def test_a_change_of_a_setting(change, changed):
    before = copy.deepcopy(SETTINGS)
    if isinstance(changed, str):
        with pytest.raises(SystemExit, match=changed):
            run.with_change(SETTINGS, change)
    else:
        assert run.with_change(SETTINGS, change) == SETTINGS | changed
    assert before == SETTINGS


def test_times_are_in_a_file_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(of_one_neuron, "compute", lambda config: ({"cells": [1]}, {"cells": [0.5]}))
    both = Job("both", {"scale": "tiny"}, endings=(NUMBERS, TIMES))
    product = result_product("step_response", "tiny", {"both": both}, "both", results=tmp_path)
    run.run("step_response", both, {"both": product})
    made = sorted(path.name for path in product.record.parent.iterdir())
    assert made == ["both.json", "both.record.json", "both.timing.json"]
    (result,) = plot.read({"both": product}, {"both": both}, "remake", "the command")
    assert result["cells"] == [1] and result["times"]["cells"] == [0.5]


@pytest.mark.parametrize("name", experiment_names())
def test_results_are_made_from_the_modules_of_other_experiments_that_theirs_import(name):
    texts = [path.read_text() for path in (jobs.EXPERIMENTS / name).glob("*.py") if not path.stem.startswith("plot")]
    named = re.findall(r"from experiments\.(\w+)\.(\w+) import", "\n".join(texts))
    others = {f"experiments/{of}/{module}.py" for of, module in named if of in experiment_names() and of != name}
    for job in jobs_of(name, "tiny", settings_of(name, "tiny")).values():
        assert others <= set(job.sources)
