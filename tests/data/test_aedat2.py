"""AEDAT 2.0 is read by what its header says: the camera, and where the header ends."""

import numpy as np
import pytest
from tonic import io as tonic_io

from tet_deploy.data.event_files import read_events, read_stream
from tet_deploy.errors import ArtifactError, DataError, DataWarning

RNG = np.random.default_rng(0)
JAER = (  # as jAER's AEFileOutputStream writes it
    "#!AER-DAT2.0",
    "# This is a raw AE data file - do not edit",
    "# Data format is int32 address, int32 timestamp (8 bytes total), repeated for each event",
    "# Timestamps tick: 1 us",
    "# Creation date: Mon Feb 10 10:57:27 AEDT 2020",
    "# Creation time: System.currentTimeMillis() 1581292647203",
    "# User name: zoë",
    "# HardwareInterface: CypressFX3",
    "# AEChip: {chip}",
    '#Start of Preferences for this AEChip (search for "End of Preferences" to find end of this block)',
    '#<entry key="Davis346.biasgen" value="12"/>',
    "#",
    "# DataStartTime: System.currentTimeMillis() 1581292647210",
    "#End Of ASCII Header",
)
AEDAT_TOOLS = ("#!AER-DAT2.0", "# created Thu Dec 03 14:47:00 CET 2015", "# AEChip: {chip}", "# End of ASCII Header")
OLD = ("#!AER-DAT2.0", "# Creation time: Thu Dec 03 14:47:00 CET 2015", "# created Thu Dec 03", "# AEChip: {chip}")


def write(path, addresses, times, header=JAER, chip="eu.seebetter.ini.chips.davis.DAVIS240C"):
    lines = "".join(f"{line.format(chip=chip)}\r\n" for line in header if chip or "{chip}" not in line)
    path.write_bytes(lines.encode() + np.stack([addresses, times], 1).astype(">u4").tobytes())
    return path


def davis(x, y, p, width, height):
    return (height - 1 - y) << 22 | (width - 1 - x) << 12 | p << 11


def dvs128(x, y, p, width=128, height=128):
    return (height - 1 - y) << 8 | (width - 1 - x) << 1 | 1 - p


def draw(width, height, count=50):
    return (RNG.integers(0, high, count) for high in (width, height, 2)), np.sort(RNG.integers(0, 10**6, count))


@pytest.mark.parametrize(
    ("chip", "address", "size"),
    [
        ("ch.unizh.ini.jaer.chip.retina.DVS128", dvs128, (128, 128)),
        ("Tmpdiff128", dvs128, (128, 128)),
        ("eu.seebetter.ini.chips.DAViS240C", davis, (240, 180)),
        ("eu.seebetter.ini.chips.davis.DAVIS240B", davis, (240, 180)),
        ("eu.seebetter.ini.chips.sbret10.SBret10", davis, (240, 180)),
        ("eu.seebetter.ini.chips.davis.Davis346blue", davis, (346, 260)),
        ("DAVI346", davis, (346, 260)),
        ("eu.seebetter.ini.chips.davis.Davis128", davis, (128, 128)),
        ("eu.seebetter.ini.chips.davis.Davis208PixelParade", davis, (208, 192)),
        ("eu.seebetter.ini.chips.davis.Davis640", davis, (640, 480)),
    ],
)
@pytest.mark.parametrize("header", [JAER, AEDAT_TOOLS, OLD], ids=["jAER", "AedatTools", "dates"])
def test_the_header_names_the_camera(tmp_path, chip, address, size, header):
    """Its layout of addresses and its size are read, whatever else the header says, such as dates; nothing is dropped."""
    (x, y, p), t = draw(*size)
    stream = read_stream(write(tmp_path / "own.aedat", address(x, y, p, *size), t, header, chip))
    assert (stream.sensor_size, stream.repairs) == (size, {})
    for name, expected in (("x", x), ("y", y), ("t", t), ("p", p)):
        np.testing.assert_array_equal(stream.events[name], expected)


def test_a_davis346_is_read_as_tonic_reads_it(tmp_path):
    """Addresses are those of tonic's own reader for this camera."""
    (x, y, p), t = draw(346, 260)
    path = write(tmp_path / "own.aedat", davis(x, y, p, 346, 260), t, ("#!AER-DAT2.0", "# AEChip: {chip}"), "DAVIS346")
    _, _, expected = tonic_io.read_davis_346(str(path))
    found = read_events(path)
    for name in "xytp":
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
    "line", ["# HardwareInterface: DAVIS240C [12]", "# HardwareInterface: net.sf.jaer.CypressFX2DAViS240"]
)
def test_the_hardware_may_name_the_camera(tmp_path, line):
    """Where no chip is named, the name of the interface may say which it is."""
    (x, y, p), t = draw(240, 180)
    path = write(tmp_path / "own.aedat", davis(x, y, p, 240, 180), t, ("#!AER-DAT2.0", line))
    np.testing.assert_array_equal(read_stream(path).events["x"], x)
    assert read_stream(path).sensor_size == (240, 180)


