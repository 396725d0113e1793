import numpy as np
import pytest

from tet_deploy.network_report import report
from tet_deploy.reporting import origin, provenance
from tet_deploy.testing import random_frames, random_quantized_network


def test_metadata_take_no_place_of_what_is_known():
    """When, by what and of which network a report was made is never what a file says; long and odd texts are cut."""
    foreign = dict.fromkeys(("made", "version", "network", "command"), "false")
    graph = random_quantized_network(np.random.default_rng(0))
    found = provenance(graph.with_metadata(**foreign | {"data": "x" * 999, "recipe": "{}", "a\u202e": "b"}))
    assert (found.pop("network"), found.pop("version")) == (graph.digest(), origin()["version"])
    assert found.pop("made").endswith(" UTC")
    assert found == {"data": "x" * 197 + "...", "a\\u202e": "b"}


@pytest.mark.parametrize(
    ("said", "title"), [({"model": "vgg", "source": "Net"}, "vgg"), ({"model": "", "source": "Net"}, "Net"), ({}, "network")]
)
def test_a_page_is_called_by_its_model(said, title, tmp_path):
    """Else by the class that was traced."""
    rng = np.random.default_rng(0)
    graph = random_quantized_network(rng).with_metadata(**said)
    frames = random_frames(graph, rng, steps=2, samples=1)
    page = report(graph, frames, path=tmp_path / "report.html", runtimes=["reference"])
    assert f"<h1>tet_deploy: {title}</h1>" in page.read_text()
