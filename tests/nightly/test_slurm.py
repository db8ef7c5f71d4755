"""The pipeline on a Slurm of three nodes on this machine, on loopback: Debian's packages slurm-wlm and munge.

It is no service of the system: a temporary folder has its keys, configuration, state and logs.
"""

import contextlib
import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from toy_pipeline import PATIENCE, Tree, ended, jobs, results

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
DAEMONS, CLIENTS = ("munged", "slurmctld", "slurmd"), ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
MISSING = [name for name in (*DAEMONS, *CLIENTS) if shutil.which(name, path=PATH) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
NODES = ("n1", "n2", "n3")
CONFIGURATION = """\
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1
KillWait=2
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
OPTIONS = ("--workflow-profile", "slurm", "--slurm-init-seconds-before-status-checks", "2")


class Slurm:
    """A cluster in a folder, which `programs` stops. The plugin removes SLURM_CONF, so that its programs set it."""

    def __init__(self, folder, programs):
        self.folder, self.environment = folder, os.environ | {"PATH": f"{folder}/bin:{PATH}"}
        first, *ports = free_ports(1 + len(NODES))
        lines = [CONFIGURATION.format(host=socket.gethostname(), port=first, user=getpass.getuser(), folder=folder)]
        for node, port in zip(NODES, ports, strict=True):
            at = f"NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port}"
            lines.append(f"NodeName={node} {at} CPUs=2 RealMemory=4000\n")
        (folder / "slurm.conf").write_text("".join(lines))
        for name in ("state", "bin"):
            (folder / name).mkdir()
        for name in CLIENTS:
            file = folder / "bin" / name
            file.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which(name, path=PATH)} "$@"\n')
            file.chmod(0o755)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {"key-file": key, "socket": "munge.socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={folder / name}" for option, name in files.items()]
        self.run(programs, "munged", "--foreground", "--force", *options)
        self.wait_for((folder / "munge.socket").exists)
        self.run(programs, "slurmctld", "-D")
        for node in NODES:
            self.run(programs, "slurmd", "-D", "-N", node)
        self.wait_for(lambda: self.ask("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle"] * len(NODES))
        programs.callback(self.cancel_all)

    def run(self, programs, name, *options):
        environment = self.environment | {"SLURM_CONF": str(self.folder / "slurm.conf")}
        with (self.folder / "said").open("a") as said:
            command = [shutil.which(name, path=PATH), *options]
            program = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        programs.callback(program.wait)
        programs.callback(program.terminate)

    def cancel_all(self):
        self.ask("scancel", "--user", getpass.getuser())
        self.wait_for(lambda: not self.ask("squeue", "--noheader"))

    def ask(self, *command):
        """The output of one of Slurm's programs."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60).stdout

    def jobs(self, tree):
        """What Slurm knows of each job of a tree, also of those that ended."""
        lines = self.ask("scontrol", "--oneliner", "show", "job").splitlines()
        found = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]
        return [facts for facts in found if facts.get("WorkDir") == str(tree.path)]

    def wait_for(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, (self.folder / "said").read_text()[-5000:]
            time.sleep(0.2)


def free_ports(number):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture(scope="module")
def slurm():
    with tempfile.TemporaryDirectory(prefix="slurm") as folder, contextlib.ExitStack() as programs:
        yield Slurm(Path(folder), programs)


def test_jobs_that_fail_or_take_too_long_or_are_cancelled_are_told_and_alone_made_again(slurm, tmp_path):
    good, bad = jobs(zero=0, slow=300, cancelled=300), {"number": -1, "seconds": 0, "alone": False}
    tree = Tree.new(tmp_path / "tree", good | {"bad": bad})
    targets = results("zero", "slow", "cancelled", "bad")
    minute = ("--default-resources", "runtime=1", "mem_mb=1000")
    run = tree.start(*targets, options=(*OPTIONS, *minute), base=slurm.environment)

    def running():
        states = {Path(job["Comment"]).name: job for job in slurm.jobs(tree) if job["JobState"] == "RUNNING"}
        return next((job for name, job in states.items() if "cancelled" in name), None)

    slurm.wait_for(running)
    slurm.ask("scancel", running()["JobId"])
    assert ended(run) != 0 and list(tree.made()) == results("zero")
    for told in ("the number -1 is negative", "TIMEOUT", "CANCELLED"):
        assert told in tree.said()
    (kept,) = (tree.path / path for path in results("zero"))
    before = kept.stat().st_mtime_ns
    tree.set(jobs(zero=0, slow=0, cancelled=0) | {"bad": bad | {"number": 5}})
    assert tree.run(*targets, options=OPTIONS, base=slurm.environment) == 0, tree.said()
    assert len(tree.made()) == 4 and kept.stat().st_mtime_ns == before


def test_a_node_that_goes_down_loses_no_result(slurm, tmp_path):
    tree = Tree.new(tmp_path / "tree", jobs(a=8, b=8, c=8, d=8, e=8))
    run = tree.start(*results(*"abcde"), options=OPTIONS, base=slurm.environment)
    slurm.wait_for((tree.path / "ran-on-n2").exists)
    lost = {job["JobId"] for job in slurm.jobs(tree) if job["NodeList"] == "n2"}
    slurm.ask("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    code = ended(run)
    again = {job["JobId"] for job in slurm.jobs(tree) if job["Restarts"] != "0"}
    slurm.ask("scontrol", "update", "nodename=n2", "state=resume")
    assert code == 0, tree.said()
    assert lost and again == lost
    assert [json.loads(content)["square"] for content in tree.made().values()] == [0, 1, 4, 9, 16]


def test_a_job_that_measures_times_has_a_node_for_itself(slurm, tmp_path):
    tree = Tree.new(tmp_path / "tree", jobs(alone=("measured",), measured=0, other=0))
    targets = ("results/tiny/toy/measured.timing.json", *results("other"))
    assert tree.run(*targets, options=(*OPTIONS, "--cores", "1"), base=slurm.environment) == 0, tree.said()
    found = {"measured" in job["Comment"]: (job["OverSubscribe"], job["NumCPUs"]) for job in slurm.jobs(tree)}
    assert found == {True: ("NO", "2"), False: ("OK", "1")}
