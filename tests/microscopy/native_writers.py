"""Scan files written value by value from the formats' descriptions, for the tests of the readers: no line is shared with them.

Pictures are given as one sees them, row 0 at the top; each writer stores them in its format's own order.
"""

import io
import struct

import numpy as np
import tifffile


def sxm(channels, range_m=(2e-8, 1e-8), direction="down", bias="-4.000E-1", pixels=None, kind="FLOAT            MSBFIRST"):
    """Nanonis. `channels`: [(name, unit, "both" | "forward" | "backward", pictures)]; range (x, y)."""
    height, width = channels[0][3][0].shape
    rows = "".join(f"\t{14 + i}\t{name}\t{unit}\t{way}\t3.000E-8\t0.000E+0\n" for i, (name, unit, way, _) in enumerate(channels))
    header = (
        f":NANONIS_VERSION:\n2\n:SCANIT_TYPE:\n              {kind}\n:REC_DATE:\n 07.01.2016\n:SCAN_PIXELS:\n"
        f"       {pixels or f'{width}       {height}'}\n:SCAN_RANGE:\n           {range_m[0]:E}           {range_m[1]:E}\n"
        f":SCAN_ANGLE:\n            0.000E+0\n:SCAN_DIR:\n{direction}\n:BIAS:\n            {bias}\n"
        f":COMMENT:\n\n:DATA_INFO:\n\tChannel\tName\tUnit\tDirection\tCalibration\tOffset\n{rows}\n:SCANIT_END:\n\n\n"
    )
    body = b""
    for _, _, way, pictures in channels:
        ways = ("forward", "backward") if way == "both" else (way,)
        for each, picture in zip(ways, pictures, strict=True):
            order = range(height - 1, -1, -1) if direction == "up" else range(height)
            for y in order:  # line by line as the tip travels
                line = [float(v) for v in picture[y]]
                body += struct.pack(f">{width}f", *(reversed(line) if each == "backward" else line))
    return header.encode("latin-1") + b"\x1a\x04" + body


def gwy_part(name, kind, content):
    return name.encode() + b"\0" + kind.encode() + content


def gwy_object(name, *parts):
    body = b"".join(parts)
    return name.encode() + b"\0" + struct.pack("<I", len(body)) + body


def gwy_field(picture, real=(1e-6, 2e-6), units=("m", "m"), extra=b""):
    """A GwyDataField: `real` (y, x) in units[0], values in units[1]."""
    height, width = picture.shape
    unit_xy, unit_z = (gwy_object("GwySIUnit", gwy_part("unitstr", "s", unit.encode() + b"\0")) for unit in units)
    values = b"".join(struct.pack("<d", float(v)) for line in picture for v in line)
    return gwy_object(
        "GwyDataField",
        gwy_part("xres", "i", struct.pack("<i", width)),
        gwy_part("yres", "i", struct.pack("<i", height)),
        gwy_part("xreal", "d", struct.pack("<d", real[1])),
        gwy_part("yreal", "d", struct.pack("<d", real[0])),
        gwy_part("si_unit_xy", "o", unit_xy),
        gwy_part("si_unit_z", "o", unit_z),
        extra,
        gwy_part("data", "D", struct.pack("<I", height * width) + values),
    )


def gwy(fields, titles, *others):
    parts = [gwy_part(f"/{i}/data/title", "s", title.encode() + b"\0") for i, title in enumerate(titles)]
    parts += [gwy_part(f"/{i}/data", "o", field) for i, field in enumerate(fields)]
    return b"GWYP" + gwy_object("GwyContainer", *others, *parts)


