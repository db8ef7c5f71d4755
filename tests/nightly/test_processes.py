"""Several processes, which `jax.distributed` connects on loopback, train the model that one process trains."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

PROGRAM = Path(__file__).with_name("processes.py")
MIDDLE = 30  # a step of the long run


@contextlib.contextmanager
def started(processes, part, folder, devices=4):
    """The processes, each with its share of the devices, which end with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    found = [
        subprocess.Popen(
            [sys.executable, PROGRAM, *map(str, (port, processes, index, devices // processes, part, folder))],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            **pipes,
        )
        for index in range(processes)
    ]
    try:
        yield found
    finally:
        for process in found:
            process.kill()
            process.communicate()


def until(process, step):
    while (line := process.stdout.readline()) != f"step {step}\n":
        assert line, process.communicate()[1][-3000:]


def run(processes, part, folder, devices=4):
    """What each of several processes found."""
    with started(processes, part, folder, devices) as all_of_them:
        for process in all_of_them:
            errors = process.communicate(timeout=300)[1]
            assert process.returncode == 0, errors[-3000:]
    return [json.loads((folder / f"{part}_{processes}_{index}.json").read_text()) for index in range(processes)]


def test_several_processes_train_as_one_does(tmp_path):
    """Also with a mask, dropout, momentum, data by key, and routes with arrays of their own."""
    (reference,), found = run(1, "rules", tmp_path, devices=1), run(4, "rules", tmp_path)
    for rule, expected in reference.items():
        outputs = np.concatenate([one[rule].pop("outputs") for one in found], axis=1)
        np.testing.assert_allclose(outputs, expected.pop("outputs"), atol=1e-12, err_msg=rule)
        for one in found:
            for what, number in expected.items():
                np.testing.assert_allclose(one[rule][what], number, atol=1e-12, err_msg=f"{rule}: {what}")


def test_other_weights_stop_all_processes(tmp_path):
    assert all("in process 1 than in process 0" in said for said in run(2, "stopped", tmp_path))


def test_a_run_resumes_with_any_number_of_processes(tmp_path):
    whole, killed, copy = (tmp_path / name for name in ("whole", "killed", "copy"))
    whole.mkdir()
    killed.mkdir()
    undisturbed = run(2, "long", whole)[0]
    with started(2, "long", killed) as (goes_on, dies):
        until(dies, MIDDLE)
        dies.send_signal(signal.SIGKILL)
        errors = goes_on.communicate(timeout=60)[1]
        assert goes_on.returncode and errors
    assert not list(killed.glob("*.json"))
    shutil.copytree(killed, copy)
    assert run(2, "long", killed) == [undisturbed, undisturbed]  # bit for bit
    (alone,) = run(1, "long", copy)
    for what, numbers in undisturbed.items():
        np.testing.assert_allclose(alone[what], numbers, atol=1e-12)
