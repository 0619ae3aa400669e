"""The record every source returns and every consumer reads, and the error of data that cannot be used."""

import dataclasses
from collections.abc import Sequence

import numpy as np


class DataError(Exception):
    """A file, field or value of the user's data cannot be used; the message names it and the remedy (at most five lines)."""


class FieldError(DataError):
    """A field of `config.data` cannot be; `main.py` exits with 2, as for any wrong config."""

    exit_code = 2


@dataclasses.dataclass(frozen=True)
class Scan:
    """One microscope scan as stored.

    `pixels` is (h, w) or (h, w, c), uint8, uint16 or float32, never silently reduced: heights in nm when `unit` is
    "nm", grey levels when it is "grey", another signal in any other. `channel` names it ("Z backward"), `note` says what was left out of
    it. `nm_per_pixel` is (y, x) or None where the source states no scale. `mask` is
    an int32 instance map (h, w), 0 = background, or None. `sha256` is of the file's bytes (of the pixel bytes for
    built-in data). `group` (patient, sample) is what a split must not cut through; None means the scan is its own group.
    A z-stack has its planes as the last axis of pixels and mask, (h, w, planes), instead of channels.
    """

    id: str
    pixels: np.ndarray
    sha256: str
    file: str = ""
    unit: str = "grey"
    nm_per_pixel: tuple[float, float] | None = None
    channel: str = ""
    mask: np.ndarray | None = None
    label: str | None = None
    group: str | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Refused:
    """A file that is not trained on: its path, the reason in words a user can act on, `misfit` where it is sound but unlike the others."""

    file: str
    reason: str
    misfit: bool = False


class AllRefused(DataError):
    """None of a source's files can be read; `refused` has each with its reason, the message the first."""

    def __init__(self, message: str, refused: Sequence[Refused] = ()):
        super().__init__(message)
        self.refused = list(refused)
