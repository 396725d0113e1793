"""Links from files and folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tet_deploy import file_kinds
from tet_deploy.errors import ArgumentError, ArtifactError
from tet_deploy.ir.artifact import load
from tet_deploy.links.link import TAKEN, Link, at_hand, of_graph, of_model, of_recording
from tet_deploy.links.recording_file import RECORDING, load_recording
from tet_deploy.units import MANTISSA, READOUT, ByChannel, by_channel

_CHECKPOINT_FORMS = ("traced", "folded")


def of_path(text: str) -> Link:
    """The link at a path, perhaps with a form behind a colon; see the top of `link`."""
    path, form = Path(text), ""
    if not path.exists():
        before, colon, after = text.rpartition(":")
        path, form = (Path(before), after) if colon and Path(before).exists() else (path, "")
    opener = _opener(path)
    if form and opener not in (_checkpoint, _network):
        raise ArgumentError(f"{text}: {path} has no forms; only checkpoints and networks have. {TAKEN}")
    return opener(path, text, form)


def _opener(path: Path) -> Callable[[Path, str, str], Link]:
    if (path / "plan.json").is_file() and (path / "run.py").is_file():
        return _bundle
    if path.is_file():
        if RECORDING.test(path):
            return _recording
        for kind, opener in ((file_kinds.NETWORK, _network), (file_kinds.CHECKPOINT, _checkpoint), (file_kinds.ONNX, _onnx)):
            if kind.test(path):
                return opener
        found = next(
            (f"{kind.name}. {kind.way_out}" for kind in file_kinds.KINDS if kind.test(path)), "nothing that is known."
        )
        raise ArtifactError(f"{path}: must be a link of the chain; it is {found} {TAKEN}")
    raise ArtifactError(f"{path}: no such file. {TAKEN}")


def _network(path: Path, name: str, form: str) -> Link:
    return of_graph(load(path), form or "reference", name=name)


def _checkpoint(path: Path, name: str, form: str) -> Link:
    from tet_deploy.passes import fold
    from tet_deploy.training import session
    from tet_deploy.training.checkpoints import load_checkpoint

    if form and form not in _CHECKPOINT_FORMS:
        raise ArgumentError(f"{name}: a checkpoint has the forms {', '.join(_CHECKPOINT_FORMS)}; got {form!r}.")
    if form:
        graph = session.traced(path)
        return of_graph(graph if form == "traced" else fold(graph), name=name)
    model, about = load_checkpoint(path)
    return of_model(model, tuple(about.shape), about.encoding, name=name, metadata=session.metadata_of(about))


def of_checkpoint(path: Path) -> Link:
    """A checkpoint, run by torch, and whatever else lies there an error as of `load_checkpoint`."""
    return _checkpoint(path, str(path), "")


def of_nir(
    path: Path,
    source: str | None = None,
    reset: str | None = None,
    dt: float | None = None,
    encoding: str | None = None,
) -> Link:
    """The network of a NIR file, on the reference; see `load_nir`."""
    from tet_deploy.importing.nir.load import load_nir

    return of_graph(load_nir(path, source, reset, dt, encoding), name=str(path))


def _onnx(path: Path, name: str, form: str) -> Link:
    from tet_deploy.onnx_file import READOUT as OUTPUT
    from tet_deploy.onnx_file import output_of
    from tet_deploy.runtimes.onnx_session import OnnxRuntime

    runtime = OnnxRuntime(path)
    carried = {
        what: [each for each in runtime.populations if output_of(each, what) in runtime.shapes]
        for what in ("spikes", "potentials")
    }
    every = len(runtime.populations)
    records = "all" if len(carried["potentials"]) == every else "spikes" if len(carried["spikes"]) == every else "none"
    return Link(
        name=name,
        digest=runtime.digest,
        shape=tuple(runtime.input_shape),
        encoding=runtime.encoding,
        classes=runtime.shapes[OUTPUT][0],
        populations={each: runtime.shapes[output_of(each, "spikes")] for each in carried["spikes"]},
        units=_units_said(path, runtime.populations, runtime.metadata if runtime.is_quantized else None),
        thresholds={},
        records=records,
        metadata=runtime.metadata,
        opens=at_hand(runtime),
    )


def _bundle(path: Path, name: str, form: str) -> Link:
    from tet_deploy.runtimes.loihi.session import LavaRuntime

    runtime = LavaRuntime(path)
    plan = runtime.plan
    factors = _units_said(path, tuple(plan.populations), plan.metadata)
    return Link(
        name=name,
        digest=plan.digest,
        shape=plan.input_shape,
        encoding=plan.encoding,
        classes=plan.classes,
        populations=plan.populations,
        units=factors,
        thresholds={
            each: by_channel(np.asarray(mantissa) * MANTISSA / np.asarray(factors[each]))
            for each, mantissa in plan.thresholds.items()
        },
        metadata=plan.metadata,
        opens=at_hand(runtime),
    )


def _recording(path: Path, name: str, form: str) -> Link:
    return of_recording(load_recording(path), name)


def _units_said(path: Path, names: tuple[str, ...], metadata: Mapping[str, str] | None) -> dict[str, ByChannel]:
    """Units of integers, as the metadata of what was exported says; 1 of floats, which have none."""
    if metadata is None:
        return dict.fromkeys((*names, READOUT), 1.0)
    try:
        said = json.loads(metadata.get("quantization", "{}"))
        found = {name: by_channel(MANTISSA * np.asarray(said[name]["scale"], np.float64)) for name in (*names, READOUT)}
        if all(np.all((np.asarray(factor) > 0) & np.isfinite(factor)) for factor in found.values()):
            return found
    except (ValueError, TypeError, KeyError):
        pass
    raise ArtifactError(
        f"{path}: does not say what its integers stand for, so that it can be compared with nothing. Take the network that "
        "it was exported from, or export one that td.quantize made."
    )
