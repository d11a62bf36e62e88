"""The file of a frozen encoder's tokens: plain safetensors, filled in place, read through a memory map."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from transformers.utils import logging

from ecg_hf.errors import ConfigurationError
from ecg_hf.files import write_whole
from ecg_hf.metrics.ranking import BoolArray

__all__ = ["TYPES", "TokenFeatures", "TokenStore", "read_tokens", "stored_key"]

logger = logging.get_logger(__name__)

# Records after which the file is flushed and the progress written: a kill costs at most this much work.
FLUSH_RECORDS = 512
HEADER_LIMIT = 1 << 20
TYPES = {"float16": "F16", "float32": "F32"}


@dataclass(frozen=True, slots=True, eq=False)
class TokenFeatures:
    """Frozen tokens of records.

    Attributes:
        values: float16 or float32 ``(records, tokens, dim)``, possibly memory-mapped. Masked tokens are zero.
        mask: bool ``(records, tokens)``: tokens that hold signal; ``None`` if all do.
        windows: The tokens are this many consecutive, equally long windows, each encoded on its own.
        rows: Rows of ``values`` these records are; ``None`` for all of them, in order.
    """

    values: npt.NDArray[np.floating[Any]]
    mask: BoolArray | None = None
    windows: int = 1
    rows: npt.NDArray[np.intp] | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        shape = self.values.shape
        if len(shape) != 3 or 0 in shape[1:] or self.values.dtype.kind != "f":
            raise ConfigurationError(
                f"tokens must be real (records, tokens, dim), got {self.values.dtype} {shape}", value=shape
            )
        if self.mask is not None and (self.mask.shape != shape[:2] or self.mask.dtype != np.bool_):
            raise ConfigurationError(
                f"the token mask must be bool {shape[:2]}, got {self.mask.dtype} {self.mask.shape}",
                value=self.mask.shape,
            )
        if self.windows < 1 or shape[1] % self.windows:
            raise ConfigurationError(f"{shape[1]} tokens are no {self.windows} windows", value=self.windows)

    def __len__(self) -> int:
        """Number of records."""
        return len(self.values) if self.rows is None else len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(records, tokens, dim)``."""
        return len(self), self.values.shape[1], self.values.shape[2]

    def select(self, rows: npt.ArrayLike) -> TokenFeatures:
        """The same tokens of some records, in the order of ``rows``; nothing is copied."""
        chosen = np.asarray(rows, dtype=np.intp)
        if self.rows is not None:
            chosen = self.rows[chosen]
        return TokenFeatures(self.values, self.mask, self.windows, chosen)

    def take(
        self, rows: npt.NDArray[np.intp], windows: npt.NDArray[np.intp] | None = None
    ) -> tuple[npt.NDArray[np.floating[Any]], BoolArray | None]:
        """Tokens of some records, copied out of the file in their stored type, and their mask.

        Args:
            rows: Records, ``(n,)``.
            windows: The window wanted of each of them, ``(n,)``; every window by default.

        Returns:
            ``(n, tokens, dim)`` and ``(n, tokens)``, of one window or of all.
        """
        chosen = rows if self.rows is None else self.rows[rows]
        if windows is None:
            return np.asarray(self.values[chosen]), None if self.mask is None else self.mask[chosen]
        n, tokens, dim = self.values.shape
        length = tokens // self.windows
        values = self.values.reshape(n, self.windows, length, dim)[chosen, windows]
        mask = None if self.mask is None else self.mask.reshape(n, self.windows, length)[chosen, windows]
        return np.asarray(values), mask

    def window_weights(self) -> npt.NDArray[np.float64]:
        """Share of each window that holds signal, ``(records, windows)``; 1 throughout a record that has none."""
        if self.mask is None:
            return np.ones((len(self), self.windows))
        share = self.mask.reshape(len(self.values), self.windows, -1).mean(axis=-1)
        chosen: npt.NDArray[np.float64] = share if self.rows is None else share[self.rows]
        return np.where(chosen.any(axis=1, keepdims=True), chosen, 1.0)


