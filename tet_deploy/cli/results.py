"""How a command prints its result: as text for people, or as one JSON object."""

from __future__ import annotations

import json
from typing import Any

from tet_deploy import terminal


def print_result(as_json: bool, values: dict[str, Any], text: str) -> None:
    """Print one of the two, as `--json` asks."""
    if as_json:
        print_json(values)
    else:
        terminal.say(text)


def print_json(values: dict[str, Any]) -> None:
    """Print one JSON object."""
    print(json.dumps(values, indent=2))
