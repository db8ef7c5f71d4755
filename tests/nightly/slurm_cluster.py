"""A Slurm cluster of several nodes on this machine, on loopback, started and stopped by one `with` block.

    python tests/nightly/slurm_cluster.py COMMAND...    runs a command on it; SLURM_CONF says where it is

It needs the programs of Slurm and munge, in Debian the packages slurm-wlm and munge, and keeps everything else in a folder:
keys, configuration, state and logs. It is no service of the system, and does not touch one.
"""

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CLIENTS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
CONFIGURATION = """\
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1
ReturnToService=2
SlurmdTimeout=6
KillWait=2
OverTimeLimit=0
MaxJobCount={most_jobs}
MinJobAge=300
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """The programs of Slurm that are not installed."""
    return [name for name in (*DAEMONS, *CLIENTS) if shutil.which(name, path=PATH) is None]


class Cluster:
    """A running cluster.

    Attributes:
        folder: its keys, configuration, state and logs.
        environment: the environment in which `sbatch` and its kin find it, also where variables named SLURM_* are removed, as
            Snakemake does.
    """

    def __init__(self, folder: Path, nodes: int, cpus: int, most_jobs: int):
        self.folder, self.nodes = folder, [f"n{number}" for number in range(1, nodes + 1)]
        self.environment = os.environ | {"PATH": f"{folder}/bin:{PATH}", "SLURM_CONF": str(folder / "slurm.conf")}
        self._running: dict[str, subprocess.Popen] = {}
        ports = free_ports(nodes + 1)
        lines = [
            f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=4000"
            for name, port in zip(self.nodes, ports[1:], strict=True)
        ]
        (folder / "state").mkdir()
        (folder / "bin").mkdir()
        for name in CLIENTS:
            file = folder / "bin" / name
            file.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which(name, path=PATH)} "$@"\n')
            file.chmod(0o755)
        (folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=socket.gethostname(),
                controller=ports[0],
                user=getpass.getuser(),
                folder=folder,
                most_jobs=most_jobs,
                nodes="\n".join(lines),
            )
        )

    def start(self) -> None:
        """Start all programs, and wait until the nodes are idle."""
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._run(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/seed",
        )  # fmt: skip
        wait_for(lambda: (self.folder / "munge.socket").exists(), "munged's socket")
        self._run("slurmctld", "-D")
        for node in self.nodes:
            self.start_node(node)
        wait_for(lambda: self.states().count("idle") == len(self.nodes), "idle nodes", self.log)

    def start_node(self, node: str) -> None:
        self._run("slurmd", "-D", "-N", node, name=node)

    def kill_node(self, node: str) -> None:
        """Kill the program of a node and all that it started, as if its power were cut."""
        program = self._running.pop(node)
        kill([program.pid, *self._steps(node)])
        program.wait()

    def states(self) -> list[str]:
        """The states of the nodes."""
        return self.ask("sinfo", "--noheader", "--Node", "--format=%T").split()

    def ask(self, *command: str) -> str:
        """The output of one of Slurm's programs; empty if it fails."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60).stdout

    def jobs(self, folder: Path) -> list[dict[str, str]]:
        """What Slurm knows of each job that was submitted in a folder, also of those that ended within five minutes."""
        lines = self.ask("scontrol", "--oneliner", "show", "job").splitlines()
        found = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]
        return [facts for facts in found if facts.get("WorkDir") == str(folder)]

    def log(self) -> str:
        """The last lines of the logs."""
        texts = [path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("*.log"))]
        return "\n".join(texts)

    def stop(self) -> None:
        """Stop all programs, and all that they started."""
        self.ask("scancel", "--user", getpass.getuser())
        for name in [*self.nodes, "slurmctld", "munged"]:
            if program := self._running.pop(name, None):
                below = [*children(program.pid), *self._steps(name)]
                program.terminate()
                try:
                    program.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    program.kill()
                kill(below)

    def _steps(self, node: str) -> list[int]:
        """The processes of a node's jobs. They are no children of its slurmd, but each is in the session of its slurmstepd."""
        sessions, of_node = {}, set()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # a process that ended, or of another user
                sessions[int(process.name)] = os.getsid(int(process.name))
                environment = (process / "environ").read_bytes()
                if f"SLURMD_NODENAME={node}\0".encode() in environment and str(self.folder).encode() in environment:
                    of_node.add(int(process.name))
        return [
            one for one, session in sessions.items() if one in of_node or session in {sessions[it] for it in of_node}
        ]

    def _run(self, program: str, *options: str, name: str | None = None) -> None:
        name = name or program
        path = shutil.which(program, path=PATH)
        assert path is not None
        with (self.folder / f"{name}.out").open("w") as out:
            self._running[name] = subprocess.Popen(
                [path, *options], env=self.environment, stdout=out, stderr=subprocess.STDOUT
            )


@contextlib.contextmanager
def cluster(nodes: int = 3, cpus: int = 2, most_jobs: int = 1000) -> Iterator[Cluster]:
    """A cluster as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="slurm") as folder:
        made = Cluster(Path(folder), nodes, cpus, most_jobs)
        try:
            made.start()
            yield made
        finally:
            made.stop()


def children(pid: int) -> list[int]:
    """All processes below one, the deepest last."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [one for child in map(int, found) for one in (child, *children(child))]


def kill(processes: list[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def free_ports(number: int) -> list[int]:
    """Ports of loopback that nobody uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(condition, what, log=lambda: "", seconds=60):
    """Wait until a condition holds.

    Raises:
        TimeoutError: it does not within some time; the message has the log.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"no {what} after {seconds} s\n{log()}")
        time.sleep(0.2)


if __name__ == "__main__":
    with cluster() as running:
        sys.exit(subprocess.run(sys.argv[1:], env=running.environment).returncode)
