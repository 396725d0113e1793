"""AEDAT 4 is read packet by packet, and a damaged file is refused before aedat sees it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.data.event_files import read_events, read_stream
from tet_deploy.errors import ArtifactError, DataError, DataWarning

ROOT = Path(__file__).resolve().parent.parent.parent
EVENTS = [(x % 128, x % 96, 10 * x, x % 2) for x in range(50)]


def check(events):
    assert events.tolist() == EVENTS


@pytest.mark.parametrize("compression", [0, 3])
def test_packets_are_put_together(tmp_path, aedat4, compression):
    """Packed or not, in one packet or in several, with the camera's size from the header."""
    for packets in ([EVENTS], [EVENTS[:20], EVENTS[20:], []]):
        (tmp_path / "own.aedat4").write_bytes(aedat4(*packets, compression=compression, size=(346, 260)))
        stream = read_stream(tmp_path / "own.aedat4")
        assert (stream.sensor_size, stream.repairs) == ((346, 260), {})
        check(stream.events)


def test_packets_of_other_streams_are_counted(tmp_path, aedat4):
    """Triggers beside the events are left out, and told."""
    (tmp_path / "own.aedat4").write_bytes(aedat4(EVENTS[:9], (1, []), EVENTS[9:], (1, []), streams=("EVTS", "TRIG")))
    with pytest.warns(DataWarning, match=r"own\.aedat4: packets of frames, motion or triggers, left out: 2\.$"):
        check(read_events(tmp_path / "own.aedat4"))


@pytest.mark.parametrize(("streams", "count"), [(("TRIG",), 0), (("EVTS", "EVTS"), 2)])
def test_no_camera_or_two_are_refused(tmp_path, aedat4, streams, count):
    """The events of the second are not dropped."""
    (tmp_path / "own.aedat4").write_bytes(aedat4(*((n, []) for n in range(len(streams))), streams=streams))
    with pytest.raises(DataError, match=f"must hold the events of one camera; found {count} streams"):
        read_events(tmp_path / "own.aedat4")


def test_a_file_without_packets_holds_no_events(tmp_path, aedat4):
    """A recording that was stopped at once is whole, and empty."""
    (tmp_path / "own.aedat4").write_bytes(aedat4())
    assert len(read_events(tmp_path / "own.aedat4")) == 0


def not_utf8(content):
    return content.replace(b"outInfo", b"outI\xfffo")


def endless_vector(content):
    at = content.rindex(b"EVTS")
    return content[: at + 16] + b"\xff\xff\xff\x7f" * 5 + content[at + 36 :]


@pytest.mark.parametrize(
    "damage",
    [
        not_utf8,
        endless_vector,
        lambda content: content[:10],
        lambda content: content[:16],
        lambda content: content[:300],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:14] + b"\xff\xff\xff\xff" + content[18:],
        lambda content: content[:18] + b"\xff\xff\xff\x7f" + content[22:],
        lambda content: content.replace(b"</dv>", b"</dw>"),
        lambda content: content[: content.rindex(b"EVTS") - 16] + b"\7" + content[content.rindex(b"EVTS") - 15 :],
    ],
)
def test_damaged_files_are_refused_without_ending_the_process(tmp_path, aedat4, damage):
    """aedat aborts over a header that is no UTF-8; run apart, as it would take the tests along, with nothing on its lips."""
    path = tmp_path / "own.aedat4"
    path.write_bytes(damage(aedat4(EVENTS)))
    code = (
        "import sys, pathlib\n"
        "from tet_deploy.data.event_files import read_events\n"
        "from tet_deploy.errors import ArtifactError\n"
        "try: read_events(pathlib.Path(sys.argv[1]))\n"
        "except ArtifactError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{path}: ")
    assert "amaged" in done.stdout


@pytest.mark.parametrize("seed", range(4))
def test_no_change_of_a_file_surprises(tmp_path, aedat4, seed):
    """Bits flipped, bytes overwritten: events, or an error of ours, and no panic of aedat's."""
    rng = np.random.default_rng(seed)
    whole = aedat4(EVENTS)
    for _ in range(300):
        content = np.frombuffer(whole, np.uint8).copy()
        content[rng.integers(14, len(content), rng.integers(1, 4))] = rng.integers(0, 256)
        (tmp_path / "own.aedat4").write_bytes(content.tobytes())
        try:
            assert read_stream(tmp_path / "own.aedat4").events.dtype.names == ("x", "y", "t", "p")
        except (ArtifactError, DataError) as error:
            assert "panick" not in str(error)
