"""The processes of compose.yaml on this machine, with the commands that stand there; see deploy/run.

DATABASE_URL names the database. The directory keeps `env` (what the processes are told, for ENV_FILE=... manage.py),
`state.json` (the address and pid of each process) and a log of each.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.request import urlopen

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SERVICES: dict[str, Any] = yaml.safe_load((HERE / "compose.yaml").read_text())["services"]
WEB, WORKERS = ["web1", "web2"], ["worker1", "worker2"]
# Seconds in which a process is ready, and in which it ends.
PATIENCE = 120
LOOK_SECONDS = 0.1

NGINX = """{user}worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/proxy.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/unused;
    uwsgi_temp_path {directory}/unused;
    scgi_temp_path {directory}/unused;
    upstream assistant {{
        server 127.0.0.1:{web1} max_fails=0;
        server 127.0.0.1:{web2} max_fails=0;
    }}
    server {{
        listen 127.0.0.1:{proxy};
        include {here}/nginx/proxy.conf;
    }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@dataclass
class Deployment:
    """The processes by their names; what ends by itself is started again."""

    directory: Path
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in [*WEB, "redis", "proxy"]})
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    is_over: bool = False
    wants_restart: bool = False

    # What is started.

    def environment(self) -> dict[str, str]:
        told: dict[str, str] = SERVICES["web1"]["environment"]
        return told | {
            "SECRET_KEY": secrets.token_urlsafe(50),
            "ALLOWED_HOSTS": "127.0.0.1,localhost",
            "ASSISTANT_DATA_DIR": str(self.directory / "data"),
            "HOST": "127.0.0.1",
            "REDIS_URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
            **{name: value for name, value in os.environ.items() if name in OVERRIDES},
        }

    def command(self, name: str) -> list[str]:
        return [sys.executable if word == "python" else word for word in SERVICES[name]["command"]]

    def start(self, name: str) -> None:
        match name:
            case "redis":
                command = [*self.command(name), "--bind", "127.0.0.1", "--port", str(self.ports[name])]
            case "proxy":
                command = [program("nginx"), "-c", str(self.directory / "nginx.conf"), "-g", "daemon off;"]
            case _:
                command = self.command(name)
        port = {"PORT": str(self.ports[name])} if name in WEB else {}
        where = self.directory if name == "redis" else ROOT
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(  # noqa: S603  # the words of compose.yaml
                command, cwd=where, env=self.clean | port, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.tell()

    @property
    def clean(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | {"ENV_FILE": str(self.directory / "env")}

    def tell(self) -> None:
        """Write the state file in one step, so that a reader never sees a part of it."""
        state = {
            name: {"pid": process.pid, "url": f"http://127.0.0.1:{self.ports.get(name, 0)}"}
            for name, process in self.processes.items()
        } | {"deployment": {"pid": os.getpid(), "url": f"http://127.0.0.1:{self.ports['proxy']}"}}
        written = self.directory / "state.new"
        written.write_text(json.dumps(state))
        written.replace(self.directory / "state.json")

    # From the start to the end.

    def run(self) -> None:
        (self.directory / "env").write_text("".join(f"{name}={value}\n" for name, value in self.environment().items()))
        user = "user root;\n" if os.geteuid() == 0 else ""
        config = NGINX.format(directory=self.directory, here=HERE, user=user, **self.ports)
        (self.directory / "nginx.conf").write_text(config)
        try:
            self.start_all()
            sys.stdout.write(f"The deployment is ready on http://127.0.0.1:{self.ports['proxy']} ({self.directory})\n")
            sys.stdout.flush()
            self.watch()
        finally:
            self.stop(*reversed(self.processes))

    def start_all(self) -> None:
        self.start("redis")
        subprocess.run(self.command("migrate"), cwd=ROOT, env=self.clean, check=True, stdout=sys.stderr)  # noqa: S603  # the same
        for name in [*WEB, *WORKERS, "proxy"]:
            self.start(name)
        for name in [*WEB, "proxy"]:
            self.wait_until_ready(name)

    def watch(self) -> None:
        while not self.is_over:
            time.sleep(LOOK_SECONDS)
            for name, process in list(self.processes.items()):
                if process.poll() is not None:
                    self.start(name)
            if self.wants_restart:
                self.wants_restart = False
                self.restart()

    def restart(self) -> None:
        """Restart the web processes one after the other: there is always one that answers."""
        for name in WEB:
            self.stop(name)
            self.start(name)
            self.wait_until_ready(name)
        sys.stdout.write("The web processes have been restarted.\n")
        sys.stdout.flush()

    def wait_until_ready(self, name: str) -> None:
        end = time.monotonic() + PATIENCE
        while not is_ready(self.ports[name]):
            if self.is_over or self.processes[name].poll() is not None or time.monotonic() > end:
                sys.exit(f"{name} isn't ready:\n{(self.directory / f'{name}.log').read_text()}")
            time.sleep(LOOK_SECONDS)

    def stop(self, *names: str) -> None:
        for name in names:
            self.processes[name].terminate()
        for name in names:
            try:
                self.processes[name].wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.processes[name].kill()
                self.processes[name].wait()


# What the one who starts it may say otherwise than compose.yaml and .env.example.
OVERRIDES = {
    *("DATABASE_URL", "ASSISTANT_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "SHUTDOWN_GRACE"),
    *("THROTTLE_KEY", "THROTTLE_USER", "THROTTLE_TOKENS", "THROTTLE_LOGIN"),
}


def is_ready(port: int) -> bool:
    with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
        return bool(response.status == 200)
    return False


def program(name: str) -> str:
    """Return a program's path, also where it is for root alone to find."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") or sys.exit(f"{name} isn't installed.")


def signalled(say: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
    return lambda number, frame: say()


def main() -> None:
    made = tempfile.mkdtemp(prefix="deployment-")
    deployment = Deployment(Path(*sys.argv[1:] or [made]).absolute())
    deployment.directory.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signalled(lambda: setattr(deployment, "is_over", True)))
    signal.signal(signal.SIGHUP, signalled(lambda: setattr(deployment, "wants_restart", True)))
    deployment.run()


if __name__ == "__main__":
    main()