def ibw(layers, step=(2e-9, 1e-9), order="<", kind=(2, "f"), units=("m", "m"), dims=None, note=b"ScanSize: 1\r"):
    """Igor wave version 5. `layers`: {label: picture}; step (y, x) in units[1], values in units[0]."""
    names = list(layers)
    height, width = layers[names[0]].shape
    code, letter = kind
    values = [v for name in names for line in layers[name][::-1] for v in line]  # x fastest, the lowest line first
    values = values if letter in "fd" else [int(v) for v in values]
    data = struct.pack(f"{order}{len(values)}{letter}", *values)
    labels = b"".join(name.encode().ljust(32, b"\0") for name in ["", *names])
    nx, ny, nz, nt = dims or (width, height, len(names), 0)
    wave = struct.pack(order + "3I I 2H 6s H 32s 2I", 0, 0, 0, len(values), code, 0, b"", 1, b"scan", 0, 0)
    wave += struct.pack(order + "4I 4d 4d", nx, ny, nz, nt, step[1], step[0], 1, 1, 0, 0, 0, 0)
    wave += units[0].encode().ljust(4, b"\0") + 2 * units[1].encode().ljust(4, b"\0") + bytes(8)
    wave = wave.ljust(320, b"\0")
    sizes = [320 + len(data), 0, len(note), 0, 0, 0, 0, 0, 0, 0, len(labels), 0, 0, 0, 0]
    head = struct.pack(order + "H H 15I", 5, 0, *sizes) + wave
    total = sum(struct.unpack(f"{order}{len(head) // 2}H", head))
    head = head[:2] + struct.pack(order + "H", -total & 0xFFFF) + head[4:]
    return head + data + note + labels


def nid(channels, low=-1e-5, span=2e-5, bits=16, range_m=(1e-6, 2e-6), extra=()):
    """Nanosurf. `channels`: [(frame, name, unit, picture of integers)], each in a group of its own."""
    lines = ["[DataSet]", "Version=2", f"GroupCount={len(channels)}"]
    for i, (frame, *_) in enumerate(channels):
        lines += [f"Gr{i}-Name={frame}", f"Gr{i}-ID=0", f"Gr{i}-Count=3", f"Gr{i}-Ch1=DataSet-{i}:1"]
    lines += ["[DataSet-Info]", "-- Scan --=--------", "Scan direction=Up", *extra]
    body = b""
    for i, (frame, name, unit, picture) in enumerate(channels):
        height, width = picture.shape
        lines += [f"[DataSet-{i}:1]", "Version=2", f"Points={width}", f"Lines={height}", f"Frame={frame}"]
        lines += ["Dim0Name=X*", "Dim0Unit=m", f"Dim0Range={range_m[1]}", "Dim0Min=0", "Dim1Unit=m", f"Dim1Range={range_m[0]}"]
        lines += [f"Dim2Name={name}", f"Dim2Unit={unit}", f"Dim2Range={span}", f"Dim2Min={low}", "SaveMode=Binary"]
        lines += [f"SaveBits={bits}", "SaveSign=Signed", "SaveOrder=Intel"]
        letter = {8: "b", 16: "h", 32: "i"}[bits]
        for line in picture[::-1]:
            body += struct.pack(f"<{width}{letter}", *(int(v) for v in line))
    return "\r\n".join(lines).encode("latin-1") + b"\r\n#!" + body


def nanoscope(images, version="0x05310001", sens=("Zscan", "8.5 nm/V"), size="1 0.5 ~m", general=(), changes=()):
    """NanoScope. `images`: [(name, line direction, Z scale text after "V ", bytes a pixel stated, bytes stored, picture of integers)]."""
    length, body, lists = 8192, b"", []
    for name, way, scale, stated, width, picture in images:
        height, columns = picture.shape
        data = b"".join(struct.pack(f"<{columns}{'h' if width == 2 else 'i'}", *(int(v) for v in line)) for line in picture[::-1])
        lists += ["\\*Ciao image list", f"\\Data offset: {length + len(body)}", f"\\Data length: {len(data)}", f"\\Bytes/pixel: {stated}"]
        lists += [f"\\Samps/line: {columns}", f"\\Number of lines: {height}", "\\Aspect ratio: 1:1", f"\\Scan size: {size}"]
        lists += [f"\\Line direction: {way}", f'\\@2:Image Data: S [{name}] "{name}"', "\\@Z magnify: C [2:Z scale] 1.91"]
        lists += [f"\\@2:Z scale: V {scale}", "\\@2:Z offset: V [Sens. Zscan] (0.0067 V/LSB)       0 V"]
        body += data
    lines = ["\\*File list", f"\\Version: {version}", f"\\Data length: {length}", "\\*Scanner list", f"\\@Sens. {sens[0]}: V {sens[1]}"]
    lines += ["\\*Ciao scan list", "\\Operating mode: Image", *general, *lists, "\\*File list end", "\x1a"]
    text = "\r\n".join(lines)
    for old, new in changes:
        text = text.replace(old, new)
    return text.encode("latin-1").ljust(length, b"\0") + body


