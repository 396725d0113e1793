"""What happens on the way that is no decision: told when it first happens, counted, and all of it told at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class Notes:
    """Counts of things by their words.

    Parameters
    ----------
    tell
        Is given one line when a thing happens for the first time.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.counts: Counter[str] = Counter()
        self._tell = tell

    def add(self, what: str, count: int = 1, example: str = "") -> None:
        """That something happened so many times; `example` says more of the first."""
        if not count:
            return
        if what not in self.counts:
            self._tell(f"{what}: {example or count}.")
        self.counts[what] += count
