"""Damage to files of parts: safetensors, .npy, zip and HDF5 files, so that the parts' own readers see it."""

import contextlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import h5py
import numpy as np
from mutators import FLOATS, NUMBERS, TEXTS, damage_bytes, damage_json

Seal = Callable[[dict[str, Any], bytes], dict[str, Any]]  # (safetensors header, tensors' bytes) -> header with checksums
_WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1}
_WIDTHS |= {"BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8, "F4": 1}


def damage_safetensors(content: bytes, rng: Random, seal: Seal | None = None) -> bytes:
    """Damage a tensor's description, our own JSON in the header, the tensors' values, or just bytes.

    `seal` puts checksums right, so that readers look further; now and then it is left out.
    """
    if rng.random() < 0.3:
        return damage_bytes(content, rng)
    (length,) = struct.unpack("<Q", content[:8])
    text, body = content[8 : 8 + length].decode(), bytearray(content[8 + length :])
    header = json.loads(text)
    match rng.randrange(4):
        case 0:
            text = damage_json(text, rng)
        case 1:
            _retype(header, rng)
            text = json.dumps(header)
        case 2:
            _damage_values(body, rng)
        case _:
            ((key, own),) = header["__metadata__"].items()
            header["__metadata__"][key] = damage_json(own, rng)
            text = json.dumps(header)
    if seal and rng.random() < 0.8:
        with contextlib.suppress(Exception):  # nothing is left that could be sealed
            text = json.dumps(seal(json.loads(text), bytes(body)))
    encoded = text.encode("utf-8", "surrogatepass")
    claimed = len(encoded) if rng.random() < 0.98 else rng.choice(NUMBERS) % 2**64
    return struct.pack("<Q", claimed) + encoded + bytes(body)


def _retype(header: dict[str, Any], rng: Random) -> None:
    """Another dtype or shape of a tensor in as many bytes, which no check of sizes sees."""
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    shape = entry["shape"]
    match rng.randrange(3):
        case 0:
            entry["dtype"] = rng.choice([kind for kind in _WIDTHS if _WIDTHS[kind] == _WIDTHS[entry["dtype"]]])
        case 1:
            entry["shape"] = rng.choice((shape[::-1], [1, *shape], [*shape, 1], shape + [1] * 40))
        case _:
            entry["shape"], entry["data_offsets"] = [0, 2**40, *shape], [entry["data_offsets"][0]] * 2


def _damage_values(body: bytearray, rng: Random) -> None:
    for _ in range(rng.choice((1, 1, 5))):
        value, integer = rng.choice(FLOATS), rng.choice((-(2**31), 2**31 - 1, -128))
        raw = rng.choice((struct.pack("<f", value), struct.pack("<d", value), struct.pack("<i", integer)))
        start = rng.randrange(0, max(1, len(body) - 8), 4)
        body[start : start + len(raw)] = raw


_HEADER = "{{'descr': {}, 'fortran_order': False, 'shape': {}, }}"
_HEADERS = tuple(
    _HEADER.format(descr, shape)
    for descr, shape in (
        ("'|O'", "(3,)"),
        ("'<f8'", "()"),
        ("'<f8'", "(1099511627776,)"),
        ("'<f8'", "(-1,)"),
        ("'<f8'", "(0, 4611686018427387904, 16)"),
        ("'|V0'", "(1099511627776,)"),
        ("'|S0'", "(4611686018427387904,)"),
        ("'|S1000000000000'", "(1,)"),
        ("[('x', '<i8'), ('y', '|O')]", "(3,)"),
        ("[('x', '|V0'), ('y', '|V0'), ('t', '|V0'), ('p', '|V0')]", "(1099511627776,)"),
        ("[('x', '<i2'), ('y', '<i2'), ('t', '<M8[us]'), ('p', '?')]", "(2,)"),
        ("[('x', '<f2'), ('y', '<U3'), ('t', '<c16'), ('p', '<m8[s]')]", "(1,)"),
        ("[('x', '<i8', (1000, 1000)), ('y', '<i8'), ('t', '<i8'), ('p', '<i8')]", "(1,)"),
        ("[('a', [('x', '<i8')]), ('y', '<i8'), ('t', '<i8'), ('p', '<i8')]", "(1,)"),
        ("('<i8', (1000, 1000, 1000))", "(2,)"),
        ("'<f8'", "(" + "1," * 3000 + ")"),
        ("(" * 150 + ")" * 150, "(3,)"),
        ("__import__('os')", "[3]"),
    )
)
_WORDS = ("'<f8'", "'>f4'", "'<i8'", "'>i2'", "'|u1'", "'?'", "'<f2'", "'<c8'", "'<U1'", "'<M8[us]'", "'<g16'")
_WORDS += ("True", "False", "None", "1j", "-1", "0", "4096", "2**9", "1099511627776")


def damage_npy(content: bytes, rng: Random) -> bytes:
    """Damage the header of an .npy, its length or version, its values, or just bytes."""
    (size,) = struct.unpack("<H", content[8:10])
    header, body = content[10 : 10 + size].decode("latin1"), bytearray(content[10 + size :])
    match rng.randrange(4):
        case 0:
            return damage_bytes(content, rng)
        case 1:
            header = rng.choice(_HEADERS)
        case 2:
            words = header.replace("(", "( ").replace(",", " ,").split(" ")
            words[rng.randrange(len(words))] = rng.choice(_WORDS)
            header = " ".join(words)
        case _:
            _damage_values(body, rng)
    encoded = header.encode("latin1") + b"\n"
    claimed = len(encoded) if rng.random() < 0.95 else rng.choice((0, 1, 2**16 - 1))
    version = b"\x01\x00" if rng.random() < 0.95 else rng.choice((b"\x03\x00", b"\x09\x09"))
    return content[:6] + version + struct.pack("<H", claimed) + encoded + bytes(body)


def damage_zip(content: bytes, rng: Random, damage_member: Callable[[bytes, Random], bytes] = damage_npy) -> bytes:
    """Damage a member and store it with a right checksum; rename, double, drop or blow one up; or just bytes."""
    if rng.random() < 0.25:
        return damage_bytes(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    names, out, what = list(members), io.BytesIO(), rng.random()
    chosen, how = rng.choice(names), zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", how) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)
            if name != chosen:
                archive.writestr(entry, members[name], how)
            elif what < 0.7:
                archive.writestr(entry, damage_member(members[name], rng), how)
            elif what < 0.8:
                entry.filename = rng.choice(("../evil", "x" * 200, name + "/", "é\n", name.upper(), rng.choice(names)))
                archive.writestr(entry, members[name], how)
            elif what < 0.88:
                archive.writestr(entry, members[rng.choice(names)], how)
            elif what < 0.9:
                archive.writestr(entry, members[name][:128] + _zeros(), zipfile.ZIP_DEFLATED, 1)
    return _claim(out.getvalue(), rng) if rng.random() < 0.15 else out.getvalue()


@cache
def _zeros() -> bytes:
    return bytes(2**25)


def _claim(content: bytes, rng: Random) -> bytes:
    """Another size, offset, method or flag in one of the records of a zip file."""
    records = {
        b"PK\x01\x02": (8, 10, 16, 20, 24, 28, 42),
        b"PK\x03\x04": (6, 8, 14, 18, 22, 26),
        b"PK\x05\x06": (8, 10, 12, 16),
    }
    data, kind = bytearray(content), rng.choice(list(records))
    start = data.find(kind, rng.randrange(len(data))) + rng.choice(records[kind])
    data[start : start + 4] = struct.pack("<I", rng.choice(NUMBERS) % 2**32)
    return bytes(data)


def damage_hdf5(content: bytes, rng: Random) -> bytes:
    """One or two objects replaced, taken out, moved, linked to or added, with an HDF5 library that knows nothing of it."""
    file = io.BytesIO(content)
    with h5py.File(file, "r+") as opened:
        for _ in range(rng.choice((1, 1, 2))):
            places: list[str] = []
            opened.visit(places.append)
            with contextlib.suppress(ValueError, OSError, KeyError, TypeError, RuntimeError):  # what HDF5 does not write
                _exchange(opened, rng.choice(places), rng.choice(places), rng)
    return file.getvalue()


def _exchange(file: h5py.File, name: str, other: str, rng: Random) -> None:
    old = file[name]
    values = old[()] if isinstance(old, h5py.Dataset) else None
    match rng.randrange(7):
        case 0:
            del file[name]
        case 1:
            file.move(name, f"{name}{rng.choice(TEXTS)[:40] or 'x'}".replace("\0", ""))
        case 2:
            del file[name]
            file[name] = rng.choice((h5py.SoftLink(f"/{other}"), h5py.ExternalLink("/dev/zero", other)))
        case 3 if other in file and not name.startswith(other) and not other.startswith(name):
            del file[name]
            file[name] = file[other]
        case 4 if other in file and isinstance(file[other], h5py.Group):
            file[f"{name}{rng.randrange(9)}"] = file[other]
        case _ if values is None:
            file[f"{name}/{rng.choice(('types', 'nodes2', 'metadata', 'x'))}"] = rng.choice((*FLOATS, *TEXTS[:2]))
        case _:
            del file[name]
            file[name] = _other_values(np.asarray(values), rng)


def _other_values(values: np.ndarray, rng: Random) -> Any:
    if values.dtype.kind not in "fiu" or rng.random() < 0.2:
        return rng.choice(("LIF", "Conv2d", "NIRGraph", *TEXTS, *FLOATS, np.zeros((0, 2)), np.ones(3, ">f8"), np.arange(4)))
    flat = values.copy().reshape(-1)
    match rng.randrange(5):
        case 0 if flat.size:
            with np.errstate(all="ignore"):
                flat[rng.randrange(flat.size)] = np.asarray(rng.choice(FLOATS)).astype(flat.dtype)
            return flat.reshape(values.shape)
        case 1:
            return values.astype(rng.choice(("f8", ">f4", "i1", "u8", "f2", "c8", "?", "S4")))
        case 2:
            return rng.choice((values.reshape(-1), values[None], values.T, np.concatenate([flat, flat]), flat[:1]))
        case 3:
            return np.asarray(rng.choice(NUMBERS[:-2]))
        case _:
            return np.full(values.shape, rng.choice((*FLOATS, 1e300, 5e-324, -1e-3)))
