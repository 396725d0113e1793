"""Bundles to change, and what their runs leave behind."""

import contextlib
import json
import secrets
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import sealed
from tet_deploy.testing import random_quantized_network


@pytest.fixture(scope="session")
def _exported(tmp_path_factory):
    graph = random_quantized_network(np.random.default_rng(5), encoding="events", layers=2)
    return to_lava(graph, tmp_path_factory.mktemp("exported") / "net.lava")


@pytest.fixture
def a_bundle(_exported, tmp_path):
    """A bundle of two populations on event counts, one's own to change."""
    return shutil.copytree(_exported, tmp_path / "net.lava")


@pytest.fixture
def reseal():
    """Give a bundle whose files or plan were changed the checksums that an exporter would have given it."""

    def reseal(bundle, change=lambda plan: None):
        path = bundle / "plan.json"
        plan = json.loads(path.read_text())
        change(plan)
        files = {name: (bundle / name).read_bytes() for name in plan["files"] if (bundle / name).is_file()}
        path.write_text(json.dumps(sealed(plan, files)))
        return bundle

    return reseal


class Watch:
    """What runs of bundles leave behind, looked for where Linux shows it."""

    def __init__(self, token_hex):
        self.tokens, self._token_hex = set(), token_hex

    def new_token(self, size: int) -> str:
        """The random part of names of shared memory and of sockets."""
        token = self._token_hex(size)
        self.tokens.add(token)
        return token

    def leftovers(self, bundle: Path) -> list[str]:
        """Processes of runs of a bundle, and shared memory and sockets under their names, that stay for 15 seconds.

        A process that was killed is listed until it has had its turn on a busy machine.
        """
        until = time.monotonic() + 15
        while True:
            places = [Path(folder) for folder in ("/dev/shm", "/tmp")]
            found = [str(path) for token in self.tokens for place in places for path in place.glob(f"td{token}_*")]
            found += self.processes(bundle).values()
            if not found or time.monotonic() > until:
                return found
            time.sleep(0.1)

    def processes(self, bundle: Path) -> dict[int, str]:
        """Command lines of the living processes that run a bundle, by their id."""
        return {pid: command for pid, command in self.commands().items() if str(bundle / "run.py") in command}

    @staticmethod
    def commands() -> dict[int, str]:
        """Command lines of all processes that live; arguments are separated by zero bytes."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                found[int(path.parent.name)] = path.read_bytes().decode(errors="replace")
        return found


@pytest.fixture
def watch(monkeypatch):
    """Knows the names that runs of this test give to what they share; other runs have others."""
    if not Path("/proc").is_dir():
        pytest.skip("looks for processes and shared memory as Linux shows them")
    watch = Watch(secrets.token_hex)
    monkeypatch.setattr(secrets, "token_hex", watch.new_token)
    return watch
