"""Importers by name: each makes a network of a file that something else wrote."""

from typing import NamedTuple

from tet_deploy.file_kinds import CHECKPOINT, FileKind


class ImporterEntry(NamedTuple):
    """Where an importer lives and what it reads."""

    location: str  # "module:function" from a path to a link whose graph is at hand, imported on use
    kind: FileKind  # of the file, by which it is known


IMPORTERS = {
    "checkpoint": ImporterEntry(location="tet_deploy.links.opening:of_checkpoint", kind=CHECKPOINT),
}
