"""Slurm on this machine, as Debian packages it: munged, slurmctld and slurmd under a temporary folder, one node."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "sinfo")


def missing() -> str:
    """Why Slurm cannot be run here; empty if it can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurm-wlm)"
    return "" if os.geteuid() == 0 else "slurmd needs root"


class SlurmServer:
    """Starts the daemons; `environment` makes the commands speak to them."""

    def __init__(self, folder: Path, *, cpus: int) -> None:
        folder.chmod(0o755)
        self._folder, self._processes = folder, []  # type: ignore[var-annotated]
        host = socket.gethostname().split(".")[0]
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        configuration = folder / "slurm.conf"
        configuration.write_text(
            f"ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={_free_port()}\nSlurmdPort={_free_port()}\n"
            f"SlurmUser=root\nSlurmdUser=root\nAuthType=auth/munge\nCryptoType=crypto/munge\nAuthInfo=socket={folder}/munge.socket\n"
            f"StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool\nSlurmctldPidFile={folder}/slurmctld.pid\n"
            f"SlurmdPidFile={folder}/slurmd.pid\nSlurmctldLogFile={folder}/slurmctld.log\nSlurmdLogFile={folder}/slurmd.log\n"
            "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\n"
            "SchedulerType=sched/builtin\nReturnToService=2\nMpiDefault=none\nKillWait=5\nJobRequeue=1\nSlurmdParameters=config_overrides\n"
            f"NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN\n"
            f"PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP\n"
        )
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        self.environment = {"SLURM_CONF": str(configuration)}
        self._start(
            "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed",
        )  # fmt: skip
        time.sleep(0.5)
        self._start("slurmctld", "-D", "-i")
        self._start("slurmd", "-D", "-N", host)
        self._wait_for_node()

    def command(self, *arguments: str, **environment: str) -> str:
        """Run a Slurm command and give its output."""
        done = subprocess.run(
            arguments, env=os.environ | self.environment | environment, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{arguments}: {done.stderr}")
        return done.stdout

    def close(self) -> None:
        """End the daemons and what they run."""
        subprocess.run(["scancel", "--user=root"], env=os.environ | self.environment, capture_output=True, timeout=30)
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str, *arguments: str) -> None:
        path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") or name
        with open(self._folder / f"{name}.out", "wb") as output:
            self._processes.append(
                subprocess.Popen([path, *arguments], env=os.environ | self.environment, stdout=output, stderr=output)
            )

    def _wait_for_node(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                if "idle" in self.command("sinfo", "--noheader", "--format=%T"):
                    return
            except RuntimeError:
                pass
            time.sleep(0.5)
        logs = "\n".join(path.read_text(errors="replace")[-1500:] for path in sorted(self._folder.glob("*.log")))
        raise RuntimeError(f"the Slurm node is not idle after 60 s:\n{logs}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
