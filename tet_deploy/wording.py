"""Numbers with the word for what they count."""

from __future__ import annotations


def number_of(what: str, count: int, form: str = ",") -> str:
    """A count and the word for what it counts, in the plural unless it is one.

    Examples
    --------
    >>> number_of("sample", 1), number_of("class", 1200), number_of("step", -1, "+")
    ('1 sample', '1,200 classes', '-1 step')
    """
    ending = "" if abs(count) == 1 else "es" if what.endswith("s") else "s"
    return f"{count:{form}} {what}{ending}"
