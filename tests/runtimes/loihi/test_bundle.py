import io
import json
import os
import shutil
import tracemalloc
import zipfile

import numpy as np
import pytest

from tet_deploy.errors import ArtifactError
from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import checksum, read_bundle
from tet_deploy.runtimes.loihi.bundle.loihi_checks.reading import Refused
from tet_deploy.runtimes.loihi.plan import read_plan


def refused(bundle) -> str:
    """What both readers say: the host's, and the one that run.py calls."""
    with pytest.raises(ArtifactError) as by_host:
        read_plan(bundle)
    with pytest.raises(Refused) as by_bundle:
        read_bundle(bundle)
    said = str(by_host.value)
    assert str(by_bundle.value) == said
    assert len(said.splitlines()) == 1
    assert len(said.replace(str(bundle), "")) < 400
    return said


def put(*keys_and_value):
    """A change of the plan: put("nodes", 1, "decay", 100)."""
    *keys, last, value = keys_and_value

    def change(plan):
        for key in keys:
            plan = plan[key]
        plan[last] = plan[last] + 50 if value == "+50" else value

    return change


def edit(bundle, change):
    plan = json.loads((bundle / "plan.json").read_text())
    change(plan)
    (bundle / "plan.json").write_text(json.dumps(plan))


def test_a_good_bundle_is_read(a_bundle):
    """Its plan, its arrays, and what the host has to know."""
    plan, arrays = read_bundle(a_bundle)
    host = read_plan(a_bundle)
    assert host.digest == plan["digest"]
    assert host.populations == {node["name"]: tuple(node["shape"]) for node in plan["nodes"] if node["kind"] == "lif"}
    assert {node["weight"] for node in plan["nodes"] if "weight" in node} <= arrays.keys()


@pytest.mark.parametrize(
    "change",
    [
        put("nodes", 1, "decay", "+50"),
        put("nodes", 1, "decay", 100),
        put("nodes", 1, "name", "other"),
        put("input", "bits", 7),
        put("input", "scale", 1.0000000000000002),
        put("metadata", {"accuracy": "100 %"}),
        put("digest", "0" * 64),
        put("note", "mine"),
        put("files", {}),
        put("checksum", "0" * 64),
        put("checksum", None),
        lambda plan: plan.pop("checksum"),
    ],
)
def test_any_change_of_the_plan_is_noticed(a_bundle, change):
    """Whatever plan.json says is under its checksum, numbers that would run included."""
    edit(a_bundle, change)
    assert "plan.json: is not as it was exported: its checksum differs. Export the network again." in refused(a_bundle)


def test_how_the_plan_is_laid_out_does_not_matter(a_bundle):
    """Spaces, line ends and the order of keys are not under the checksum."""
    plan = json.loads((a_bundle / "plan.json").read_text())
    turned = {key: plan[key] for key in reversed(plan)}
    (a_bundle / "plan.json").write_text(json.dumps(turned, separators=(",", ":")) + "\r\n")
    assert read_bundle(a_bundle)[0] == plan


@pytest.mark.parametrize("name", ["arrays.npz", "run.py", "network.py", "supervision.py", "loihi_models/frames.py"])
def test_any_change_of_a_file_is_noticed(a_bundle, name):
    """One bit in the arrays or in the program; a missing file is named too. The README may be written in."""
    path = a_bundle / name
    content = path.read_bytes()
    path.write_bytes(content[:-30] + bytes([content[-30] ^ 1]) + content[-29:])
    assert f"{name}: is not the file that was exported. Move it away and export the network again." in refused(a_bundle)
    path.unlink()
    assert f"{name}: cannot be opened: No such file or directory. Export the network again." in refused(a_bundle)
    path.write_bytes(content)
    (a_bundle / "README.md").write_text("mine")
    read_plan(a_bundle)


