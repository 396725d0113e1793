"""What is read, each with files to damage, how to damage them, and how they are read."""

import contextlib
import hashlib
import io
import json
import math
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import event_samples
import numpy as np
import onnx
import onnxruntime
import safetensors.numpy
import torch
import torch._dynamo  # an optimizer brings it at its first use, which takes seconds: before workers are forked
from containers import damage_hdf5, damage_npy, damage_safetensors, damage_zip
from mutators import damage_bytes, damage_json, damage_message, hostile_json
from torch import nn

import tet_deploy as td
from tet_deploy import onnx_file, part_files, testing
from tet_deploy.data.event_files import read_events
from tet_deploy.data.event_pipeline import EventPipeline
from tet_deploy.data.frames import load_frames
from tet_deploy.errors import ArtifactError
from tet_deploy.ir import artifact
from tet_deploy.ir.nodes import Spiking, from_record
from tet_deploy.ir.table import graph_rows
from tet_deploy.models import build
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.runtimes.loihi.bundle.loihi_checks import bundle, vectors
from tet_deploy.runtimes.loihi.bundle.loihi_checks.frames import check_frames
from tet_deploy.runtimes.loihi.bundle.loihi_checks.reading import Refused
from tet_deploy.runtimes.loihi.bundle.loihi_checks.vectors import Network
from tet_deploy.runtimes.loihi.plan import read_plan
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.training import ArrayFeed, Recipe, Settings, Stage, checkpoints, recipes, run, session, state_dicts
from tet_deploy.vectors import golden_vectors
from tet_deploy.work import Work

OLD = Path(__file__).resolve().parent.parent / "versions"
FRAMES = "frames.npy"  # in a bundle, where its README says to put them
ODD = event_samples.ODD  # begins the names of samples that may be refused as they are
Files = dict[str, bytes]  # name in a folder -> content


@dataclass(frozen=True)
class Target:
    """A kind of file: `samples` writes good and odd ones into a folder; `read` reads the file, or folder, of one."""

    name: str
    samples: Callable[[Path], None]
    damage: Callable[[Files, Random], Files]
    read: Callable[[Path], object]


def _old(folder: Path, pattern: str) -> None:
    for path in OLD.glob(f"v*/{pattern}"):
        shutil.copy(path, folder / f"{ODD}{path.parent.name}-{path.name}")


def _networks() -> dict[str, td.Graph]:
    rng = np.random.default_rng(0)
    return {
        "float": td.lower(testing.random_float_network(rng, layers=1)),
        "int8": testing.random_quantized_network(rng, layers=2),
        "wrap": testing.random_quantized_network(rng, layers=1, wrap=True),
    }


def write_networks(folder: Path) -> None:
    for name, graph in _networks().items():
        td.save(graph, folder / f"{name}.safetensors")
    for kind in ("float", "int8", "traced"):
        _old(folder, f"*.{kind}.safetensors")


def damage_network(content: bytes, rng: Random) -> bytes:
    return damage_safetensors(content, rng, _seal_network)


