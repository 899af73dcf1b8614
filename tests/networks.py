"""Machines on one network, all on this one: each has namespaces of its own for its network, its
mounts and, when asked, its name, and hangs on a cable that can be pulled out.

    with network() as lan, lan.host("ben") as ben:
        ben.mount(shared, place)
        subprocess.Popen(ben.command("prefect", "worker", "start", cwd=checkout))
        ben.unplug()

That takes root on Linux, and is not allowed in every container: then `lan.why_not` says so, a host
has a gate in front of the server in the place of a cable (connections break, where a cable's hang),
and mounts and name are those of this machine. Knows nothing of what runs on a host.
"""

import os
import random
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from flows.hosting.server import HOST
from tests.gate import Gate

NETWORKS = "198.18.{}"  # what benchmarks of networks use, and nobody else
TRY = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"


class Host:
    """A machine of the network."""

    def server(self, port: int) -> str:
        """Where a server of this machine is for it."""
        raise NotImplementedError

    def command(self, *command: str, cwd: Path) -> list[str]:
        """The command, as one that runs there."""
        raise NotImplementedError

    def unplug(self) -> None:
        """Take its way to the server away."""
        raise NotImplementedError

    def plug_in(self) -> None:
        """Give that back."""
        raise NotImplementedError

    def mount(self, shared: Path, place: Path) -> None:
        """Have a folder at another place there: mounted where root may, else by a link."""
        command = self.command("mount", "--bind", str(shared), str(place), cwd=place.parent)
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            place.rmdir()
            place.symlink_to(shared)

    def unmount(self, place: Path) -> None:
        """Take it away, also from whoever is at work in it."""
        if place.is_symlink():
            place.unlink()
            place.mkdir()
        else:
            command = self.command("umount", "--lazy", str(place), cwd=place.parent)
            subprocess.run(command, check=False, capture_output=True)


@dataclass
class Namespace(Host):
    """A machine with namespaces of its own."""

    bridge: str
    network: str
    number: int
    holder: "subprocess.Popen[bytes]"  # whose namespaces they are
    kinds: tuple[str, ...]

    @property
    def cable(self) -> str:
        return f"{self.bridge}p{self.number}"

    def server(self, port: int) -> str:
        return f"http://{self.network}.1:{port}"

    def command(self, *command: str, cwd: Path) -> list[str]:
        # a library that is loaded before all may start threads, with which nobody may enter
        preloaded = os.environ.get("LD_PRELOAD")
        again = ["env", f"LD_PRELOAD={preloaded}"] if preloaded else []
        enter = ["nsenter", "--target", str(self.holder.pid), *self.kinds, f"--wd={cwd}"]
        return ["env", "--unset=LD_PRELOAD", *enter, "--", *again, *command]

    def unplug(self) -> None:
        _ip("link", "set", self.cable, "down")

    def plug_in(self) -> None:
        _ip("link", "set", self.cable, "up")

    def wire(self) -> None:
        """Connect it to the bridge."""
        target = str(self.holder.pid)
        _ip("link", "add", self.cable, *("type", "veth", "peer", "name", "eth0", "netns", target))
        _ip("link", "set", self.cable, "master", self.bridge, "up")
        for command in (
            ["ip", "link", "set", "lo", "up"],
            ["ip", "address", "add", f"{self.network}.{self.number + 1}/24", "dev", "eth0"],
            ["ip", "link", "set", "eth0", "up"],
        ):
            _run(self.command(*command, cwd=Path("/")))


@dataclass
class Gated(Host):
    """A machine that shares all with this one but its way to the server."""

    gate: Gate | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.gate:
            self.gate.close()

    def server(self, port: int) -> str:
        self.gate = self.gate or Gate(port)
        return f"http://{HOST}:{self.gate.port}"

    def command(self, *command: str, cwd: Path) -> list[str]:
        return list(command)

    def unplug(self) -> None:
        assert self.gate
        self.gate.shut()

    def plug_in(self) -> None:
        assert self.gate
        self.gate.open()


@dataclass
class Network:
    """What the machines hang on."""

    bridge: str = ""
    prefix: str = ""  # of its addresses
    hostnames: bool = False  # each machine has its own
    why_not: str = ""  # there are no namespaces
    hosts: int = 0

    @property
    def address(self) -> str:
        """Of this machine, as the others call it."""
        return f"{self.prefix}.1" if self.bridge else HOST

    @property
    def listen(self) -> str:
        """Where a server has to listen that this machine calls 127.0.0.1 as well."""
        return "0.0.0.0" if self.bridge else HOST

    @contextmanager
    def host(self, name: str) -> Iterator[Host]:
        """A machine, until the block ends."""
        if not self.bridge:
            with Gated() as gated:
                yield gated
            return
        self.hosts += 1
        kinds = ("--net", "--mount", *(["--uts"] if self.hostnames else []))
        with _namespaces(kinds) as holder:
            host = Namespace(self.bridge, self.prefix, self.hosts, holder, kinds)
            host.wire()
            if self.hostnames:
                _run(host.command("hostname", name, cwd=Path("/")))
            yield host


@contextmanager
def network(hostnames: bool = False) -> Iterator[Network]:
    """A network, until the block ends; with `hostnames` its machines have names of their own, so
    that none sees at once that a process of another is gone."""
    lan = Network(f"lan{secrets.token_hex(3)}", _free_network(), hostnames)
    try:
        _ip("link", "add", lan.bridge, "type", "bridge")
        _ip("address", "add", f"{lan.address}/24", "dev", lan.bridge)
        _ip("link", "set", lan.bridge, "up")
        _try(lan)
    except OSError as error:
        _remove(lan)
        lan = Network(why_not=f"no network namespaces here: {error}")
    try:
        yield lan
    finally:
        if lan.bridge:
            _remove(lan)


def _try(lan: Network) -> None:
    """See that a machine of it reaches this one.

    Raises:
        OSError: it does not.
    """
    with socket.create_server((lan.address, 0)) as server, lan.host("first") as host:
        port = str(server.getsockname()[1])
        _run(host.command(sys.executable, "-c", TRY, lan.address, port, cwd=Path("/")))


@contextmanager
def _namespaces(kinds: tuple[str, ...]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process with namespaces of its own, which ends with this one."""
    with subprocess.Popen(
        ["unshare", *kinds, "sh", "-c", "echo there; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as holder:
        assert holder.stdout and holder.stderr
        try:
            if holder.stdout.readline() != b"there\n":
                raise OSError(holder.stderr.read().decode().strip())
            yield holder
        finally:
            holder.kill()


def _free_network() -> str:
    try:
        used = subprocess.run(["ip", "address"], capture_output=True, text=True).stdout
    except OSError:
        used = ""
    free = [n for n in range(256) if not re.search(rf"\b198\.18\.{n}\.", used)]
    return NETWORKS.format(random.choice(free))


def _remove(lan: Network) -> None:
    with suppress(OSError):  # there is none
        _ip("link", "delete", lan.bridge)


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: list[str]) -> None:
    """Raises:
    OSError: it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1:]}")