def read_tokens(path: str | os.PathLike[str]) -> TokenFeatures:
    """Map what :func:`embed_tokens` wrote; the values are read when they are used.

    Raises:
        ConfigurationError: if the file is absent or holds no tokens.
    """
    path = Path(path)
    header = _header(path)
    if header is None:
        raise ConfigurationError("not a readable file of tokens", path=path)
    values, mask = header.map(path, "r")
    everything = bool(mask.all())
    return TokenFeatures(values, None if everything else np.array(mask), header.windows)


def stored_key(path: Path) -> str:
    """Key of what a whole file of tokens holds; empty for anything else."""
    header = _header(path)
    return "" if header is None else header.metadata.get("key", "")


@dataclass(frozen=True, slots=True)
class _Header:
    """Header of a file of tokens."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    windows: int
    metadata: Mapping[str, str]
    start: int

    @property
    def end(self) -> int:
        """Bytes of the whole file."""
        n, tokens, _ = self.shape
        return self.start + _value_bytes(self.shape, self.dtype) + n * tokens

    def map(self, path: Path, mode: Literal["r", "r+"]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Values and mask as memory maps."""
        n, tokens, _ = self.shape
        values = np.memmap(path, self.dtype, mode, self.start, self.shape)
        after = self.start + _value_bytes(self.shape, self.dtype)
        return values, np.memmap(path, np.bool_, mode, after, (n, tokens))

    def encoded(self) -> bytes:
        """The bytes a safetensors file begins with."""
        n, tokens, _ = self.shape
        size = _value_bytes(self.shape, self.dtype)
        content = {
            "__metadata__": {**self.metadata, "layout_windows": str(self.windows), "format": "np"},
            "tokens": {
                "dtype": TYPES[self.dtype.name],
                "shape": list(self.shape),
                "data_offsets": [0, size],
            },
            "token_mask": {
                "dtype": "BOOL",
                "shape": [n, tokens],
                "data_offsets": [size, size + n * tokens],
            },
        }
        text = json.dumps(content).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text


def _value_bytes(shape: tuple[int, int, int], dtype: np.dtype[Any]) -> int:
    # Python integers: a product of numpy's may overflow.
    return shape[0] * shape[1] * shape[2] * dtype.itemsize


