"""How large an object of a git repository is, found without unpacking it.

It reads headers alone (gitformat-pack): dulwich gives an object whole or not at all, and one of some kilobytes on disk
can be of gigabytes.
"""

import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from dulwich.object_store import DiskObjectStore
from dulwich.objects import ObjectID, RawObjectID, hex_to_sha

OFS_DELTA, REF_DELTA = 6, 7
MAX_CHAIN = 10_000  # deltas upon deltas; git makes at most 4,095
ID_BYTES = 20


class Measure(NamedTuple):
    """What an object takes, in bytes."""

    size: int  # its own
    largest: int  # of itself and all that it is kept as a difference to: they are unpacked to read it


def measure_object(store: DiskObjectStore, object_id: ObjectID, chain: int = MAX_CHAIN) -> Measure:
    """The sizes of an object. Raises KeyError where the repository has none, or only a part of it."""
    raw_id = RawObjectID(hex_to_sha(object_id))
    for pack in store.packs:
        try:
            offset = pack.index.object_offset(raw_id)
        except KeyError:
            continue
        with Path(pack.data.path).open("rb") as file:
            return _measure_packed(store, file, offset, chain)
    loose = Path(store.path, object_id[:2].decode(), object_id[2:].decode())
    if not loose.is_file():
        for alternate in store.alternates:
            if isinstance(alternate, DiskObjectStore) and object_id in alternate:
                return measure_object(alternate, object_id, chain)
        raise KeyError(object_id)
    with loose.open("rb") as file:
        header = _inflate(file, 40)  # "blob 1234\0"
    size = int(header.split(b"\0")[0].split()[1])
    return Measure(size, size)


def _measure_packed(store: DiskObjectStore, file: BinaryIO, offset: int, chain: int) -> Measure:
    sizes: list[int] = []  # of the object, then of what it is a difference to
    for left in range(chain, 0, -1):
        file.seek(offset)
        byte = _read_byte(file)
        kind, size, shift = (byte >> 4) & 7, byte & 15, 4
        while byte & 128:
            byte = _read_byte(file)
            size |= (byte & 127) << shift
            shift += 7
        if kind == OFS_DELTA:
            byte = _read_byte(file)
            back = byte & 127
            while byte & 128:
                byte = _read_byte(file)
                back = ((back + 1) << 7) | (byte & 127)
            sizes += [*_read_delta_sizes(file), size]
            offset -= back
        elif kind == REF_DELTA:
            base = ObjectID(file.read(ID_BYTES).hex().encode())
            sizes += [*_read_delta_sizes(file), size]
            return Measure(sizes[0], max(*sizes, measure_object(store, base, left - 1).largest))
        else:
            sizes.append(size)
            return Measure(sizes[0], max(sizes))
    raise KeyError("a chain of differences without an end")


def _read_delta_sizes(file: BinaryIO) -> list[int]:
    """Sizes of what a delta makes, and of what it is made from."""
    data = iter(_inflate(file, 20))
    sizes: list[int] = []
    for _ in range(2):
        size = shift = 0
        for byte in data:
            size |= (byte & 127) << shift
            shift += 7
            if not byte & 128:
                break
        sizes.insert(0, size)
    return sizes


def _inflate(file: BinaryIO, length: int) -> bytes:
    """The first bytes of a compressed stream."""
    return zlib.decompressobj().decompress(file.read(1024), length)


def _read_byte(file: BinaryIO) -> int:
    byte = file.read(1)
    if not byte:
        raise KeyError("the pack ends early")
    return byte[0]
