"""Does an exported file give its golden vectors: every spike, membrane potential and readout, at every step?"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tet_deploy import file_kinds
from tet_deploy.contracts import Probes, Progress, Recording, Runtime, populations
from tet_deploy.errors import ArgumentError, ArtifactError, shown
from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import bundle_vectors, read_bundle
from tet_deploy.runtimes.loihi.bundle.loihi_checks.reading import Refused
from tet_deploy.runtimes.loihi.bundle.loihi_checks.vectors import Comparison, Network, Vectors, compare, read_vectors
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.vectors import vectors_path


class Checked(NamedTuple):
    """How a file on one runtime compares with its vectors."""

    runtime: str
    vectors: Vectors
    comparison: Comparison

    def __str__(self) -> str:
        return "\n".join(self.comparison.lines(self.vectors, f"runtime {self.runtime}"))


class _File(NamedTuple):
    """A network in a file: what its vectors must fit, its runtimes, and what makes one that records what it can."""

    network: Network
    runtimes: tuple[str, ...]
    opened: Callable[[str], AbstractContextManager[Runtime]]
    probes: Probes = "all"


class Check(NamedTuple):
    """A file on one runtime and its vectors, read and not yet run."""

    file: _File
    runtime: str
    vectors: Vectors

    def run(self, progress: Progress | None = None) -> Checked:
        """Run the vectors and compare every value."""
        with self.file.opened(self.runtime) as runtime:
            found = _recorded(runtime.run(self.vectors.frames, probes=self.file.probes, progress=progress))
        try:
            return Checked(self.runtime, self.vectors, compare(self.vectors, found, f"what {self.runtime} recorded"))
        except Refused as error:
            raise ArtifactError(str(error)) from error


def opened_vectors(
    path: str | os.PathLike[str], vectors: str | os.PathLike[str] | None = None, *, runtime: str | None = None
) -> Check:
    """A file's golden vectors, and what runs them.

    Parameters
    ----------
    path
        A Lava bundle, an ONNX file or a NIR file that was exported with vectors.
    vectors
        Where they are; by default inside the bundle, or beside the file as net.onnx.vectors.npz.
    runtime
        "lava" or "lava-numpy" of a bundle, "onnx" of an ONNX file, "reference" of a NIR file; by default the first.

    Raises
    ------
    ArtifactError
        No such file or vectors, damaged ones, or vectors of another network.
    ArgumentError
        A runtime that does not run this file.

    Examples
    --------
    >>> print(opened_vectors("net.lava", runtime="lava-numpy").run())  # doctest: +SKIP
    """
    path = Path(path)
    file = _file(path)
    chosen = file.runtimes[0] if runtime is None else runtime
    if chosen not in file.runtimes:
        raise ArgumentError(f"runtime {shown(chosen)}: does not run {path}. Use {' or '.join(file.runtimes)}.")
    try:
        if vectors is None and path.is_dir():
            return Check(file, chosen, bundle_vectors(path, read_bundle(path)[0]))
        return Check(file, chosen, read_vectors(vectors_path(path) if vectors is None else Path(vectors), file.network))
    except Refused as error:
        raise ArtifactError(str(error)) from error


def _recorded(recording: Recording) -> dict[str, np.ndarray]:
    """Arrays by their names in a recording of run.py."""
    spikes = {f"spikes/{name}": array for name, array in recording.spikes.items()}
    potentials = {f"potentials/{name}": array for name, array in recording.potentials.items()}
    return {**spikes, **potentials, "readout": recording.readout}


def _file(path: Path) -> _File:
    if (path / "plan.json").is_file():
        return _bundle(path)
    for kind, of in ((file_kinds.ONNX, _onnx), (file_kinds.HDF5, _nir)):
        if path.is_file() and kind.test(path):
            return of(path)
    found = "has no vectors" if path.exists() else "no such file"
    raise ArtifactError(f"{path}: {found}. Give a Lava bundle, an ONNX file or a NIR file.")


def _bundle(path: Path) -> _File:
    from tet_deploy.runtimes.loihi.plan import read_plan
    from tet_deploy.runtimes.loihi.session import LavaNumpyRuntime, LavaRuntime

    plan = read_plan(path)
    engines: dict[str, Callable[[Path], Runtime]] = {"lava": LavaRuntime, "lava-numpy": LavaNumpyRuntime}
    network = Network(plan.digest, plan.input_shape, plan.populations, plan.classes)
    return _File(network, tuple(engines), lambda name: nullcontext(engines[name](path)))


def _onnx(path: Path) -> _File:
    from tet_deploy.onnx_file import READOUT, output_of
    from tet_deploy.runtimes.onnx_session import OnnxRuntime

    runtime = OnnxRuntime(path)
    network = Network(runtime.digest, runtime.input_shape, runtime.population_shapes, runtime.shapes[READOUT][0])
    both = [name for name in runtime.populations if output_of(name, "potentials") in runtime.shapes]
    spikes = all(output_of(name, "spikes") in runtime.shapes for name in runtime.populations)
    return _File(network, ("onnx",), lambda name: nullcontext(runtime), both or ("spikes" if spikes else "none"))


def _nir(path: Path) -> _File:
    from tet_deploy.importing.nir.load import exported_digest, load_nir

    graph, digest = load_nir(path), exported_digest(path)
    if digest is None:
        raise ArtifactError(
            f"{path}: was not written by tet_deploy, so that it has no vectors. Load it, and export it with some."
        )
    shapes = {name: graph.shapes[name] for name in populations(graph)}
    network = Network(digest, graph.input.shape, shapes, graph.shapes[graph.readout.name][0])
    return _File(network, ("reference",), lambda name: nullcontext(ReferenceRuntime(graph)))
