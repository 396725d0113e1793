"""Read a bundle and prove that it is the one that was exported. Needs the standard library and numpy; runs on both sides.

plan.json says what to build; `files` lists all that was exported with its SHA-256, and `checksum` is over everything else
that the plan says. Later plans may say other things; those two stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .network import check_network
from .reading import Refused, npz_arrays, opened, said
from .vectors import EXPORT_WITH_VECTORS, LARGEST_FILE, Network, Vectors, read_vectors

FORMAT = "tet_deploy lava bundle"
VERSION = 2
PLAN, ARRAYS, VECTORS, README = "plan.json", "arrays.npz", "vectors.npz", "README.md"
UNFINISHED = "unfinished"  # instead of a network: an export that has begun and not ended
_LARGEST_PLAN, _LARGEST_CODE, _LARGEST_ARRAYS = 2**24, 2**20, 2**32  # bytes
_LARGEST = {ARRAYS: _LARGEST_ARRAYS, VECTORS: LARGEST_FILE}
_LONGEST_INTEGER = 20  # digits
_MODELS = ("convolution", "fast_models", "frames", "recorders")
_FILES_OF_VERSION_1 = (
    "README.md",
    "network.py",
    "run.py",
    "supervision.py",
    *(f"loihi_models/{name}.py" for name in _MODELS),
)


def read_bundle(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Plan and arrays of a bundle, after checking its files, its checksum and every number in it.

    Raises
    ------
    Refused
        No bundle, one of another version, one that is not as it was exported, or one that no Loihi core could hold.
    """
    plan, files = read_plan(folder)
    if plan["version"] != VERSION:
        way_out = "Run its own run.py, or export the network again." if plan["version"] < VERSION else "Update tet_deploy."
        raise Refused(f"{folder / PLAN}: is of version {plan['version']}; needs {VERSION}", way_out)
    if UNFINISHED in plan:
        raise Refused(f"{folder}: an export into it is going on or was cut short")
    arrays: dict[str, np.ndarray] = {}
    for name, digests in files.items():
        path = folder / name
        if name == README:
            continue  # it may be written in
        with opened(path, _LARGEST.get(name, _LARGEST_CODE)) as file:
            if digests and sha256(file) not in digests:
                raise Refused(f"{path}: is not the file that was exported", "Move it away and export the network again.")
            if name == ARRAYS:
                arrays = npz_arrays(path, file)
    try:
        check_network(plan, arrays)
    except ValueError as error:
        raise Refused(f"{folder / PLAN}: {said(error)}") from error
    return plan, arrays


def read_plan(folder: Path) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """What plan.json of whatever version says, unchanged since it was written; version 1 cannot tell that.

    Returns
    -------
    tuple
        All that it says; and the bundle's other files, with the SHA-256 that each may have, or none that version 1 tells.

    Raises
    ------
    Refused
        No plan, or a changed one.
    """
    path = folder / PLAN
    try:
        with opened(path, _LARGEST_PLAN) as file:
            content = file.read()
    except Refused as error:
        raise Refused(f"{folder}: is no Lava bundle ({error.problem})", "Export one: to='lava'.") from error
    try:
        plan = json.loads(content.decode(), object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
        checked = checksum(plan) if isinstance(plan, dict) else ""
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path}: is no JSON: {said(error)}") from error
    if not isinstance(plan, dict) or plan.get("format") != FORMAT:
        raise Refused(f"{path}: does not say format {FORMAT!r}", "Name a folder that was exported with to='lava'.")
    if type(plan.get("version")) is not int or (plan["version"] != 1 and plan.get("checksum") != checked):
        raise Refused(f"{path}: is not as it was exported: its checksum differs")
    return plan, _own_files(path, plan)


def bundle_vectors(folder: Path, plan: Mapping[str, Any]) -> Vectors:
    """The vectors of a bundle whose plan and files `read_bundle` has checked.

    Raises
    ------
    Refused
        It was exported without, or they do not fit its network.
    """
    if VECTORS not in plan["files"]:
        raise Refused(f"{folder}: was exported without vectors", EXPORT_WITH_VECTORS)
    return read_vectors(folder / VECTORS, Network.of_plan(plan))


def checksum(plan: Mapping[str, Any]) -> str:
    """SHA-256 of all that a plan says but its checksum, independent of how it is spaced and sorted.

    Raises
    ------
    ValueError
        The plan holds a number that is not finite, which JSON does not have.
    """
    content = {key: value for key, value in plan.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def sealed(plan: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """The plan with the list of its files and its checksum, as it is written."""
    return with_checksum({**plan, "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}})


def with_checksum(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan with its checksum."""
    return {**plan, "checksum": checksum(plan)}


def _own_files(path: Path, plan: Mapping[str, Any]) -> dict[str, set[str]]:
    if plan["version"] == 1:
        return {**{name: set() for name in _FILES_OF_VERSION_1}, ARRAYS: {str(plan.get("arrays_sha256"))}}
    listed = plan.get(UNFINISHED, plan.get("files"))
    entries = listed.items() if isinstance(listed, dict) else ()
    files = {name: value if isinstance(value, list) else [value] for name, value in entries}
    good = {ARRAYS, "run.py"} <= files.keys() and all(_is_inside(name) and digests for name, digests in files.items())
    if not good or not all(isinstance(digest, str) for digests in files.values() for digest in digests):
        raise Refused(f"{path}: must list the files of its folder with their SHA-256")
    return {name: set(digests) for name, digests in files.items()}


def _is_inside(name: str) -> bool:
    return not {"", ".", ".."} & set(name.split("/")) and not {"\\", ":", "\0"} & set(name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return entries


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def sha256(file: BinaryIO) -> str:
    """SHA-256 of a file, in little memory."""
    sha = hashlib.sha256()
    for block in iter(lambda: file.read(2**20), b""):
        sha.update(block)
    return sha.hexdigest()
