"""Ways to spoil bytes, text headers and JSON, used by many kinds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

NUMBERS = (
    "0", "-1", "1", "2", "nan", "inf", "-inf", "1e308", "1e-308", "0.5", "65535", "65536", "2147483647",
    "2147483648", "-2147483649", "4294967296", "9223372036854775807", "9223372036854775808", "99999999999",
    "1e400", "1_0", "٣", "0x10", "",
)  # fmt: skip
TEXTS = (
    "", " ", "x", "x" * 1100, "é" * 600, "../../x", "/etc/passwd", "a\x00b", "\u202egnp", "[red]x[/red]",
    "\x1b[31mx", "=1+1", "%s%n%d", "\ud800", "💥", "con", "liver", "unknown",
)  # fmt: skip


def extreme_value(random: Random) -> Any:
    """Return a JSON value that is of another type or far out of range."""
    deep: Any = 1
    for _ in range(random.choice((3, 200, 5000))):
        deep = [deep]
    return random.choice(
        (
            None, True, False, 0, -1, 1, 2, 3, 0.5, -0.0, 2**31, 2**63, -(2**63) - 1, 10**30, 1e308,
            float("nan"), float("inf"), [], {}, [1], [[]], {"a": 1}, [None] * 3, deep,
            list(range(2000)), *TEXTS,
        )
    )  # fmt: skip


def spoil_bytes(random: Random, data: bytes) -> tuple[bytes, str]:
    """Change bytes at random places."""
    size = len(data)
    start = random.randrange(size + 1)
    length = random.choice((1, 2, 4, 8, 100, max(size // 3, 1)))
    end = min(start + length, size)
    junk = random.randbytes(end - start)
    name = random.choice(
        ("flip", "zeros", "ones", "junk", "cut", "insert", "drop", "double", "append", "empty")
    )
    if name == "flip":
        spoilt = bytearray(data)
        for _ in range(random.choice((1, 1, 3, 20))):
            if size:
                spoilt[random.randrange(size)] ^= 1 << random.randrange(8)
        return bytes(spoilt), "flip"
    changed = {
        "zeros": data[:start] + bytes(end - start) + data[end:],
        "ones": data[:start] + b"\xff" * (end - start) + data[end:],
        "junk": data[:start] + junk + data[end:],
        "cut": data[:start],
        "insert": data[:start] + junk + data[start:],
        "drop": data[:start] + data[end:],
        "double": data[:end] + data[start:],
        "append": data + random.randbytes(length),
        "empty": b"",
    }[name]
    return changed, f"{name} {start}+{end - start}"


def spoil_file(random: Random, path: Path, first: int | None = None) -> str:
    """Change bytes of a file, of its first `first` bytes alone where given."""
    data = path.read_bytes()
    first = len(data) if first is None else first
    head, what = spoil_bytes(random, data[:first])
    path.write_bytes(head + data[first:])
    return f"{path.name}: {what}"


def spoil_lines(random: Random, header: bytes, separator: bytes) -> tuple[bytes, str]:
    """Change the lines `key separator value` of a text header."""
    lines = header.split(b"\n")
    at = random.randrange(len(lines))
    key, found, value = lines[at].partition(separator)
    other = lines[random.randrange(len(lines))]
    text = random.choice((*NUMBERS, *TEXTS)).encode("utf-8", "surrogatepass")
    choices: dict[str, Callable[[], list[bytes]]] = {
        "value": lambda: [key + found + b" " + text],
        "number": lambda: [key + found + _spoil_number(random, value)],
        "drop": list,
        "twice": lambda: [lines[at], lines[at]],
        "twice, differing": lambda: [lines[at], key + found + _spoil_number(random, value)],
        "case": lambda: [key.swapcase() + found + value],
        "swapped": lambda: [other],
        "value of another": lambda: [key + found + other.partition(separator)[2]],
        "long line": lambda: [lines[at], b"x" * random.choice((1100, 70_000))],
        "long value": lambda: [lines[at] + b" 1" * random.choice((500, 40_000))],
        "no UTF-8": lambda: [lines[at], b"key\xff\xe9:=v\xff" if separator == b":" else b"k\xff = v\xff"],
        "control": lambda: [key + found + b"\x00\x1b[31m" + value],
        "blank": lambda: [b"", lines[at]],
        "carriage return": lambda: [lines[at] + b"\r"],
        "spaces": lambda: [b"  " + key + b"  " + found + b"   " + value],
        "file": lambda: [key + found + b" " + random.choice(DATA_FILES)],
    }
    name = random.choice(list(choices))
    shown = lines[at][:30].decode("utf-8", "replace")
    return b"\n".join([*lines[:at], *choices[name](), *lines[at + 1 :]]), f"'{shown}' {name}"


DATA_FILES = (
    b"LIST", b"LIST 2", b"%d.raw 1 3 1", b"d%d.raw 1 99999999999 1", b"d%09999999999d.raw 1 2 1",
    b"%s%d 1 2 1", b"%n.raw 1 2 1", b"x%03d.raw 0 1 1 2", b"../../../etc/passwd", b"/dev/zero", b"/dev/stdin",
    b".", b"", b"LOCAL", b"a\x00b", b"http://localhost/x.raw", b"x" * 5000, b"%d.raw 5 1 1", b"%d.raw 1 9 0",
)  # fmt: skip


def _spoil_number(random: Random, value: bytes) -> bytes:
    found = list(re.finditer(rb"[-+]?[0-9.]+(?:e[-+]?\d+)?", value))
    if not found:
        return value + random.choice(NUMBERS).encode()
    match = random.choice(found)
    return value[: match.start()] + random.choice(NUMBERS).encode() + value[match.end() :]


def spoil_tree(
    random: Random, value: Any, *, extreme: Callable[[Random], Any] = extreme_value
) -> tuple[Any, str]:
    """Change one place of nested dictionaries and lists, which are copied.

    Returns:
        The changed value, and what was done.
    """
    places = list(_places(value))
    path = random.choice(places)
    name = random.choice(("value", "value", "near", "near", "drop", "wrap", "key", "add", "repeat", "swap"))
    other = _at(value, random.choice(places))
    shown = "/".join(map(str, path))[:60]
    if not path:
        return (extreme(random) if random.random() < 0.2 else [value]), "the whole"
    return _changed(random, value, path, name, other, extreme), f"{name} {shown}"


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    yield path
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return
    for key, inner in items:
        yield from _places(inner, (*path, key))


def _at(value: Any, path: Sequence[Any]) -> Any:
    for key in path:
        value = value[key]
    return value


def _changed(
    random: Random, value: Any, path: Sequence[Any], name: str, other: Any, extreme: Callable[[Random], Any]
) -> Any:
    key, *rest = path
    if rest:
        inner = _changed(random, value[key], rest, name, other, extreme)
        if isinstance(value, dict):
            return {each: inner if each == key else old for each, old in value.items()}
        return [inner if each == key else old for each, old in enumerate(value)]
    new = {
        "value": lambda: extreme(random),
        "near": lambda: _near(random, value[key]),
        "wrap": lambda: [value[key]],
        "swap": lambda: other,
    }.get(name)
    if isinstance(value, dict):
        copy = dict(value)
        if name == "drop":
            copy.pop(key)
        elif name == "key":
            copy[random.choice((*TEXTS, *NUMBERS))] = copy.pop(key)
        elif name in ("add", "repeat"):
            copy[random.choice((*TEXTS, *NUMBERS))] = copy[key] if name == "repeat" else extreme(random)
        elif new:
            copy[key] = new()
        return copy
    items = list(value)
    if name == "drop":
        items.pop(key)
    elif name in ("repeat", "add", "key"):
        items.insert(key, items[key] if name == "repeat" else extreme(random))
    elif new:
        items[key] = new()
    return items


def _near(random: Random, value: Any) -> Any:
    """Return another value of the same type, which may well be valid."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return random.choice((value + 1, value - 1, value * 2, -value, value * 1000, type(value)(0)))
    if isinstance(value, str):
        return random.choice((value + "x", value[:-1], value.upper(), f" {value}", value[::-1], value * 50))
    if isinstance(value, dict):
        return dict(reversed(value.items()))
    return list(reversed(value)) if isinstance(value, (list, tuple)) else value


