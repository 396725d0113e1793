"""Importers by name: each makes a network of a file that something else wrote."""

from collections.abc import Mapping
from typing import NamedTuple

from tet_deploy.file_kinds import CHECKPOINT, HDF5, FileKind


class ImporterEntry(NamedTuple):
    """Where an importer lives, what it reads and what it has to be told."""

    location: str  # "module:function" from a path to a link whose graph is at hand, imported on use
    reads: str  # in words, for people
    kind: FileKind  # of the file, by which it is known
    options: Mapping[str, str] = {}  # what else it takes, and what that means


IMPORTERS = {
    "checkpoint": ImporterEntry(
        location="tet_deploy.links.opening:of_checkpoint", reads="a training's checkpoint", kind=CHECKPOINT
    ),
    "nir": ImporterEntry(
        location="tet_deploy.links.opening:of_nir",
        reads="a NIR file",
        kind=HDF5,
        options={
            "source": "who wrote it: spikingjelly, snntorch, norse, rockpool, tet_deploy or nir",
            "reset": "what a spike does to the potential, where the file lost it: zero, zero-at-once, subtract, "
            "subtract-delayed or subtract-twice",
            "dt": "seconds of a step",
            "encoding": "what the frames are, where the file does not say it: analog or events",
        },
    ),
}