def wsxm(picture, kind="double", z="60 nm", x="500 nm", y="250 nm", changes=()):
    """WSxM: from the lower right end of the picture."""
    height, width = picture.shape
    letter = {"short": "h", "double": "d", "float": "f"}[kind]
    values = [v for line in picture[::-1] for v in reversed(list(line))]
    lines = ["WSxM file copyright UAM", "SxM Image file", "Image header size: 0000", "", "[Control]", "", "    Topography Bias: 250 mV"]
    lines += [f"    X Amplitude: {x}", "    X Offset: 0 nm", f"    Y Amplitude: {y}", "", "[General Info]", ""]
    lines += ["    Acquisition channel: Topography", f"    Image Data Type: {kind}", f"    Number of columns: {width}"]
    lines += [f"    Number of rows: {height}", "    X scanning direction: Backward", f"    Z Amplitude: {z}", "", "[Header end]", ""]
    text = "\r\n".join(lines)
    for old, new in changes:
        text = text.replace(old, new)
    text = text.replace("0000", f"{len(text):04d}", 1)
    values = values if letter != "h" else [int(v) for v in values]
    return text.encode("latin-1") + struct.pack(f"<{len(values)}{letter}", *values)


def park(picture, gain=-2.5, kind=2, size_um=(1.5, 3.0), unit="um", forward=1, category=0, shape=None, preview=None):
    """Park TIFF: `picture` of stored values; size (y, x)."""
    height, width = shape or picture.shape
    header = bytearray(580)
    struct.pack_into("<i", header, 0, category)
    for place, words in ((4, "Topography"), (68, "NCM"), (244, unit)):
        header[place : place + 2 * len(words)] = words.encode("utf-16-le")
    struct.pack_into("<2i", header, 100, width, height)
    struct.pack_into("<3i", header, 128, forward, 0, 0)
    struct.pack_into("<2d", header, 140, size_um[1], size_um[0])
    struct.pack_into("<5d", header, 204, 0.0, 0.75, gain, 1.0, 0.0)
    struct.pack_into("<i", header, 348, kind)
    letter = ("h", "i", "f")[kind]
    values = [v if letter == "f" else int(v) for line in picture[::-1] for v in line]
    data = struct.pack(f"<{len(values)}{letter}", *values)
    tags = [(50432, "I", 1, 0x0E031301, True), (50433, "I", 1, 0x01000002, True)]
    tags += [(50434, "B", len(data), data, True), (50435, "B", len(header), bytes(header), True)]
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((16, 16), np.uint8) if preview is None else preview, extratags=tags, metadata=None, byteorder="<")
    return file.getvalue()


def jpk(channels, lengths=(4e-7, 8e-7), reflect=0, order=">", dtype=np.int32, changes=None):
    """JPK. `channels`: [(name, retrace, unit, factor, offset, picture of integers)]; lengths (v, u) in m."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=order) as writer:
        grid = [(32834, "d", 1, lengths[1], True), (32835, "d", 1, lengths[0], True), (32837, "h", 1, reflect, True)]
        thumbnail = [*grid, (32848, "s", 0, "thumbnail", True)]
        writer.write(np.zeros((8, 8), np.uint8), extratags=thumbnail, metadata=None)
        for name, retrace, unit, factor, offset, picture in channels:
            tags = [(32848, "s", 0, name, True), (32849, "h", 1, retrace, True), (32850, "s", 0, name.upper(), True)]
            tags += [(32896, "i", 1, 2, True), (32897, "s", 0, "nominal", True)]
            tags += [(32912, "s", 0, "raw", True), (32931, "s", 0, "NullScaling", True)]
            tags += [(32960, "s", 0, "nominal", True), (32978, "s", 0, unit, True), (32979, "s", 0, "LinearScaling", True)]
            tags += [(32980, "d", 1, factor, True), (32981, "d", 1, offset, True)]
            tags = [(changes or {}).get(tag[0], tag) for tag in tags]
            stored = picture if reflect else picture[::-1]
            writer.write(np.asarray(stored, dtype), extratags=tags, metadata=None, photometric="minisblack", rowsperstrip=3)
    return file.getvalue()