CONV, POPULATION = ("nodes", 0), ("nodes", 1)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (put("version", 3), "is of version 3; needs"),
        (put("version", "2"), "its checksum differs"),
        (put("version", True), "its checksum differs"),
        (put("format", "other"), "does not say format"),
        (put("unfinished", {"run.py": ["0"], "arrays.npz": ["0"]}), "was cut short"),
        (put("input", "bits", 0), "input: bits must be a whole number within 2..24; got 0"),
        (put("input", "bits", 8.0), "got 8.0"),
        (put("input", "bits", True), "got True"),
        (put("input", "scale", -1.0), "input scale must be a positive number"),
        (put("input", "scale", 1e39), "input scale must be a positive number"),
        (put("input", "scale", None), "input scale must be a positive number"),
        (put("input", "encoding", "video"), "input encoding must be"),
        (put("input", "shape", [2, 10**12, -1]), "input: shape must be"),
        (put("input", "shape", "none"), "input: shape must be"),
        (put("input", "shape", [1, 1, 1]), "inputs must be 1 as before it"),
        (put("input", None), "input must be an object of"),
        (put("input", ["bits", "encoding", "name", "scale", "shape"]), "input must be an object of"),
        (put("nodes", None), "nodes must be a list"),
        (put("nodes", []), "nodes must be a list"),
        (put("nodes", [{}]), "node 1 must be an object of kind conv, dense, sum, lif"),
        (put("digest", 7), "digest must be a text"),
        (put(*POPULATION, "threshold", 2**17), "threshold must be a whole number within 1..131071; got 131072"),
        (put(*POPULATION, "threshold", "none"), "array must be the name of"),
        (put(*POPULATION, "threshold", "layer0.conv.weight"), "array must be the name of"),
        (put(*POPULATION, "decay", 4096), "decay must be a whole number within 0..4095; got 4096"),
        (put(*POPULATION, "current_decay", 0), "current_decay must be a whole number within 1..4096; got 0"),
        (put(*POPULATION, "current_decay", None), "current_decay must be a whole number within 1..4096; got None"),
        (put(*POPULATION, "bias_exponent", 8), "bias_exponent must be a whole number within 0..7; got 8"),
        (put(*POPULATION, "bias", "none"), "array must be the name of"),
        (put(*POPULATION, "shape", [1, 2, 3]), "as 'layer0.conv' sends"),
        (put(*POPULATION, "name", "a\nb"), "printable"),
        (put(*POPULATION, "name", "\ud800"), "printable"),
        (put(*POPULATION, "name", "../a"), "named without '/'"),
        (put(*POPULATION, "name", "x" * 221), "printable"),
        (put(*POPULATION, "name", "layer0.conv"), "of a name of its own"),
        (put(*POPULATION, "sources", []), "sources must be names of nodes before it"),
        (put(*POPULATION, "sources", ["input"]), "sources must be synapses"),
        (put(*POPULATION, "sources", ["layer0.conv", "layer1.conv"]), "sources must be names of nodes before it"),
        (put(*POPULATION, "latency", 2), "latency must be 2 along every branch; got [1]"),
        (put(*CONV, "latency", 0), "latency must be 0 along every branch; got [1]"),
        (put(*CONV, "source", "layer0.lif"), "sources must be names of nodes before it"),
        (put("readout", "sources", ["layer0.lif"]), "sources must be synapses"),
        (put("readout", "latency", 7), "latency must be 7 along every branch"),
        (put(*POPULATION, "reset", "subtract"), "must be an object of"),
        (put("nodes", 1, None), "node 2 must be an object of kind"),
        (put(*CONV, "kind", "sparse"), "must be an object of kind"),
        (put(*CONV, "message_bits", 0), "message_bits must be"),
        (put(*CONV, "groups", 0), "groups must be"),
        (put(*CONV, "groups", 100), "channels of the kernel"),
        (put(*CONV, "padding", [128, 0]), "padding must be two whole numbers within 0..127"),
        (put(*CONV, "stride", [0, 1]), "stride must be two whole numbers within 1..127"),
        (put(*CONV, "stride", 1), "stride must be two whole numbers"),
        (put(*CONV, "dilation", [127, 127]), "outputs must be"),
        (put(*CONV, "weight", {}), "array must be the name of"),
        (put(*CONV, "weight", "fc.weight"), "array must be the name of"),
        (put(*CONV, "flat_output", 0), "flat_output must be true or false"),
        (put("readout", "shape", [3, 4, 5]), "as 'fc' sends; got (3, 4, 5)"),
        (put("readout", "bias", None), "without arrays that nothing uses"),
    ],
)
def test_every_number_is_within_its_range(a_bundle, reseal, change, complaint):
    """A plan whose checksum is right may still say what no Loihi core holds, or what does not fit together."""
    assert complaint in refused(reseal(a_bundle, change))


