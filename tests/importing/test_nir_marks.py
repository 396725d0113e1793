"""A NIR file is read as the framework that wrote it runs it, or not at all: who is said to have written it must fit."""

import itertools
import warnings
from pathlib import Path

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.errors import GraphError, TetDeployWarning
from tet_deploy.importing.nir.sources import SOURCES
from tet_deploy.testing import random_float_network

h5py = pytest.importorskip("h5py", reason="reads NIR files")
HERE = Path(__file__).with_name("nir_files")
WRITTEN = {  # file -> who wrote it
    **{path.stem: "spikingjelly" for path in HERE.glob("spikingjelly_*.nir")},
    **{path.stem: "snntorch" for path in HERE.glob("snntorch_*.nir")},
    "norse_lifbox": "norse",
    "public_lif_rockpool": "rockpool",
}


@pytest.mark.parametrize(
    ("name", "source"), [pair for pair in itertools.product(WRITTEN, SOURCES) if WRITTEN[pair[0]] != pair[1] != "nir"]
)
def test_a_file_is_not_read_as_another_frameworks(name, source):
    """Whatever is said of its reset and of its step, the error names what was found, and whose it is."""
    for reset, dt in ((None, None), ("zero", 1.0), ("subtract", 1e-3)):
        with pytest.raises(GraphError, match=rf"source '{source}' did not write it; .*'{WRITTEN[name]}': .* Say source="):
            td.load_nir(HERE / f"{name}.nir", source=source, reset=reset, dt=dt)


@pytest.mark.parametrize("name", WRITTEN)
def test_reading_it_as_nirs_text_has_it_is_warned_of(name):
    """Which may be meant; of the framework's own source nothing is said."""
    with pytest.warns(TetDeployWarning, match=f"marks of this file are those of '{WRITTEN[name]}'"):
        try:
            td.load_nir(HERE / f"{name}.nir", source="nir", reset="zero", dt=1e-6 if name == "norse_lifbox" else None)
        except GraphError as error:
            assert name in ("spikingjelly_v_reset", "spikingjelly_cuba", "snntorch_cuba_zero", "norse_lifbox"), error
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        td.load_nir(HERE / f"{name}.nir", source=WRITTEN[name], reset=None if "spikingjelly" in name else "zero")


def test_our_own_files_say_so_themselves(tmp_path):
    """No source need be said; another is refused, but for NIR's text, in which they are meant to be read."""
    graph = random_float_network(np.random.default_rng(0))
    path = td.export(graph, tmp_path / "net.nir", to="nir")
    frames = np.random.default_rng(1).integers(0, 3, (4, 2, *graph.input.shape)).astype(np.float32)
    assert td.load_nir(path).digest() == td.load_nir(path, source="tet_deploy").digest()
    assert td.compare(graph, td.load_nir(path), frames).differing == 0
    for source in sorted(SOURCES.keys() - {"tet_deploy", "nir"}):
        with pytest.raises(GraphError, match=f"source '{source}' did not write it; .*'tet_deploy': its metadata say"):
            td.load_nir(path, source=source, reset="zero")
    with pytest.raises(GraphError, match=r"dt = 0\.001 seconds were said, and its metadata say 0.0001"):
        td.load_nir(path, dt=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        td.load_nir(path, source="nir")


def test_they_are_known_where_other_readers_have_written_them_again(tmp_path):
    """Attributes of the file are lost there; metadata of the neurons are not."""
    path = td.export(random_float_network(np.random.default_rng(0)), tmp_path / "net.nir", to="nir")
    expected = td.load_nir(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["producer"], file["node/metadata/graph_digest"]
    assert td.load_nir(path).digest() == expected.digest()


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        ("spikingjelly", {"v_reset": None}, "node 'n1': it has no v_reset, which 'spikingjelly' never writes"),
        ("spikingjelly", {"r": np.float32(1), "tau": 2e-4}, "node 'n1': its r is float32, and not float64"),
        ("rockpool", {"r": np.float32(1)}, "node 'n1': it has a v_reset, as NIR has since 1.0.6, which 'rockpool' never"),
    ],
)
def test_what_a_source_always_writes_must_be_there(source, changes, message, files):
    """Also where the file has the marks of no framework that is known, as sinabs' have not."""
    path = files.write(files.chain(files.linear(), files.lif(3, **changes), first="x"))
    with pytest.raises(GraphError, match=message):
        td.load_nir(path, source=source, reset="zero")


def test_networks_without_neurons_are_anyones(files):
    """There is nothing that sources differ in."""
    path = files.write(files.chain(files.linear()))
    assert {td.load_nir(path, source=source).digest() for source in SOURCES if source != "tet_deploy"}
