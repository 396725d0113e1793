"""Files that more than one test of event data needs."""

import struct

import pytest

_STREAM = (
    '<node name="{id}" path="/outInfo/{id}/"><attr key="typeIdentifier" type="string">{kind}</attr>'
    '<node name="info" path="/outInfo/{id}/info/"><attr key="sizeX" type="int">{width}</attr>'
    '<attr key="sizeY" type="int">{height}</attr></node></node>'
)


def _header(flatbuffers, streams, compression, size):
    """Compression (0: none, 3: zstd), position of a table (-1: none), and the description of the streams."""
    nodes = "".join(_STREAM.format(id=n, kind=kind, width=size[0], height=size[1]) for n, kind in enumerate(streams))
    builder = flatbuffers.Builder(0)
    info = builder.CreateString(f'<dv version="2.0"><node name="outInfo" path="/outInfo/">{nodes}</node></dv>')
    builder.StartObject(3)
    builder.PrependInt32Slot(0, compression, 1)
    builder.PrependInt64Slot(1, -1, 0)
    builder.PrependUOffsetTRelativeSlot(2, info, 0)
    builder.FinishSizePrefixed(builder.EndObject(), file_identifier=b"IOHE")
    return bytes(builder.Output())


def _packet(flatbuffers, events, kind):
    builder = flatbuffers.Builder(0)
    builder.StartVector(16, len(events), 8)
    for x, y, t, p in reversed(events):
        builder.Prep(8, 16)
        builder.Pad(3)
        builder.PrependBool(bool(p))
        builder.PrependInt16(y)
        builder.PrependInt16(x)
        builder.PrependInt64(t)
    elements = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, elements, 0)
    builder.FinishSizePrefixed(builder.EndObject(), file_identifier=kind.encode())
    return bytes(builder.Output())


def _zstd(content):
    """A frame of zstd with one raw block."""
    block = (len(content) << 3 | 1).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(content)) + block + content


@pytest.fixture(scope="session")
def aedat4():
    """Makes the bytes of a file in DV's format from events (x, y, t, p): a version line, a header, and packets."""
    flatbuffers = pytest.importorskip("flatbuffers", reason="writes .aedat4")
    pytest.importorskip("aedat", reason="reads .aedat4: pip install aedat")

    def make(*packets, streams=("EVTS",), compression=0, size=(128, 128)):
        """Each packet is a list of events of stream 0, or (number of the stream, list)."""
        content = b"#!AER-DAT4.0\r\n" + _header(flatbuffers, streams, compression, size)
        for packet in packets:
            stream, events = packet if isinstance(packet, tuple) else (0, packet)
            body = _packet(flatbuffers, events, streams[stream])
            body = _zstd(body) if compression else body
            content += struct.pack("<ii", stream, len(body)) + body
        return content

    return make