def arrays_of(bundle) -> dict[str, np.ndarray]:
    with np.load(bundle / "arrays.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("layer0.conv.weight", lambda array: array.astype(np.int16), "weights must be int8"),
        ("layer0.conv.weight", lambda array: np.full_like(array, -128), "weights must be int8 within -127..127"),
        ("layer0.conv.weight", lambda array: array[..., :0], "array must be the name of"),
        ("layer0.conv.weight", lambda array: np.concatenate([array, array], axis=3), "channels of the kernel"),
        ("fc.weight", lambda array: array[:, 1:], "inputs must be"),
        ("fc.weight", lambda array: array[0], "of 2 axes"),
        ("layer0.lif.bias", lambda array: array + 5000, "integers of 13 bit"),
        ("layer0.lif.bias", lambda array: array.astype(float), "integers of 13 bit; got 'float64"),
        ("layer0.lif.bias", lambda array: array[:-1], "integers of 13 bit"),
        ("layer0.lif.threshold", lambda array: array * 0, "int32 within 1..131071"),
        ("layer0.lif.threshold", lambda array: array + 2**17, "int32 within 1..131071"),
        ("layer0.lif.threshold", lambda array: array.astype(np.int64), "int32 within 1..131071; got 'int64'"),
        ("layer0.lif.threshold", lambda array: array[1:], "int32 within 1..131071"),
        ("readout.bias", lambda array: array.astype(np.uint32), "integers; got 'uint32"),
    ],
)
def test_every_array_fits_the_plan(a_bundle, reseal, name, change, complaint):
    """Types, shapes and ranges of weights and biases; Lava would drop channels or wrap silently."""
    arrays = arrays_of(a_bundle)
    np.savez(a_bundle / "arrays.npz", **{**arrays, name: change(arrays[name])})
    assert complaint in refused(reseal(a_bundle))


TEXTS = {
    "empty": (b"", "is no JSON"),
    "cut": (b"{", "is no JSON"),
    "no text": (b"\xff\xfe", "is no JSON"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "is no JSON"),
    "nested": (b"[" * 100_000, "is no JSON"),
    "nested inside": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "is no JSON"),
    "a key twice": (b'{"format": "tet_deploy lava bundle", "format": "other"}', "a key stands twice"),
    "NaN": (b'{"format": "tet_deploy lava bundle", "scale": NaN}', "NaN is no number"),
    "infinite": (b'{"format": "tet_deploy lava bundle", "scale": 1e999}', "is no JSON"),
    "a long integer": (b'{"scale": ' + b"9" * 10**6 + b"}", "a number has 1000000 digits"),
    "a list": (b"[]", "does not say format"),
    "another format": (b'{"format": "' + b"x" * 200_000 + b'"}', "does not say format"),
    "another version": (
        b'{"format": "tet_deploy lava bundle", "version": "' + b"x" * 200_000 + b'"}',
        "its checksum differs",
    ),
    "too large": (b" " * (2**24 + 1), "must have 16,777,216 bytes at most"),
}


@pytest.mark.parametrize(("text", "complaint"), TEXTS.values(), ids=TEXTS)
def test_whatever_plan_json_holds_the_error_is_short(a_bundle, text, complaint):
    """Texts that are no JSON, or none of ours, in a line that does not repeat them."""
    (a_bundle / "plan.json").write_bytes(text)
    assert complaint in refused(a_bundle)


@pytest.mark.parametrize(
    "files", [None, [], {"run.py": "0"}, {"run.py": 1, "arrays.npz": "0"}, {"run.py": [], "arrays.npz": []}]
)
def test_the_list_of_files_is_checked(a_bundle, files):
    """It holds names and digests, the arrays and the program among them."""
    seal(a_bundle, files)
    assert "must list the files of its folder" in refused(a_bundle)


@pytest.mark.parametrize("name", ["../run.py", "/etc/passwd", "a//b", "./a", "a/..", "", "a\\b", "a\0b", "C:a"])
def test_the_list_of_files_does_not_lead_out_of_the_folder(a_bundle, name):
    """Nothing outside is read, and nothing outside would be removed by exporting again."""
    seal(a_bundle, {"run.py": "0", "arrays.npz": "0", name: "0"})
    assert "must list the files of its folder" in refused(a_bundle)


