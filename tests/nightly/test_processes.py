"""Several processes, which `jax.distributed` connects on loopback, train the model that one process trains."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import STEPS, TRIED

PROGRAM = Path(__file__).with_name("processes.py")
DEVICES = 4  # of all processes together
pytestmark = pytest.mark.slow


def start(processes, part, folder, devices=DEVICES, **environment):
    """The processes, each with its share of the devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} | environment
    return [
        subprocess.Popen(
            [sys.executable, PROGRAM, *map(str, (port, processes, index, devices // processes, part, folder))],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]


def run(processes, part, folder, devices=DEVICES):
    """What each of several processes found."""
    started = start(processes, part, folder, devices)
    try:
        texts = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    for process, (_, errors) in zip(started, texts, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads((folder / f"{part}_{processes}_{index}.json").read_text()) for index in range(processes)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """One process with one device."""
    (found,) = run(1, "rules", tmp_path_factory.mktemp("one"), devices=1)
    assert len(found) == len(TRIED)
    return found


@pytest.mark.parametrize("processes", [2, 4])
def test_losses_weights_evaluations_and_outputs_are_those_of_one_process(processes, reference, tmp_path):
    """Also with a mask, dropout, momentum, data by key, and routes with arrays of their own."""
    found = run(processes, "rules", tmp_path)
    for name in map(" ".join, TRIED):
        expected = reference[name]
        for one in found:
            for what in ("losses", "records", "seen", "weights", "loss"):
                np.testing.assert_allclose(one[name][what], expected[what], atol=1e-12, err_msg=f"{name}: {what}")
        outputs = np.concatenate([one[name]["outputs"] for one in found], axis=1)
        np.testing.assert_allclose(outputs, expected["outputs"], atol=1e-12, err_msg=name)


def test_all_processes_stop_where_weights_are_others_or_a_number_is_not_finite_and_the_one_that_has_it_says_so(
    tmp_path,
):
    first, second = run(2, "stopped", tmp_path)
    for said in (first, second):
        assert "in process 1 than in process 0, expected the same in all processes" in said["weights"]
        assert "stopped at step 2" in said["inputs"] and "stopped at step 1" in said["rate"]
        assert "not finite: the update makes" in said["rate"]
    assert "not finite: the inputs are NaN at time step 5, sample 2, feature 1." in second["inputs"]
    assert "Another process may have found it" in first["inputs"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(2, "long", tmp_path_factory.mktemp("undisturbed"))[0]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The folder of a run of two processes of which one was killed in the middle; the other one ends by itself."""
    folder = tmp_path_factory.mktemp("interrupted")
    goes_on, dies = started = start(2, "long", folder)
    try:
        while dies.stdout.readline() != f"step {STEPS // 2}\n":
            assert dies.poll() is None
        dies.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        _, errors = goes_on.communicate(timeout=90)
        assert time.monotonic() - killed < 60
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert goes_on.returncode != 0 and errors
    assert not list(folder.glob("*.json"))
    return folder


@pytest.mark.parametrize("raises", (0, 1))
def test_a_process_that_raises_an_exception_ends_the_others(raises, tmp_path):
    started = start(2, "raises", tmp_path, RAISES=str(raises))
    try:
        for process in started:
            while (line := process.stdout.readline()) != f"step {STEPS // 2 + 2}\n":
                assert line, process.communicate()[1][-3000:]
        errors = [process.communicate(timeout=60)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert all(process.returncode for process in started)
    assert "OSError: a full disk" in errors[raises] and "a full disk" not in errors[1 - raises]


@pytest.mark.parametrize("processes", [2, 1, 4])
def test_run_resumes_after_a_process_died_with_any_number_of_processes(processes, interrupted, undisturbed, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(interrupted, folder)
    for found in run(processes, "long", folder):
        assert len(found["losses"]) == STEPS
        if processes == 2:
            assert found == undisturbed  # bit for bit
        else:
            np.testing.assert_allclose(found["losses"], undisturbed["losses"], atol=1e-12)
            np.testing.assert_allclose(found["weights"], undisturbed["weights"], atol=1e-12)
    assert (folder / "run" / "best").is_file()
