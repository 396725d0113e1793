"""A node's fields are of the types it says, however it is made."""

import numpy as np
import pytest

from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import LIF, Conv, CubaLIF, Input, Linear, Quantization

WEIGHT = np.ones((2, 2, 3, 3), np.float32)
GOOD = {
    "lists": (lambda: Conv(name="c", weight=WEIGHT, stride=[2, 1]).stride, (2, 1)),
    "numpy's whole numbers": (lambda: Input(name="i", shape=tuple(np.array([1, 2, 3]))).shape, (1, 2, 3)),
    "numpy's real numbers": (lambda: LIF(name="l", decay=np.float32(0.5)).decay, 0.5),
    "whole thresholds": (lambda: LIF(name="l", threshold=np.int32(7)).threshold, 7),
    "a threshold without axes": (lambda: LIF(name="l", threshold=np.array(0.5)).threshold, 0.5),
    "a scale for each channel": (lambda: Quantization(scale=[1, np.float32(2)]).scale, (1, 2.0)),
}
BAD = {
    "one stride": (lambda: Conv(name="c", weight=WEIGHT, stride=2), r"'c': stride must be a pair of whole numbers; got 2\."),
    "three strides": (lambda: Conv(name="c", weight=WEIGHT, stride=(1, 1, 1)), r"a pair of whole numbers; got \(1, 1, 1\)"),
    "real stride": (lambda: Conv(name="c", weight=WEIGHT, stride=(1.0, 1)), r"a pair of whole numbers; got \(1.0, 1\)"),
    "list of weights": (lambda: Linear(name="f", weight=[[1.0]]), r"'f': weight must be a numpy array; got \[\[1.0\]\]"),
    "decay for each channel": (
        lambda: CubaLIF(name="l", current_decay=np.ones(3)),
        "'l': current_decay must be a number; got ndarray",
    ),
    "flag": (lambda: LIF(name="l", threshold=True), "'l': threshold must be a number or a numpy array; got True"),
    "word": (lambda: LIF(name="l", decay="half"), "'l': decay must be a number or a numpy array; got 'half'"),
    "complex": (lambda: LIF(name="l", decay=1j), "'l': decay must be a number or a numpy array; got complex"),
    "no float": (lambda: LIF(name="l", threshold=10**400), "'l': threshold must be a number or a numpy array; got 1000"),
    "one input": (lambda: LIF(name="l", inputs="conv"), "'l': inputs must be a tuple of strings; got 'conv'"),
    "name": (lambda: LIF(name=3), "3: name must be a string; got 3"),
    "a dict of units": (
        lambda: LIF(name="l", quantization={"scale": 1}),
        "'l': quantization must be a Quantization; got dict",
    ),
    "units": (lambda: Quantization(scale="1"), "quantization: scale must be a number or a tuple of numbers; got '1'"),
    "real bits": (lambda: Quantization(scale=1.0, bits=8.0), "quantization: bits must be a whole number; got 8.0"),
    "something large": (lambda: LIF(name="l", reset=["zero" * 1000] * 1000), "reset must be a string; got "),
}


@pytest.mark.parametrize("case", GOOD)
def test_numbers_of_numpy_become_pythons(case):
    """So that they are written to files, and compared, as such."""
    make, expected = GOOD[case]
    found = make()
    assert found == expected
    assert all(type(value) in (int, float) for value in (found if isinstance(found, tuple) else [found]))


@pytest.mark.parametrize("case", BAD)
def test_another_type_is_refused(case):
    """One short line names the node, the field, what it must be and what it is."""
    make, message = BAD[case]
    with pytest.raises(GraphError, match=message) as caught:
        make()
    assert len(str(caught.value)) < 300
