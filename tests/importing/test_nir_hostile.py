"""Files that are no NIR networks, or only pretend to be: refused in a line, soon, and without the memory they claim."""

import io
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.errors import TetDeployError

h5py = pytest.importorskip("h5py", reason="writes hostile HDF5 files")
SECONDS = 10
MEGABYTES = 600  # of data, for an interpreter with numpy and h5py


def put(name, make):
    """A network in which something stands in the place of the first layer's `name`."""

    def write(files, path):
        with h5py.File(path, "a") as file:
            node = file["node/nodes/n0"]
            if name in node:
                del node[name]
            made = make(node)
            if made is not None:
                node[name] = made

    return write


def dataset(**options):
    return put("weight", lambda node: node.create_dataset("weight", **options) and None)


def virtual(node):
    layout = h5py.VirtualLayout(shape=(3, 4), dtype="f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "w", shape=(3, 4))
    node.create_virtual_dataset("weight", layout)


def burst(node):
    """Ten numbers in the header, fifty megabytes in the packed part."""
    made = node.create_dataset("weight", shape=(10,), dtype="f4", chunks=(10,), compression="gzip")
    made.id.write_direct_chunk((0,), zlib.compress(bytes(5 * 10**7), 9))


def deep(node):
    for _ in range(50):
        node = node.create_group("nodes")


def many(node):
    inner = node.create_group("weight")
    for number in range(20_001):
        inner.create_group(str(number))


def cut(part):
    return lambda files, path: path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])


def instead(content):
    return lambda files, path: path.write_bytes(content)


def heap(change):
    """The file's texts lie in a heap: "GCOL", a size, and objects of a number, a size and bytes."""

    def write(files, path):
        content = bytearray(path.read_bytes())
        start = content.index(b"GCOL")
        change(content, start)
        path.write_bytes(content)

    return write


def objects_without_a_size(content, start):
    content[start + 24 : start + 32] = bytes(8)


