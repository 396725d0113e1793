import numpy as np

from tet_deploy.reporting import origin, provenance
from tet_deploy.testing import random_quantized_network


def test_metadata_take_no_place_of_what_is_known():
    """When, by what and of which network a report was made is never what a file says; long and odd texts are cut."""
    foreign = dict.fromkeys(("made", "version", "network", "command"), "false")
    graph = random_quantized_network(np.random.default_rng(0))
    found = provenance(graph.with_metadata(**foreign | {"data": "x" * 999, "recipe": "{}", "a\u202e": "b"}))
    assert (found.pop("network"), found.pop("version")) == (graph.digest(), origin()["version"])
    assert found.pop("made").endswith(" UTC")
    assert found == {"data": "x" * 197 + "...", "a\\u202e": "b"}
