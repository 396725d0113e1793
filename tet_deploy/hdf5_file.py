"""What is seen of an HDF5 file before its library opens it."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from tet_deploy.errors import ArtifactError

# A virtual dataset's layout in its header, of either version. HDF5 crashes or hangs over damaged ones when it opens them.
_VIRTUAL = re.compile(rb"\x08\0\x10\0.\0\0\0\x04\x03|\x08\x0e\0.(?:..)?\x04\x03.{5}\0\0\0", re.DOTALL)


def refuse_virtual(path: Path) -> None:
    """See that a file holds no virtual dataset.

    Raises
    ------
    ArtifactError
        It holds one.
    """
    with path.open("rb") as content, mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        if _VIRTUAL.search(whole):
            raise ArtifactError(f"{path}: holds a virtual dataset, which lies in other files. Copy it into this one.")
