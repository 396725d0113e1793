"""What stages and runtimes are called on a page, for who does not know their names."""

from __future__ import annotations

_CALLED = {
    "reference": "reference runtime",
    "onnx": "ONNX Runtime",
    "lava": "Lava",
    "int8_reference": "int8, reference runtime",
    "onnx_float": "float, ONNX Runtime",
    "onnx_int8": "int8, ONNX Runtime",
}
REFERENCE = "The reference runtime is tet_deploy itself, in NumPy: slow and plain, it says what the network computes."


def called(name: str) -> str:
    """A stage's or a runtime's name as people say it; another name as it is."""
    return _CALLED.get(name, name)
