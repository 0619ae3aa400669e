"""Float arrays of HDF5 files as Keras wrote its weights (.h5), without the HDF5 library.

The oldest layout only, which h5py still writes unless told otherwise: superblock 0, groups by B-trees, arrays in one piece. Source:
"HDF5 File Format Specification Version 3.0", The HDF Group, sections II.A, III.A.1, III.B, III.D, IV.A. Errors are DataError
without the file's name.
"""

import math
import struct

import numpy as np

from microscopy.scan import DataError

MAGIC = b"\x89HDF\r\n\x1a\n"
_OTHER = "is an HDF5 file of a newer or compressed layout; read it with h5py and save its arrays by np.savez under their names in it"
_DAMAGED = "is a damaged HDF5 file; copy it again"
_DATASPACE, _DATATYPE, _LAYOUT, _CONTINUATION, _SYMBOL_TABLE = 0x01, 0x03, 0x08, 0x10, 0x11


def read_hdf5(content: bytes) -> dict[str, np.ndarray]:
    """Returns {`group/group/name`: array} of the float arrays of an HDF5 file; others are left out.

    Raises DataError for a newer layout, compressed arrays, and for a file that ends early or refers to itself.
    """
    if content[8:9] != b"\x00" or content[13:15] != b"\x08\x08":
        raise DataError(_OTHER)
    try:
        return _Reader(content).arrays()
    except (struct.error, IndexError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(_DAMAGED) from error


class _Reader:
    """The file, and the addresses of objects met so far: one that is met again would make a walk without end."""

    def __init__(self, content: bytes):
        self.content, self.met, self.bytes_read = content, set(), 0

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays below the root group."""
        (base,), (root,) = self.unpack("<Q", 24), self.unpack("<Q", 64)
        if base:
            raise DataError(_OTHER)
        found: dict[str, np.ndarray] = {}
        waiting = [("", root)]
        while waiting:
            path, address = waiting.pop()
            messages = self.messages(address)
            if _SYMBOL_TABLE in messages:
                tree, heap = struct.unpack_from("<QQ", messages[_SYMBOL_TABLE])
                waiting += [(f"{path}/{name}" if path else name, child) for name, child in self.members(tree, heap)]
            elif {_DATASPACE, _DATATYPE, _LAYOUT} <= messages.keys():
                array = self.array(messages[_DATASPACE], messages[_DATATYPE], messages[_LAYOUT])
                found |= {} if array is None else {path: array}
            elif path == "" or 0x02 in messages:
                raise DataError(_OTHER)
        return found

    def unpack(self, layout: str, address: int) -> tuple:
        """Returns the numbers at an address."""
        return struct.unpack_from(layout, self.content, address)

    def once(self, address: int, magic: bytes = b"") -> None:
        """Checks what stands at an address, met for the first time."""
        if address in self.met or self.content[address : address + len(magic)] != magic:
            raise ValueError(f"wrong or repeated object at {address}")
        self.met.add(address)

    def messages(self, address: int) -> dict[int, bytes]:
        """Returns kind -> body of the messages of an object header of version 1, the first of each kind."""
        self.once(address)
        if self.content[address] != 1:
            raise DataError(_OTHER)
        (size,) = self.unpack("<I", address + 8)
        found: dict[int, bytes] = {}
        blocks = [(address + 16, size)]
        while blocks:
            start, size = blocks.pop()
            end = start + size
            while start + 8 <= end:
                kind, size, flags = self.unpack("<HHB", start)
                body = self.content[start + 8 : start + 8 + size]
                if kind == _CONTINUATION:
                    blocks.append(struct.unpack("<QQ", body[:16]))
                    self.once(blocks[-1][0])
                elif kind in (_DATASPACE, _DATATYPE, _LAYOUT) and flags & 2:
                    raise DataError(_OTHER)
                found.setdefault(kind, body)
                start += 8 + size
        return found

    def members(self, tree: int, heap: int) -> list[tuple[str, int]]:
        """Returns (name, address of the object header) of a group's members."""
        self.once(heap, b"HEAP")
        (names,) = self.unpack("<Q", heap + 24)
        found, waiting = [], [tree]
        while waiting:
            node = waiting.pop()
            if self.content[node : node + 4] == b"SNOD":
                self.once(node, b"SNOD")
                for place in range(self.unpack("<H", node + 6)[0]):
                    offset, header = self.unpack("<QQ", node + 8 + 40 * place)
                    start = names + offset
                    found.append((self.content[start : self.content.index(b"\x00", start)].decode("utf-8"), header))
            else:
                self.once(node, b"TREE")
                (count,) = self.unpack("<H", node + 6)
                waiting += [self.unpack("<Q", node + 32 + 16 * place)[0] for place in range(count)]
        return found

    def array(self, space: bytes, kind: bytes, layout: bytes) -> np.ndarray | None:
        """Returns an array, None if it holds no IEEE floats of 2, 4 or 8 bytes."""
        (size,) = struct.unpack_from("<I", kind, 4)
        if kind[0] & 15 != 1 or size not in (2, 4, 8):
            return None
        version, rank = space[:2]
        shape = struct.unpack_from(f"<{rank}Q", space, 8 if version == 1 else 4)
        if layout[0] not in (3, 4) or layout[1] != 1:
            raise DataError(_OTHER)
        address, stored = struct.unpack_from("<QQ", layout, 2)
        self.bytes_read += math.prod(shape) * size
        if stored < math.prod(shape) * size or self.bytes_read > len(self.content):
            raise ValueError("an array larger than the file")
        order = ">" if kind[1] & 1 else "<"
        return np.frombuffer(self.content, f"{order}f{size}", math.prod(shape), address).reshape(shape)
