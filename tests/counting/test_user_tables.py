"""Energy tables of one's own, in TOML."""

import copy
from pathlib import Path

import pytest

from tet_deploy.counting.tables import OPERATIONS, choose, table
from tet_deploy.counting.user_tables import read_table, table_of
from tet_deploy.errors import ArgumentError, ArtifactError

EXAMPLE = Path(__file__).with_name("own_table.toml")
VALUES = {"name": "own", "description": "of a test", "unit": "pJ"}
VALUES |= {name: {"energy": 0.9, "source": "a test"} for name in OPERATIONS}


def test_the_example_is_read_in_picojoules():
    """Units turn into picojoules exactly, and every price keeps its source."""
    own = read_table(EXAMPLE)
    assert (own.name, own.addition.picojoules, own.mac.picojoules, own.static_step.picojoules) == (
        "28nm-fp16",
        0.11,
        0.6,
        1000,
    )
    assert own.dense_mac.secondary and not own.mac.secondary and all(price.source for price in own.prices.values())
    assert choose([EXAMPLE, "loihi1", str(EXAMPLE)], quantized=False) == (own, table("loihi1"))


@pytest.mark.parametrize(("unit", "picojoules"), [("fJ", 0.0009), ("pJ", 0.9), ("nJ", 900.0), ("uJ", 900000.0)])
def test_each_unit(unit, picojoules):
    """0.9 of each, as its nearest float."""
    assert table_of(VALUES | {"unit": unit}, "here").addition.picojoules == picojoules


def test_what_may_be_left_out():
    """A dense pass and extras; their prices are None then."""
    own = table_of({key: VALUES[key] for key in list(VALUES)[:9]} | {"estimate": True}, "here")
    assert own.dense_mac is own.weight_access is own.static_step is None and own.label == "own (estimate)"


def _priced(energy):
    return {"energy": energy, "source": "a test"}


BAD = {
    r"unknown key 'additon'. Did you mean 'addition'\?": lambda v: v.update(additon=v.pop("addition")),
    r"here, mac: unknown key 'enrgy'. Did you mean 'energy'\?": lambda v: v["mac"].update(enrgy=1),
    "here: spike is missing": lambda v: v.pop("spike"),
    "here: unit is missing": lambda v: v.pop("unit"),
    "here, mac: source is missing": lambda v: v["mac"].pop("source"),
    "here, mac: energy is missing": lambda v: v["mac"].pop("energy"),
    "here, mac: source must be words": lambda v: v["mac"].update(source="  "),
    "here, mac: source must be words on one line; got 3": lambda v: v["mac"].update(source=3),
    "here, mac: energy must be a finite number; got nan": lambda v: v["mac"].update(energy=float("nan")),
    "here, mac: energy must be a finite number; got inf": lambda v: v["mac"].update(energy=float("inf")),
    "here, mac: energy must be a finite number; got True": lambda v: v["mac"].update(energy=True),
    "here, mac: energy must be a finite number; got '1'": lambda v: v["mac"].update(energy="1"),
    "here, mac: energy -1: price of an operation: .*got -1": lambda v: v["mac"].update(energy=-1),
    "here, mac: energy -110: price of an operation: .* pJ; got -0.11": lambda v: v.update(unit="fJ", mac=_priced(-110)),
    "here, mac: energy 1e[+]300: price of an operation: .*got 1e[+]300": lambda v: v["mac"].update(energy=1e300),
    "^here, mac: secondary must be true or false": lambda v: v["mac"].update(secondary="yes"),
    "here, mac: must be a table with energy and source; got 4.6": lambda v: v.update(mac=4.6),
    r"unit must be one of fJ, pJ, nJ, uJ; got 'pj'.": lambda v: v.update(unit="pj"),
    "unit must be words": lambda v: v.update(unit=1),
    "estimate must be true or false": lambda v: v.update(estimate=1),
    "'45nm-fp32' is taken": lambda v: v.update(name="45nm-fp32"),
    "at most 60 and no comma": lambda v: v.update(name="a,b"),
    "name must begin with a letter or digit.*got '=1[+]1'": lambda v: v.update(name="=1+1"),
    "name must be words": lambda v: v.update(name="a\nb"),
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_wrong_is_named(message):
    """The place, what was found, and the nearest known key, in one line."""
    values = copy.deepcopy(VALUES)
    BAD[message](values)
    with pytest.raises(ArgumentError, match=message) as caught:
        table_of(values, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [(b"name = ", "is not TOML"), (b"\xff", "is not TOML"), (b"", "is empty")])
def test_files_that_are_no_tables(tmp_path, content, message):
    """Neither TOML nor text."""
    (tmp_path / "own.toml").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_table(tmp_path / "own.toml")


def test_asking_for_loihi_2_says_why_there_is_none():
    """No energy per operation of it is published; Loihi 1's is marked as an estimate."""
    for name in ("loihi2", "Loihi 2", "loihi-2"):
        with pytest.raises(ArgumentError, match="Intel has published no energy per operation of Loihi 2"):
            table(name)
    assert table("loihi1").label == "loihi1 (estimate)"


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    """Editors of Windows write one."""
    (tmp_path / "own.toml").write_bytes(b"\xef\xbb\xbf" + EXAMPLE.read_bytes())
    assert read_table(tmp_path / "own.toml") == read_table(EXAMPLE)
