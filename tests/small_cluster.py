"""A Ray cluster on this machine: each node a session of processes, walled off from the others where allowed."""

import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import tiny

NET, PORT, START_S = "10.77.0", 6399, 120
RAY = str(Path(sys.executable).with_name("ray"))
FLAGS = ("--block", "--object-store-memory=100000000", "--disable-usage-stats", "--include-log-monitor=false")
HEAD = ("--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false")


class Cluster:
    """A head without CPUs, beside which the programs run, and nodes of one CPU each."""

    def __init__(self, folder: Path) -> None:
        """`folder`, whose name is short: for sockets, the token, the log of each node, and a TMPDIR for each."""
        self.id, self.folder = f"r{secrets.token_hex(3)}", folder
        self.walls = _may_have_walls()  # between the nodes
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "token").write_text(secrets.token_hex(32))
        self.environment = os.environ | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "PYTHONPATH": str(tiny.ROOT / "src"),
            "PYTHONWARNINGS": "default",
        }
        self.spaces: list[str] = []  # networks of nodes, by name; a killed node keeps its own

    @property
    def address(self) -> str:
        """Where programs find it."""
        return f"{self._ip('head')}:{PORT}"

    def start(self) -> None:
        """Start the head."""
        self._start("head", HEAD)

    def add(self, name: str, hidden: Path | None = None) -> None:
        """Start a node; in place of the folder `hidden` it sees an empty one."""
        self._start(name, (f"--address={self.address}", "--num-cpus=1"), hidden)

    def kill(self, name: str) -> None:
        """End a node as a failure of its power would: at once, with all that runs there."""
        process = self.nodes.pop(name)
        while members := session(process.pid):
            for member in members:
                with suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
            time.sleep(0.02)
        process.wait()

    def steel(self, log: Path, *args: str) -> subprocess.Popen[bytes]:
        """Start the program in the working directory; what it says goes into a file."""
        command = [*self._within("head"), sys.executable, "-m", "steel", *args]
        with log.open("wb") as out:
            return subprocess.Popen(command, env=self.environment, stdout=out, stderr=out)

    def run(self, *args: str) -> tuple[int, list[str]]:
        """Run the program to its end; give exit code and the lines that it says."""
        log = self.folder / "log"
        with self.steel(log, *args) as process:
            return process.wait(), log.read_text().splitlines()

    def close(self) -> None:
        """End all of it."""
        for name in list(self.nodes):
            self.kill(name)
        while self.spaces:
            subprocess.run(["ip", "netns", "del", self.spaces.pop()], check=True)

    def _start(self, name: str, flags: Sequence[str], hidden: Path | None = None) -> None:
        if self.walls and f"{self.id}{name}" not in self.spaces:
            self._wall(name)
        hide = ["sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "sh"] if hidden else []
        place = [f"--node-ip-address={self._ip(name)}", f"--node-name={name}"]
        place += [f"--temp-dir={self.folder}"] if name == "head" else []  # the others learn it from the head
        command = [*self._within(name), *hide, RAY, "start", *place, *flags, *FLAGS]
        log, own = self.folder / f"{name}.log", self.folder / name
        own.mkdir(exist_ok=True)
        with log.open("wb") as out:
            self.nodes[name] = subprocess.Popen(
                command, env=self.environment | {"TMPDIR": str(own)}, stdout=out, stderr=out, start_new_session=True
            )
        wait_for(lambda: b"Ray runtime started." in log.read_bytes(), log)

    def _ip(self, name: str) -> str:
        return f"{NET}.{1 + ['head', *'abcdefgh'].index(name)}" if self.walls else "127.0.0.1"

    def _within(self, name: str) -> list[str]:
        return ["ip", "netns", "exec", f"{self.id}{name}"] if self.walls else []

    def _wall(self, name: str) -> None:
        """Give a node a network of its own, plugged into that of the head."""
        space, head = f"{self.id}{name}", f"{self.id}head"
        commands = [f"netns add {space}", f"-n {space} link set lo up"]
        if name == "head":
            commands += [f"-n {space} link add eth0 type bridge"]
        else:
            commands += [f"link add {space} netns {head} type veth peer name eth0 netns {space}"]
            commands += [f"-n {head} link set {space} master eth0 up"]
        commands += [f"-n {space} addr add {self._ip(name)}/24 dev eth0", f"-n {space} link set eth0 up"]
        self.spaces.append(space)
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True)


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster that does not outlive the block, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.close()


def session(leader: int) -> list[int]:
    """Processes of a session that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_for(met: Callable[[], bool], log: Path, within_s: float = START_S) -> None:
    """Wait until a condition is met; else fail with what a log says."""
    end = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)


def _may_have_walls() -> bool:
    """Whether this user may make network namespaces."""
    probe = f"r{secrets.token_hex(3)}"
    try:
        done = subprocess.run(["ip", "netns", "add", probe], capture_output=True)
    except FileNotFoundError:
        return False
    if done.returncode == 0:
        subprocess.run(["ip", "netns", "del", probe], check=True)
    return done.returncode == 0