def no_number_but_one(content, start):
    size = int.from_bytes(content[start + 8 : start + 16], "little")
    content[start + 16 : start + size] = (b"\1\0" + bytes(14)) * (size // 16 - 1)


def huge_heap(content, start):
    content[start + 8 : start + 16] = (2**62).to_bytes(8, "little")


def huge_reference(content, start):
    """The length of the version, "1.0.8", of which there is one reference only."""
    with h5py.File(io.BytesIO(bytes(content))) as file:
        place = file["version"].id.get_offset()
    content[place : place + 4] = (2**32 - 1).to_bytes(4, "little")


def other_hdf5(files, path):
    with h5py.File(path, "w") as file:
        file["events/x"] = np.arange(5)


def version_in_numbers(files, path):
    with h5py.File(path, "a") as file:
        del file["version"]
        file["version"] = 1.0


HOSTILE = {  # what is done to a good file, and what the error says
    "external link": (put("weight", lambda node: h5py.ExternalLink("/dev/zero", "x")), "'/node/nodes/n0/weight' is a link"),
    "soft link": (put("weight", lambda node: h5py.SoftLink("/node/nodes/n1")), "weight' is a link to another place"),
    "soft loop": (put("weight", lambda node: h5py.SoftLink("/node/nodes/n0/weight")), "weight' is a link to"),
    "soft loop of groups": (put("nodes", lambda node: h5py.SoftLink("/node")), "nodes' is a link to"),
    "hard loop": (put("nodes", lambda node: node.file["node"]), "nodes' is the same object as '/node'"),
    "one array twice": (put("bias", lambda node: node["weight"]), "is the same object as"),
    "7 TiB, never written": (dataset(shape=(10**12,), dtype="f8"), "claims 8,000,000,000,000 bytes"),
    "7 TiB in parts": (dataset(shape=(10**12,), dtype="f8", chunks=(10**4,)), "claims 8,000,000,000,000 bytes"),
    "one huge part": (dataset(shape=(1,), maxshape=(None,), dtype="f8", chunks=(2**28,)), "claims 2,147,483,648 bytes"),
    "never written": (dataset(shape=(3, 4), dtype="f4"), "claims 48 bytes and was never written in full"),
    "parts never written": (dataset(shape=(3, 4), dtype="f4", chunks=(1, 4)), "has 0 of 3 parts in the file"),
    "huge shape, no size": (dataset(shape=(0, 2**60), dtype="f4"), "weight must hold numbers; got nothing"),
    "packed zeros": (dataset(data=np.zeros(2**25), chunks=(2**20,), compression="gzip"), "claims 268,435,456 bytes"),
    "packed beyond its size": (put("weight", burst), "weight' unpacks to more than it claims"),
    "packed by another filter": (dataset(data=np.zeros((3, 4)), compression="lzf"), "in another way than by gzip"),
    "in another file": (dataset(shape=(3, 4), dtype="f4", external=[("/dev/zero", 0, 48)]), "in other files"),
    "virtual": (put("weight", virtual), "holds a virtual dataset"),
    "deep": (put("weight", deep), "is nested deeper than 32 groups"),
    "too many groups": (put("weight", many), "is one of more than 20000"),
    "complex": (dataset(data=np.zeros((3, 4), "c16")), "must hold numbers or text; its type is complex128"),
    "truth values": (dataset(data=np.zeros((3, 4), bool)), "must hold numbers or text; its type is bool"),
    "wide floats": (dataset(data=np.zeros((3, 4), "g")), "must hold numbers or text"),
    "tables": (dataset(data=np.zeros(3, [("a", "f4"), ("b", "f4")])), "must hold numbers or text"),
    "lists of several lengths": (dataset(shape=(3,), dtype=h5py.vlen_dtype(np.int32)), "weight'"),
    "references": (dataset(shape=(3,), dtype=h5py.ref_dtype), "weight'"),
    "names for numbers": (dataset(data=1, dtype=h5py.enum_dtype({"A": 1})), "must hold numbers or text"),
    "bytes without a meaning": (dataset(data=np.void(b"abc")), "must hold numbers or text"),
    "nothing": (dataset(data=h5py.Empty("f")), "is an array that holds nothing"),
    "a type": (put("weight", lambda node: np.dtype("f4")), "is neither a group nor an array"),
    "text that is none": (put("type", lambda node: np.bytes_(b"\xff\xfe")), "must hold text in UTF-8"),
    "a long text": (put("type", lambda node: "x" * 10**6), "holds a text of 1000000 bytes; 1000 are read at most"),
    "too many texts": (put("x", lambda node: np.full((50_000, 2), b"a")), "holds 100000 texts"),
    "a field's name for terminals": (put("x\n\x1b[2J" * 90, lambda node: 1.0), "is none of the fields of type Linear"),
    "texts without a size": (heap(objects_without_a_size), "holds a text that refers to nothing"),
    "texts of one number": (heap(no_number_but_one), "holds a text that refers to nothing"),
    "texts in a huge heap": (heap(huge_heap), "holds a text that lies in no heap"),
    "texts in no heap": (heap(lambda content, start: content.__setitem__(start, 0)), "holds a text that lies in no heap"),
    "a text of 4 GB": (heap(huge_reference), "'/version' holds a text of 4294967295 bytes; 1000 are read at most"),
    "cut in half": (cut(0.5), "cannot be read as HDF5"),
    "cut near its end": (cut(0.99), "cannot be read as HDF5"),
    "a header alone": (instead(b"\x89HDF\r\n\x1a\n"), "cannot be read as HDF5"),
    "zeros behind the header": (instead(b"\x89HDF\r\n\x1a\n" + bytes(4096)), "cannot be read as HDF5"),
    "not HDF5": (instead(b"NIR"), "must be an HDF5 file|cannot be read as HDF5"),
    "empty": (instead(b""), "is empty. Give a NIR file"),
    "a page": (instead(b"<!doctype html><p>404"), "must be an HDF5 file; it is a page of HTML"),
    "HDF5, but not NIR": (other_hdf5, "no NIR network: a NIR file has a group 'node'.*found events"),
    "a version in numbers": (version_in_numbers, "'version' must be text"),
}  # fmt: skip


@pytest.fixture
def hostile(files):
    """Writes the file of one case."""

    def write(case):
        path = files.write(files.chain(files.linear(), files.lif(3)), name=f"{list(HOSTILE).index(case)}.nir")
        HOSTILE[case][0](files, path)
        return path

    return write


@pytest.mark.parametrize("case", HOSTILE)
def test_it_is_refused_in_a_line(case, hostile):
    """The error names the file, and comes within seconds."""
    path = hostile(case)
    begun = time.monotonic()
    with pytest.raises(TetDeployError, match=HOSTILE[case][1]) as caught:
        td.load_nir(path, source="nir")
    message = str(caught.value)
    assert time.monotonic() - begun < SECONDS
    assert message.startswith(str(path)) and message.count("\n") <= 2 and len(message) < 1000
    assert message.replace("\n", "").isprintable()


def test_it_takes_little_memory(hostile, tmp_path):
    """All of them, one behind the other, in an interpreter that may have a few hundred megabytes."""
    for case in HOSTILE:
        hostile(case)
    code = (
        "import resource, sys, pathlib, tet_deploy as td\n"
        f"resource.setrlimit(resource.RLIMIT_DATA, ({MEGABYTES} * 2**20,) * 2)\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).glob('*.nir')):\n"
        "    try: td.load_nir(path, source='nir'); print('read', path)\n"
        "    except td.TetDeployError as error: assert 'does not fit' not in str(error), error\n"
    )
    words = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(td.__file__).parent.parent, timeout=120)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_without_h5py_the_extra_is_named(tmp_path):
    """What is missing, and what installs it."""
    path = tmp_path / "net.nir"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    code = (
        "import sys; sys.modules['h5py'] = None\nimport tet_deploy as td\n"
        f"try: td.load_nir({str(path)!r})\nexcept td.TetDeployError as error: print(type(error).__name__, error)"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(td.__file__).parent.parent, check=True)
    assert "MissingDependencyError" in done.stdout and "pip install 'tet-deploy[nir]'" in done.stdout