def write_json(random: Random, value: Any, path: Path) -> str:
    """Write JSON, sometimes with a key twice, in another encoding, cut off or with a byte changed."""
    text = json.dumps(value, ensure_ascii=random.random() < 0.5, indent=random.choice((None, 2)))
    name = random.choice(
        ("plain",) * 12 + ("key twice", "utf-8-sig", "utf-16", "latin-1", "bytes", "comment")
    )
    if name == "key twice":
        keys = sorted(set(re.findall(r'"[^"\n]*"(?=:)', text)))
        if len(keys) > 1:
            one, another = random.sample(keys, 2)
            text = text.replace(f"{one}:", f"{another}:", 1)
    if name == "comment":
        text = "// x\n" + text
    data = text.encode(name if name in ("utf-8-sig", "utf-16", "latin-1") else "utf-8", "replace")
    if name == "bytes":
        data, name = spoil_bytes(random, data)
    path.write_bytes(data)
    return "" if name == "plain" else f", {name}"


def spoil_json(random: Random, path: Path) -> str:
    """Change a JSON file in one to three places, or its bytes."""
    if random.random() < 0.15:
        return spoil_file(random, path)
    value, done = json.loads(path.read_bytes()), []
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value, what = spoil_tree(random, value)
        done.append(what)
    return "; ".join(done) + write_json(random, value, path)