def _seal_network(header: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Digest and checksum of what the file says now; the digest only where it is a network."""
    own = json.loads(header["__metadata__"]["tet_deploy"])
    text = json.dumps(header).encode()
    tensors = safetensors.numpy.load(len(text).to_bytes(8, "little") + text + body)
    with contextlib.suppress(Exception):
        rest = dict(tensors)
        records = [artifact._record(node, rest) for node in own["nodes"]]
        own["digest"] = td.Graph(tuple(from_record(*record) for record in records), own["metadata"]).digest()
    if own.pop("checksum", None):
        own["checksum"] = artifact._checksum(own, tensors)
    return {**header, "__metadata__": {"tet_deploy": json.dumps(own)}}


def read_network(path: Path) -> object:
    graph = td.load(path)
    return repr(graph), graph_rows(graph)


def write_onnx(folder: Path) -> None:
    for name, graph in _networks().items():
        td.export(graph, folder / f"{name}.onnx", to="onnx")
    _old(folder, "*.onnx")


def damage_onnx(content: bytes, rng: Random) -> bytes:
    if rng.random() < 0.3:
        return damage_bytes(content, rng)
    model = onnx.ModelProto.FromString(content)
    for _ in range(rng.choice((1, 1, 2))):
        damage_message(model, rng)
    content = model.SerializeToString()
    with contextlib.suppress(ValueError):  # it has no seal any more
        content = onnx_file.sealed(content) if rng.random() < 0.9 else content
    return content


def read_onnx(path: Path) -> object:
    runtime = OnnxRuntime(path, threads=1)
    if math.prod(runtime.input_shape) > 10_000:
        return runtime  # the frames would be ours, not the file's
    return runtime.run(np.zeros((2, 1, *runtime.input_shape), np.float32), probes="none")


def write_bundles(folder: Path) -> None:
    for name, graph in _networks().items():
        if graph.is_quantized:
            td.export(graph, folder / name, to="lava", vectors=1)
            np.save(folder / name / FRAMES, np.zeros((2, 1, *graph.input.shape), np.float32))
    for path in OLD.glob("v*/*.lava.zip"):
        bundle_folder = folder / f"{ODD}{path.parent.name}-{path.stem}"
        shutil.unpack_archive(path, bundle_folder)
        np.save(bundle_folder / FRAMES, np.zeros((2, 1, 1, 8, 8), np.float32))


def damage_bundle(files: Files, rng: Random) -> Files:
    """One of its files, its plan most often; checksums put right as an attacker would."""
    name = rng.choice((bundle.PLAN, bundle.PLAN, bundle.PLAN, bundle.ARRAYS, bundle.ARRAYS, FRAMES, *files))
    content = files[name]
    if name == bundle.PLAN and rng.random() < 0.8:
        content = damage_json(content.decode(), rng).encode("utf-8", "surrogatepass")
    else:
        content = (damage_zip if name.endswith("z") else damage_npy if name == FRAMES else damage_bytes)(content, rng)
    files = {**files, name: content}
    with contextlib.suppress(Exception):  # nothing is left that could be sealed
        if rng.random() < 0.85:
            plan = json.loads(files[bundle.PLAN])
            plan["files"] |= {key: hashlib.sha256(files[key]).hexdigest() for key in {name} & plan["files"].keys()}
            files[bundle.PLAN] = json.dumps(bundle.with_checksum(plan)).encode()
    return files


def read_bundle(folder: Path) -> object:
    """As the host does, and as the bundle's own run.py does before it starts Lava."""
    with contextlib.suppress(ArtifactError):  # what the one refuses, the other must survive as well
        read_plan(folder)
    try:
        plan, _ = bundle.read_bundle(folder)
        if bundle.VECTORS in plan["files"]:
            bundle.bundle_vectors(folder, plan)
        return check_frames(folder / FRAMES, plan["input"])
    except Refused as error:
        raise ArtifactError(str(error)) from error


_GOLDEN = _networks()["int8"]
_VECTORS_FIT = Network(
    _GOLDEN.digest(),
    _GOLDEN.input.shape,
    {node.name: _GOLDEN.shapes[node.name] for node in _GOLDEN.of_kind(Spiking)},
    _GOLDEN.shapes[_GOLDEN.readout.name][0],
)


def damage_vectors(content: bytes, rng: Random) -> bytes:
    """A member, or what they say of themselves."""
    if rng.random() < 0.6:
        return damage_zip(content, rng)
    with np.load(io.BytesIO(content)) as arrays:
        members = dict(arrays)
    about = damage_json(members["about"].tobytes().decode(), rng).encode("utf-8", "surrogatepass")
    stream = io.BytesIO()
    np.savez(stream, **{**members, "about": np.frombuffer(about, np.uint8)})
    return stream.getvalue()


def write_vectors(folder: Path) -> None:
    (folder / "net.vectors.npz").write_bytes(golden_vectors(_GOLDEN, 2))


def read_vectors(path: Path) -> object:
    """As both sides do: vectors, and a recording that is compared with them; here with themselves."""
    try:
        golden = vectors.read_vectors(path, _VECTORS_FIT)
        return vectors.compare(golden, vectors.read_recording(path), str(path))
    except Refused as error:
        raise ArtifactError(str(error)) from error


def write_checkpoints(folder: Path) -> None:
    model = build("digits", seed=0, width=0.25)
    about = checkpoints.Description(
        model="digits", arguments={"width": 0.25}, shape=(1, 8, 8), encoding="analog", steps=2, seed=0, data="digits"
    )
    checkpoints.save_checkpoint(model, about, folder / "new.safetensors")
    _old(folder, "*.checkpoint.safetensors")


def read_checkpoint(path: Path) -> object:
    """As `convert` does, but for tracing again where only weights differ."""
    _, about = checkpoints.load_checkpoint(path)
    return td.load_checkpoint("digits", path) if about.model == "digits" and about.steps == 2 else session.traced(path)


def write_pth(folder: Path) -> None:
    """State dicts as torch writes them, and others of values that are seldom or never weights."""
    state = build("digits", seed=0, width=0.125).state_dict()
    weight = torch.arange(6.0)
    odd = {
        "view": {"x": weight[::2], "y": weight.expand(1000, 6), "z": nn.Parameter(weight.reshape(2, 3).T)},
        "kinds": {"a": weight.half(), "b": weight.bfloat16(), "c": torch.zeros((), dtype=torch.int64), "d": weight > 1},
        "rare": {"a": weight.to_sparse(), "b": torch.empty(9, device="meta"), "c": weight + 1j},
        "nested": {"epoch": 3, "state_dict": {"module.a": weight}, "optimizer": {"state": [1, 2.0, None, "x"]}},
    }
    torch.save(state, folder / "zip.pth")
    torch.save({"model": state, "epoch": 1}, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    for name, value in odd.items():
        torch.save(value, folder / f"{ODD}{name}.pth")


def damage_pth(content: bytes, rng: Random) -> bytes:
    zipped = zipfile.is_zipfile(io.BytesIO(content))
    return damage_zip(content, rng, damage_bytes) if zipped else damage_bytes(content, rng)


def read_pth(path: Path) -> object:
    return state_dicts.read_state_dict(path), td.load_checkpoint("digits", path)


RECIPE = Recipe(model="own", data="own", stages=(Stage(steps=2, epochs=2, learning_rate=1e-3, batch_size=8),), threads=1)


def _train(path: Path, *, resume: bool) -> object:
    torch.manual_seed(0)
    model = TimeMajor(nn.Linear(4, 6), nn.BatchNorm1d(6), LIF(), nn.Linear(6, 3))
    feed = ArrayFeed(np.random.default_rng(0).normal(size=(2, 8, 4)), np.arange(8) % 3, steps=2)
    return run(model, RECIPE, lambda stage: (feed, None), settings=Settings(state=path, resume=resume), about={"split": "a"})


def write_states(folder: Path) -> None:
    """Of a training before its last epoch, without the time that it took."""
    keep = folder / "new.safetensors"
    _train(keep, resume=False)
    content = keep.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    own = json.loads(header["__metadata__"]["tet_deploy_training"])
    first = own["position"]["history"][0] | {"seconds": 1.0, "samples_per_second": 8.0}
    own["position"] |= {"stage": 0, "epoch": 1, "history": [first], "seconds": 1.0, "epoch_seconds": 0.0}
    text = json.dumps(header | {"__metadata__": {"tet_deploy_training": json.dumps(own)}}).encode()
    keep.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def read_state(path: Path) -> object:
    session.choose(Settings(state=path, resume=True), changes={})
    return _train(path, resume=True)


def read_recording(path: Path) -> object:
    return EventPipeline(steps=3, sensor_size=(128, 128))(read_events(path), str(path))


def write_frames(folder: Path) -> None:
    frames = np.zeros((2, 3, 1, 4, 4), np.float32)
    np.savez(folder / "labelled.npz", frames=frames, labels=np.arange(3))
    np.save(folder / "alone.npy", frames)


def damage_frames(content: bytes, rng: Random) -> bytes:
    return damage_zip(content, rng) if content.startswith(b"PK") else damage_npy(content, rng)


def write_recipes(folder: Path) -> None:
    for path in (Path(td.__file__).parent.parent / "recipes").glob("*.toml"):
        shutil.copy(path, folder)


def damage_recipe(content: bytes, rng: Random) -> bytes:
    """TOML's values are much like JSON's."""
    if rng.random() < 0.3:
        return damage_bytes(content, rng)
    lines = content.decode().splitlines()
    number = rng.randrange(len(lines))
    lines[number] = f"{lines[number].partition('=')[0]} = {hostile_json(rng, [])}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _of_one_file(damage: Callable[[bytes, Random], bytes]) -> Callable[[Files, Random], Files]:
    return lambda files, rng: {name: damage(content, rng) for name, content in files.items()}


_EVENTS = [  # suffix, and the damage to files of that format
    (".aedat4", damage_bytes),
    (".aedat", damage_bytes),
    (".bin", damage_bytes),
    (".h5", damage_bytes),
    (".npy", damage_npy),
    (".npz", damage_zip),
]
# Older ones crash over some files that were damaged and sealed again, which nobody does by accident.
ONNX_RUNTIME_IS_FIT = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 31)


def write_parts(folder: Path) -> None:
    """Results of some samples, of each kind of work."""
    rng = np.random.default_rng(0)
    graph = testing.random_quantized_network(rng, layers=1, encoding="events")
    settings: dict[str, dict[str, Any]] = {
        "run": {"runtime": "reference"},
        "validate": {"runtimes": ["reference", "onnx"], "snap_frames": False},
        "energy": {"table": None},
        "curve": {"table": None},
    }
    with tempfile.TemporaryDirectory() as elsewhere:
        network = artifact.save(graph, Path(elsewhere) / "net.safetensors")
        labels = rng.integers(0, 2, 6)
        np.savez(Path(elsewhere) / "frames.npz", frames=testing.random_frames(graph, rng, 2, 6), labels=labels)
        for kind, chosen in settings.items():
            work = Work(kind=kind, network=str(network), frames=f"{elsewhere}/frames.npz", settings=chosen)
            part_files.write_part(work.opened().do(1, 4), folder / kind)


def damage_part(content: bytes, rng: Random) -> bytes:
    """Bytes, or values of its JSON."""
    if rng.random() < 0.2:
        return damage_bytes(content, rng)
    return damage_json(content.decode(), rng).encode("utf-8", "surrogatepass")


def damage_nir(content: bytes, rng: Random) -> bytes:
    """Bytes of the whole file, or one of its objects exchanged by HDF5 itself, so that readers look further."""
    return damage_bytes(content, rng) if rng.random() < 0.5 else damage_hdf5(content, rng)


def write_nir(folder: Path) -> None:
    """As exporters wrote them; which source is said does not matter to what can go wrong."""
    for path in NIR.glob("*.nir"):
        if path.stat().st_size < 40_000:
            shutil.copy(path, folder / (path.name if path.name.startswith(tuple(_NIR_SAID)) else f"{ODD}{path.name}"))


def read_nir(path: Path) -> object:
    said = next((said for name, said in _NIR_SAID.items() if path.name.startswith(name)), {"source": "nir"})
    return repr(td.load_nir(path, **said))


NIR = Path(__file__).resolve().parent.parent / "importing" / "nir_files"
_NIR_SAID = {
    "norse": {"source": "norse"},
    "public_lif_norse": {"source": "nir", "reset": "zero"},
    "public_lif_rockpool": {"source": "rockpool", "reset": "zero"},
}
TARGETS = {
    target.name: target
    for target in (
        Target("network", write_networks, _of_one_file(damage_network), read_network),
        Target("onnx", write_onnx, _of_one_file(damage_onnx), read_onnx),
        Target("bundle", write_bundles, damage_bundle, read_bundle),
        Target("vectors", write_vectors, _of_one_file(damage_vectors), read_vectors),
        Target("checkpoint", write_checkpoints, _of_one_file(damage_safetensors), read_checkpoint),
        Target("pth", write_pth, _of_one_file(damage_pth), read_pth),
        Target("state", write_states, _of_one_file(damage_safetensors), read_state),
        Target("recipe", write_recipes, _of_one_file(damage_recipe), recipes.load_recipe),
        Target("nir", write_nir, _of_one_file(damage_nir), read_nir),
        Target("part", write_parts, _of_one_file(damage_part), part_files.read_part),
        Target("frames", write_frames, _of_one_file(damage_frames), load_frames),
        *(
            Target(f"events{suffix}", event_samples.WRITERS[suffix], _of_one_file(damage), read_recording)
            for suffix, damage in _EVENTS
        ),
    )
}