def _header(path: Path) -> _Header | None:
    """Header of ``path``, or None if it is no whole file of tokens."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= HEADER_LIMIT:
                return None
            content = json.loads(file.read(length))
        tokens, metadata = content["tokens"], dict(content["__metadata__"])
        names = {name: dtype for dtype, name in TYPES.items()}
        n, count, dim = (int(size) for size in tokens["shape"])
        dtype = np.dtype(names[tokens["dtype"]])
        header = _Header((n, count, dim), dtype, int(metadata.pop("layout_windows")), metadata, 8 + length)
        return header if path.stat().st_size == header.end else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


class TokenStore:
    """Tokens in the making: in memory, or in a file that is named ``*.partial`` until it is whole.

    The file is made in its final size and filled in place; how many rows are certain is written beside it after
    every flush.
    """

    def __init__(self, path: Path | None, metadata: Mapping[str, str], n: int) -> None:
        self.path = path
        self.metadata = metadata
        self.n = n
        self.done = 0
        self.flushed = 0
        self.windows = 1
        self.values: npt.NDArray[Any] | None = None
        self.mask: npt.NDArray[np.bool_] | None = None
        self.partial = Path() if path is None else path.with_name(f"{path.name}.partial")
        self.progress = Path() if path is None else path.with_name(f"{path.name}.progress")

    @classmethod
    def resume(cls, path: Path | None, metadata: Mapping[str, str], n: int) -> TokenStore:
        """What an earlier call of the same key left, or nothing."""
        store = cls(path, metadata, n)
        if path is None:
            return store
        # Mapped for writing: never through a link, wherever that leads.
        header = None if store.partial.is_symlink() else _header(store.partial)
        done = store._certain()
        if header is not None and header.metadata.get("key") == metadata["key"] and 0 < done <= n:
            store.values, store.mask = header.map(store.partial, "r+")
            store.windows, store.done, store.flushed = header.windows, done, done
        else:
            store.partial.unlink(missing_ok=True)
            store.progress.unlink(missing_ok=True)
        return store

    def _certain(self) -> int:
        try:
            content = json.loads(self.progress.read_text(encoding="utf-8"))
            return int(content["records"]) if content["key"] == self.metadata["key"] else 0
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return 0

    def create(self, shape: tuple[int, ...], windows: int, dtype: str, max_bytes: int | None) -> None:
        """Make room for all records, once the shape of one is known and found affordable."""
        tokens, dim = shape
        kind = np.dtype(dtype)
        whole = (self.n, tokens, dim)
        self.windows = windows
        needed = _value_bytes(whole, kind) + self.n * tokens
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(self.path, needed, max_bytes, whole, dtype)
        if self.path is None:
            self.values, self.mask = np.zeros(whole, kind), np.ones(whole[:2], np.bool_)
            return
        header = _Header(whole, kind, windows, self.metadata, 0)
        encoded = header.encoded()
        placed = replace(header, start=len(encoded))
        try:
            self.partial.unlink(missing_ok=True)
            with self.partial.open("xb") as file:
                file.write(encoded)
                file.truncate(placed.end)
                file.flush()
                if hasattr(os, "posix_fallocate"):
                    # A map over a hole ends the process where the disk turns out to be full.
                    os.posix_fallocate(file.fileno(), 0, placed.end)
        except OSError as error:
            self.partial.unlink(missing_ok=True)
            raise ConfigurationError(f"no room for {_readable(needed)} of tokens", path=self.path) from error
        self.values, self.mask = placed.map(self.partial, "r+")

    def append(self, values: npt.NDArray[np.float32], mask: BoolArray | None) -> None:
        """Add the next records."""
        assert self.values is not None
        assert self.mask is not None
        if values.shape[1:] != self.values.shape[1:]:
            raise ConfigurationError(
                f"the model gave tokens {values.shape[1:]} after {self.values.shape[1:]}: give the feature extractor "
                "a fixed duration",
                value=values.shape,
            )
        rows = slice(self.done, self.done + len(values))
        self.values[rows] = values
        self.mask[rows] = True if mask is None else mask
        self.done = rows.stop
        if self.path is not None and (self.done == self.n or self.done - self.flushed >= FLUSH_RECORDS):
            self._flush()

    def _flush(self) -> None:
        for part in (self.values, self.mask):
            assert isinstance(part, np.memmap)
            part.flush()
        text = json.dumps({"key": self.metadata["key"], "records": self.done})
        write_whole(self.progress, text)
        self.flushed = self.done

    def finish(self) -> TokenFeatures:
        """Give the file its name, and return what it holds."""
        assert self.values is not None
        assert self.mask is not None
        if self.path is None:
            return TokenFeatures(self.values, None if self.mask.all() else self.mask, self.windows)
        self.values = self.mask = None
        os.replace(self.partial, self.path)
        self.progress.unlink(missing_ok=True)
        return read_tokens(self.path)


def _check_room(
    path: Path | None, needed: int, max_bytes: int | None, shape: tuple[int, int, int], dtype: str
) -> None:
    size = "{:,} records x {:,} tokens x {:,}".format(*shape)
    account = f"{size} need {_readable(needed)} as {dtype}"
    logger.info(account)
    if max_bytes is not None:
        free, where = max_bytes, "allowed"
    elif path is not None:
        free, where = shutil.disk_usage(path.parent).free, "free on the disk"
    else:
        import psutil  # type: ignore[import-untyped]

        free, where = int(psutil.virtual_memory().available), "of memory available"
    if needed > free:
        remedy = "embed fewer records, or pool tokens"
        raise ConfigurationError(f"{account}, {_readable(free)} are {where}: {remedy}", value=needed)


def _readable(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"
