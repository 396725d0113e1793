"""Damage to bytes, to JSON and to protobuf messages; `containers.py` has that to files of parts.

Each takes content and a random generator, and the same generator gives the same damage. What comes out stays small, whatever
sizes it claims.
"""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64)
FLOATS = (float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-45, 1e6, -1.0, -0.0)
TEXTS = ("", "x", "../../evil", "/abs", "a" * 300, "é" * 200, "<b>\n\x1b[2J" * 40, "__metadata__")
_RAW = ("NaN", "Infinity", "-Infinity", "1e999", "1e-320", "0.5", "-0.0", "null", "true", "false", "[]", "{}", "[0]", "[-1]")
_RAW += ("[1, 2, 3, 4, 5, 6, 7, 8, 9]", "[1099511627776, 1099511627776]", '"\\ud800"', '"\\u0000"', "1" * 31)
_PLACE = "\ue000place\ue000"  # stands in a value for JSON text that no value can be


def damage_bytes(content: bytes, rng: Random) -> bytes:
    """One to three times: flip bits, cut, take out, repeat, insert, or write a number or zeros over something."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _damage_once(data, rng)
    return bytes(data)


def _damage_once(data: bytearray, rng: Random) -> None:
    start = rng.randrange(len(data) + 1)
    stop = min(len(data), start + rng.choice((1, 2, 4, 8, 16, 64, 1024)))
    match rng.randrange(8):
        case 0 | 1 if data:
            for _ in range(rng.choice((1, 1, 1, 4, 16))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            del data[start:]
        case 3:
            del data[start:stop]
        case 4:
            data[start:start] = data[start:stop] * rng.choice((1, 1, 2, 100))
        case 5:
            data[start:start] = rng.randbytes(rng.choice((1, 8, 100)))
        case 6:
            data[start:stop] = bytes(stop - start)
        case _:
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(NUMBERS) % (1 << 8 * width)
            data[start : start + width] = number.to_bytes(width, rng.choice(("little", "big")))


def damage_json(text: str, rng: Random) -> str:
    """The text with one entry replaced, taken out, doubled, added, or nested deeply."""
    value = json.loads(text)
    places = list(_places(value))
    others = [holder[key] for holder, key in places]
    hostile = hostile_json(rng, others)
    if not places or rng.random() < 0.01:
        return hostile
    holder, key = rng.choice(places)
    entry = holder[key]
    holder[key] = _PLACE
    match rng.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            hostile = f"{json.dumps(entry)}, {json.dumps(key)}: {rng.choice((hostile, json.dumps(entry)))}"
        case 2 if isinstance(holder, dict):
            hostile = f"{json.dumps(entry)}, {json.dumps(rng.choice((*TEXTS, str(rng.choice(places)[1]))))}: {hostile}"
        case 1 | 2:
            hostile = f"{json.dumps(entry)}, {rng.choice((hostile, json.dumps(entry)))}"
        case 3 if type(entry) in (int, float):
            changed = (entry + 1, entry - 1, -entry, entry * 2, entry / 2, float(entry), bool(entry), str(entry))
            hostile = json.dumps(rng.choice(changed))
    return json.dumps(value).replace(json.dumps(_PLACE), hostile)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every entry of nested objects and lists, as what holds it and its key."""
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, entry in pairs:
        yield value, key
        yield from _places(entry)


def hostile_json(rng: Random, others: list[Any]) -> str:
    """The JSON text of a value that nobody expects, or of one that stands elsewhere."""
    match rng.randrange(8):
        case 0 | 1:
            return str(rng.choice((*NUMBERS, -(2**63))))
        case 2 | 3:
            return rng.choice(_RAW)
        case 4:
            return json.dumps(rng.choice(TEXTS))
        case 5:
            depth = rng.choice((3, 100, 900, 1100, 20_000))
            return rng.choice(("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth))
        case 6:
            return rng.choice(("9" * 5000, json.dumps("b" * 100_000)))
        case _:
            return json.dumps(rng.choice(others)) if others else "0"


def damage_message(message: Any, rng: Random) -> None:
    """Change one field of a protobuf message, however deep: a number, a text, bytes; or drop, double or move a part."""
    fields = list(_fields(message))
    holder, field, value = rng.choice(fields)
    texts = tuple(entry for _, _, entry in fields if isinstance(entry, str))
    if not field.is_repeated and field.message_type is None:
        _assign(lambda new: setattr(holder, field.name, new), value, rng, texts)
    elif not field.is_repeated:
        holder.ClearField(field.name)
    elif field.message_type is None:
        index = rng.randrange(len(value))
        _assign(lambda new: value.__setitem__(index, new), value[index], rng, texts)
    else:
        index, other = rng.randrange(len(value)), rng.randrange(len(value))
        match rng.randrange(3):
            case 0:
                del value[index]
            case 1:
                value.add().CopyFrom(value[index])
            case _:
                value[index].CopyFrom(value[other])


def _fields(message: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Every field that is set, in the message and in those within it."""
    for field, value in message.ListFields():
        yield message, field, value
        if field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                yield from _fields(part)


def _assign(assign: Any, value: Any, rng: Random, texts: tuple[str, ...]) -> None:
    if isinstance(value, str):
        own_json = value.startswith("{") and rng.random() < 0.7
        new = damage_json(value, rng) if own_json else rng.choice((*texts, *TEXTS))
    elif isinstance(value, bytes):
        new = damage_bytes(value, rng)
    else:
        new = rng.choice(FLOATS if isinstance(value, float) else (*NUMBERS, value + 1, value - 1, -value))
    try:
        assign(new)
    except (ValueError, TypeError):  # what protobuf cannot write, no file can hold
        assign(value)
