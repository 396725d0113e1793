"""Bundles to change."""

import json
import shutil

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
