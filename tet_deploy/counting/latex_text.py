"""Any text as LaTeX prints it, with no package and in pdfTeX's oldest fonts."""

from __future__ import annotations

import re
import unicodedata

_SIGNS = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "`": r"\symbol{96}",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": r"\textquotedblleft{}",
    "\N{RIGHT DOUBLE QUOTATION MARK}": r"\textquotedblright{}",
    "\N{EN DASH}": r"\textendash{}",
    "\N{EM DASH}": r"\textemdash{}",
    "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "±": r"$\pm$",
    "\u00d7": r"$\times$",
    "·": r"$\cdot$",
    "°": r"${}^\circ$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\to$",
    "µ": r"$\mu$",  # the micro sign
    "μ": r"$\mu$",  # the letter
    "Ω": r"$\Omega$",
    "\u00a0": "~",
}
_ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0304\u0307\u0308\u0306\u030a\u030b\u030c\u0327", "`'^~=.\"urHvc", strict=True)
)


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is; a letter that has no command is named by its number.

    Examples
    --------
    >>> print(escaped("Müller & Søn: 'a_b' 中"))
    M\\"{u}ller \\& S\\o{}n: `a\\_b' (U+4E2D)
    """
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r"(?<![^\s(])'(?=\S)", "\N{LEFT SINGLE QUOTATION MARK}", text)  # what opens is not what closes
    return re.sub(r"([-,`'])(?=\1)", r"\1{}", "".join(map(_sign, text)))  # two of them would become another sign


def _sign(sign: str) -> str:
    if sign in _SIGNS or " " <= sign <= "~":
        return _SIGNS.get(sign, sign)
    letter, *marks = [*unicodedata.normalize("NFD", sign)]
    if len(marks) == 1 and marks[0] in _ACCENTS and letter.isascii():
        return f"\\{_ACCENTS[marks[0]]}{{{letter}}}"
    return f"(U+{ord(sign):04X})"
