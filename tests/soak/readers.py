"""Fuzzer: damaged files through every reader, odd arrays through the extractors.

    python -m tests.soak.readers --minutes 5

Only ``EcgError`` may escape, nothing outside the data root may be opened, memory stays within a multiple of the file,
inputs are left alone, outputs are finite. Prints how many inputs were tried and how they ended.
"""

from __future__ import annotations

import io
import math
import random
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ecg_hf.signal import STANDARD_LEADS, read_record
from ecg_hf.signal.io.wfdb_annotations import read_annotations
from tests.soak.guard import Misbehaviour, Outcomes, fuzz, guarded, main_of
from tests.soak.mutations import mutate

SAMPLES = 300
BITS = {
    "16": 16,
    "212": 12,
    "24": 24,
    "32": 32,
    "80": 8,
    "61": 16,
    "160": 16,
    "310": 32 / 3,
    "311": 32 / 3,
    "8": 8,
}
FORMATS = tuple(BITS)
METADATA = {"sampling_rate": 100.0, "lead_names": STANDARD_LEADS, "unit": "mV"}


class Files:
    """Good files of every kind, in a root with a secret beside it.

    Args:
        folder: Where; gets ``root/`` and ``secret.dat``.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        for name in ("secret.dat", "secret.hea"):
            (folder / name).write_bytes(b"secret 1 100 4\n")
        generator = np.random.default_rng(0)
        self.digital = generator.integers(-500, 500, (12, SAMPLES)).astype(np.int16)
        self.contents = dict(self._all())
        # Once unwatched: what readers import on their first call is not theirs to account for.
        for form in ("212", "16"):
            (self.root / "r0.hea").write_bytes(self.contents[f"{form}.hea"])
            (self.root / "r0.dat").write_bytes(self.contents[f"{form}.dat"])
            read_record(self.root / "r0", thorough=True, verify_checksum=False)
        (self.root / "a.mat").write_bytes(self.contents["True.mat"])
        read_record(self.root / "a.mat", **METADATA)  # type: ignore[arg-type]

    def _header(self, form: str) -> bytes:
        lines = [f"r0 12 100 {SAMPLES}"]
        for row, name in zip(self.digital, STANDARD_LEADS, strict=True):
            total = int(np.add.reduce(row, dtype=np.int16)) if form == "16" else ""
            tail = f"16 0 {row[0]} {total} 0 {name}" if form == "16" else f"12 0 0 0 0 {name}"
            lines.append(f"r0.dat {form} 1000.0(0)/mV {tail}")
        return ("\n".join([*lines, "#Age: 50", "#Name: Nobody"]) + "\n").encode()

    def _all(self) -> Iterator[tuple[str, bytes]]:
        import scipy.io

        for form in FORMATS:
            yield f"{form}.hea", self._header(form)
            size = math.ceil(12 * SAMPLES * BITS[form] / 8)
            yield f"{form}.dat", (2 * self.digital.T.astype("<i2").tobytes())[:size]
        yield "multi.hea", b"m/2 12 100 600\nr0 300\nr0 300\n"
        signal = self.digital / 1000
        for compressed in (False, True):
            stream = io.BytesIO()
            scipy.io.savemat(stream, {"val": self.digital, "other": {"a": 1}}, do_compression=compressed)
            yield f"{compressed}.mat", stream.getvalue()
        stream = io.BytesIO()
        scipy.io.savemat(stream, {"val": self.digital}, format="4")
        yield "4.mat", stream.getvalue()
        for dtype in ("f4", "i2", ">f8", "f2"):
            stream = io.BytesIO()
            np.save(stream, signal.astype(dtype))
            yield f"{dtype}.npy", stream.getvalue()
        rows = [
            ",".join(["time", *STANDARD_LEADS]),
            *(",".join(f"{v:.3f}" for v in (0, *r)) for r in signal.T[:60]),
        ]
        yield "named.csv", "\n".join(rows).encode()
        yield "bare.csv", "\n".join(rows[1:]).replace(",", ";").encode()
        words = [(1 << 10) | 50, (59 << 10), 1, 0, (63 << 10) | 4, 0x4141, 0x4242, (24 << 10) | 20, 0]
        yield "r0.atr", np.array(words, dtype="<u2").tobytes()


def try_file(files: Files, kind: str, source: random.Random) -> str:
    """Damage a file of one kind and read it; returns how that ended."""
    root, contents = files.root, files.contents
    verify = source.random() < 0.5
    if kind in ("header", "signal", "multi"):
        form = source.choice(FORMATS)
        header, data = contents[f"{form}.hea"], contents[f"{form}.dat"]
        if kind == "header":
            header = mutate(header, source, words=True)
        elif kind == "signal":
            data = mutate(data, source, words=False)
        (root / "r0.hea").write_bytes(header)
        (root / "r0.dat").write_bytes(data)
        name = "r0"
        if kind == "multi":
            (root / "m.hea").write_bytes(mutate(contents["multi.hea"], source, words=True))
            name = "m"
        return _read(files, root / name, len(header) + len(data), verify_checksum=verify, thorough=verify)
    if kind == "annotations":
        content = mutate(contents["r0.atr"], source, words=False)
        path = root / "r0.atr"
        path.write_bytes(content)
        return guarded(lambda: read_annotations(path, root=root), root, len(content))
    suffix = f".{kind}"
    content = contents[source.choice([name for name in contents if name.endswith(suffix)])]
    content = mutate(content, source, words=kind == "csv" or (kind == "npy" and source.random() < 0.3))
    path = root / f"a{suffix}"
    path.write_bytes(content)
    metadata = METADATA if source.random() < 0.8 else {"sampling_rate": 100.0, "unit": "mV"}
    return _read(files, path, len(content), **metadata)


def _read(files: Files, path: Path, size: int, **options: object) -> str:
    def read() -> None:
        record = read_record(path, root=files.root, **options)  # type: ignore[arg-type]
        if record.signal.dtype != np.float32 or record.signal.ndim != 2 or np.isinf(record.signal).any():
            raise Misbehaviour(f"a record of {record.signal.dtype} {record.signal.shape}, or infinite")

    return guarded(read, files.root, size)


def odd_array(source: random.Random) -> np.ndarray:
    """An array that may or may not be an ECG."""
    generator = np.random.default_rng(source.getrandbits(32))
    shape = source.choice(
        ((12, 500), (500, 12), (2, 12, 300), (12, 1), (12, 0), (12, 12), (8, 400), (3,), (), (1, 1))
    )
    values = np.array(generator.normal(size=shape) * 10.0 ** source.uniform(-45, 40))
    if values.size and source.random() < 0.7:
        flat = values.reshape(-1)
        for _ in range(source.randint(1, 40)):
            special = (np.nan, np.inf, -np.inf, 0.0, 1e38, -3.5e38, 5e-324, 1e300)
            flat[source.randrange(flat.size)] = source.choice(special)
        if source.random() < 0.3:
            values[...] = source.choice((0.0, 1.5, np.nan, np.inf, 1e300))
        elif values.ndim > 1 and source.random() < 0.5:
            values[source.randrange(len(values))] = source.choice((0.0, np.nan, 7.0))
    dtype = source.choice(
        ("f8", "f4", "f2", "i2", "i4", "i8", "u1", ">i2", ">f4", "?", "c8", "O", "U5", "M8[s]")
    )
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            array = values.astype(dtype)
        except (ValueError, OverflowError, TypeError):
            array = values
    if source.random() < 0.3:
        array = np.asfortranarray(array)
    array = np.array(array, order="K")
    array.flags.writeable = source.random() < 0.5
    return array


def try_array(extractors: list[object], source: random.Random) -> str:
    """An odd array through one of the extractors: finite or refused, in half precision too, input unchanged."""
    extractor = source.choice(extractors)
    array = odd_array(source)
    before = array.tobytes() if array.dtype != object else None
    rate = source.choice(
        (100.0, 100.0, 500.0, 257.3, 1e5, 0.0, -1.0, float("nan"), float("inf"), None, "fast")
    )
    names = source.choice(
        (STANDARD_LEADS, STANDARD_LEADS, None, STANDARD_LEADS[:8], ("I",), ("I", "I"), ("x", 3))
    )
    batch = source.choice((array, array, [array], [array, array], {"signal": array, "sampling_rate": rate}))
    options = {
        "sampling_rate": rate,
        "lead_names": names,
        "unit": source.choice(("mV", "uV", "V", "furlong", None)),
    }
    root = Path(tempfile.gettempdir())

    def extract() -> None:
        with np.errstate(all="ignore"):
            out = extractor(batch, **options)  # type: ignore[operator]
        values = out["input_values"]
        with np.errstate(all="ignore"):
            if not np.isfinite(values).all() or not np.isfinite(values.astype(np.float16)).all():
                raise Misbehaviour("the output is not finite")

    # Resampling from a low rate and padding make more of an array than it was.
    outcome = guarded(extract, root, max(array.nbytes, 4 << 20))
    if before is not None and array.tobytes() != before:
        raise Misbehaviour("the input was changed")
    return outcome


KINDS = ("header", "signal", "multi", "annotations", "mat", "csv", "npy", "array")


def all_extractors() -> list[object]:
    """The feature extractor of every method, at its smallest size."""
    from ecg_hf.models.registry import METHODS

    return [
        spec.feature_extractor_for(spec.load("config").preset(spec.sizes[0])) for spec in METHODS.values()
    ]


def run(folder: Path, *, seconds: float, seed: int, only: tuple[str, ...] = ()) -> tuple[Outcomes, int]:
    """Try files and arrays for a while."""
    files, kinds = Files(folder), only or KINDS
    attempts = {kind: partial(try_file, files, kind) for kind in kinds}
    if "array" in kinds:
        attempts["array"] = partial(try_array, all_extractors())
    return fuzz(attempts, seconds=seconds, seed=seed)


if __name__ == "__main__":
    main_of(run, __doc__, KINDS)