def test_a_header_without_a_camera_is_a_dvs128_and_that_is_told(tmp_path):
    """As of DVS-CIFAR10's makers; addresses that a DVS128 cannot have are refused with what was assumed."""
    (x, y, p), t = draw(128, 128)
    path = write(tmp_path / "own.aedat", dvs128(x, y, p), t, JAER, chip="")
    with pytest.warns(DataWarning, match=r"own\.aedat: headers that name no camera, read as a DVS128's: 1\.$"):
        np.testing.assert_array_equal(read_events(path)["y"], y)
    write(path, davis(x, y, p, 346, 260), t, JAER, chip="")
    with pytest.raises(
        DataError, match=r"50 of 50 addresses.*a DVS128, and its header names no camera(.|\n)*AEChip: DAVIS346"
    ):
        read_events(path)


@pytest.mark.parametrize(
    "chip", ["DVS640", "Prophese Gen 3.1 (VGA)", "ch.unizh.ini.jaer.chip.cochlea.CochleaAMS1c", "CDAVIS"]
)
def test_an_unknown_chip_is_refused(tmp_path, chip):
    """Its addresses could lie anywhere; the way out is named."""
    path = write(tmp_path / "own.aedat", np.zeros(3, int), np.arange(3), chip=chip)
    with pytest.raises(ArtifactError, match=r"its header names the chip .*Export it as AEDAT 4, or save"):
        read_events(path)


@pytest.mark.parametrize(
    ("chip", "others"),
    [("DVS128", [0x8000, 0x8000_0000, 0x8000_8000]), ("DAVIS240C", [0x400, 0x8000_0000, 0x8000_0C00, 0xFFFF_FFFF])],
)
def test_records_that_are_no_events_are_left_out_and_counted(tmp_path, chip, others):
    """Triggers, frames and motion share the addresses."""
    address, size = (dvs128, (128, 128)) if chip == "DVS128" else (davis, (240, 180))
    (x, y, p), _ = draw(*size, count=40)
    addresses = np.concatenate([address(x, y, p, *size), others])
    path = write(tmp_path / "own.aedat", addresses, np.arange(len(addresses)), chip=chip)
    with pytest.warns(DataWarning, match=rf"records that are no change of brightness, left out: {len(others)}\."):
        np.testing.assert_array_equal(read_events(path)["x"], x)


def test_pixels_outside_of_the_camera_are_refused(tmp_path):
    """A column that the camera in the header does not have is not dropped."""
    path = write(tmp_path / "own.aedat", np.array([0, 241 << 12, 3 << 22]), np.arange(3))
    with pytest.raises(
        DataError, match=r"1 of 3 addresses, such as 0x000f1000, are none of the camera that its header names"
    ):
        read_events(path)


@pytest.mark.parametrize("end", [True, False])
def test_a_first_record_may_begin_as_a_line_of_the_header(tmp_path, end):
    """Addresses from 0x23000000 on begin with '#'; a line feed may follow anywhere."""
    header = JAER if end else JAER[:-1]
    addresses = np.array([0x2300_1800, 0x2305_0A00, 0x0A0A_0000])
    path = write(tmp_path / "own.aedat", addresses, np.array([0x0D0A, 0x0D0B, 0x0D0C]), header, "Davis346red")
    assert read_events(path)["t"].tolist() == [0x0D0A, 0x0D0B, 0x0D0C]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#!AER-DAT2.0\r\n1234567890", r"records of 8 bytes; 2 are over"),
        (b"nothing at all", r"must begin with #!AER-DAT2\.0"),
    ],
)
def test_damaged_files_are_named(tmp_path, content, message):
    """Cut off, or no AEDAT."""
    (tmp_path / "own.aedat").write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"own\.aedat: .*{message}"):
        read_events(tmp_path / "own.aedat")


def test_long_headers_are_read_and_endless_ones_end(tmp_path):
    """jAER writes 2,000 lines of preferences; a line without an end is no header."""
    (x, y, p), t = draw(240, 180)
    header = (*JAER[:-1], *['#<entry key="a" value="b"/>'] * 2000, JAER[-1])
    np.testing.assert_array_equal(read_events(write(tmp_path / "own.aedat", davis(x, y, p, 240, 180), t, header))["x"], x)
    (tmp_path / "own.aedat").write_bytes(b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n#" + b"a" * (2**20 + 7))
    with pytest.raises(DataError, match="addresses"):
        read_events(tmp_path / "own.aedat")
