"""What a node may be called, said once, so that every name works in files, in ONNX, in Lava and on the command line."""

from __future__ import annotations

import unicodedata

from tet_deploy.errors import GraphError, shown

LONGEST_NAME = 200
_SIGNS = "_-.:+@"
_RULE = (
    f"A name has 1 to {LONGEST_NAME} letters and digits of any script and signs {' '.join(_SIGNS)}, "
    "and begins with a letter, a digit or _."
)


def check_name(name: str) -> None:
    """Refuse what a node may not be called.

    Letters include the marks that some scripts write with them. So a name is never a path; it holds no "/", which parts a
    node from what belongs to it in our files and in ONNX, and no ",", which parts names on the command line.

    Raises
    ------
    GraphError
        Says what is allowed and what was found.
    """
    fault = _fault(name)
    if fault:
        raise GraphError(f"node {shown(name)}: {fault}. {_RULE} Rename the node, or the module that it is named after.")


def _fault(name: str) -> str | None:
    if not 1 <= len(name) <= LONGEST_NAME:
        return f"its name has {len(name)} characters"
    wrong = next((sign for sign in name if sign not in _SIGNS and not _is_letter(sign)), None)
    if wrong is not None:
        return f"its name holds {wrong!a}"
    if unicodedata.category(name[0])[0] == "M" or (name[0] in _SIGNS and name[0] != "_"):
        return f"its name begins with {name[0]!a}"
    return None


def _is_letter(sign: str) -> bool:
    return unicodedata.category(sign)[0] in "LMN"  # letters, marks, numbers; a lone surrogate is none