def seal(bundle, files):
    """A right checksum over a wrong list of files."""

    def change(plan):
        plan["files"] = files
        plan["checksum"] = checksum(plan)

    edit(bundle, change)


@pytest.mark.parametrize("name", ["plan.json", "arrays.npz", "run.py"])
@pytest.mark.parametrize("kind", ["FIFO", "device", "folder", "link to nothing", "link to itself"])
def test_what_is_no_file_is_refused_at_once(a_bundle, name, kind):
    """A FIFO would keep us waiting and /dev/zero would never end."""
    path = a_bundle / name
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "link to nothing": "nothing", "link to itself": name}[kind])
    assert f"{name}: " in refused(a_bundle)


def test_links_to_files_are_read(a_bundle, tmp_path):
    """A bundle may be put together of links."""
    for name in ("arrays.npz", "plan.json"):
        (a_bundle / name).rename(tmp_path / name)
        (a_bundle / name).symlink_to(tmp_path / name)
    read_plan(a_bundle)


def npy(array, **claims) -> bytes:
    """A .npy file whose header may claim something else."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {**np.lib.format.header_data_from_array_1_0(array), **claims})
    return stream.getvalue() + array.tobytes()


def zipped(*members, compression=zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def overlapping() -> bytes:
    """Many members that are one and the same piece of the file, each as large as all of it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a0.npy", npy(np.zeros(2**20, np.int8)))
        archive.filelist += [_named(archive.filelist[0], f"a{index}.npy") for index in range(1, 5000)]
        archive._didModify = True
    return stream.getvalue()


def _named(member, name):
    copied = zipfile.ZipInfo(name)
    for field in ("CRC", "compress_size", "file_size", "header_offset"):
        setattr(copied, field, getattr(member, field))
    return copied


FEW = np.arange(4, dtype=np.int8)
ARRAYS = {
    "no zip file": (b"PK", "cannot be read"),
    "a claimed shape": (lambda: zipped(("a.npy", npy(FEW, shape=(10**9, 10**9)))), "an array claims 1000000000000000"),
    "a negative shape": (lambda: zipped(("a.npy", npy(FEW, shape=(-2, -2)))), "it must hold numbers"),
    "a shape of one's own": (lambda: zipped(("a.npy", npy(FEW, shape="x" * 9000))), "is no .npy file"),
    "objects": (lambda: zipped(("a.npy", npy(FEW, descr="|O"))), "it must hold numbers"),
    "records": (lambda: zipped(("a.npy", npy(FEW, descr=[("x" * 4000, "i1")]))), "it must hold numbers"),
    "a pickle": (lambda: zipped(("a.npy", b"\x80\x04]\x94.")), "it is no .npy file"),
    "a nested header": (lambda: zipped(("a.npy", b"\x93NUMPY\x01\x00\xff\x24" + b"-" * 9470 + b"\n")), "it is no .npy file"),
    "a header without end": (lambda: zipped(("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{")), "it is no .npy file"),
    "a bomb": (lambda: zipped(("a.npy", bytes(2**26)), compression=zipfile.ZIP_DEFLATED), "larger than the whole"),
    "compressed": (lambda: zipped(("a.npy", os.urandom(100)), compression=zipfile.ZIP_LZMA), "it is compressed"),
    "an array twice": (lambda: zipped(("a.npy", npy(FEW)), ("a", npy(FEW))), "an array twice"),
    "overlapping members": (overlapping, "larger than the whole"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("content", "complaint"), ARRAYS.values(), ids=ARRAYS)
def test_whatever_arrays_npz_claims_memory_stays_small(a_bundle, reseal, content, complaint):
    """No more memory than the file has bytes, whatever its headers say, and a short error."""
    (a_bundle / "arrays.npz").write_bytes(content() if callable(content) else content)
    reseal(a_bundle)
    tracemalloc.start()
    assert complaint in refused(a_bundle)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


def test_version_1_is_refused_by_its_version(tmp_path, request):
    """Bundles of tet_deploy 0.1 have no checksum and no sources; their own program still runs them."""
    bundle = tmp_path / "net.lava"
    shutil.unpack_archive(request.config.rootpath / "tests" / "versions" / "v0_1" / "events.int8.lava.zip", bundle)
    assert "is of version 1; needs 2. Run its own run.py, or export the network again." in refused(bundle)
