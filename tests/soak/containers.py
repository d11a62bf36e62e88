"""Fuzzer of HDF5 and Parquet: files whose structure is changed where it hurts, through what reads them.

    python -m tests.soak.containers --minutes 5

A dataset or column gets another type, shape, storage or filter, becomes a link, a group or null, a stored ECG gets an
impossible field, or bytes of the file are damaged. Only ``EcgError`` may escape, values from outside the folder may
not appear, and memory stays within a multiple of the file. Prints how many inputs were tried and how they ended.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.soak.guard import Misbehaviour, Outcomes, fuzz, guarded, main_of
from tests.soak.mutations import mutate

EXAMS, SAMPLES, SECRET = 5, 40, 7.25
HEADER = "exam_id,age,is_male,1dAVb,RBBB,LBBB,SB,ST,AF,patient_id,trace_file"
DTYPES = ("f4", "f2", "f8", ">f4", "i2", "u1", "?", "c8", "S4", "V3")
CREATION: tuple[dict[str, Any], ...] = (
    {},
    {"compression": "gzip"},
    {"compression": "lzf", "shuffle": True},
    {"chunks": (1, 8, 3), "fletcher32": True},
    {"maxshape": (None, None, None)},
    {"compression": "gzip", "scaleoffset": 3},
)
SHAPES = (
    (EXAMS, SAMPLES, 12),
    (EXAMS, SAMPLES, 12),
    (EXAMS, 0, 12),
    (0, SAMPLES, 12),
    (EXAMS, 12),
    (),
    (EXAMS, SAMPLES, 8),
)
ANNOUNCED = ((EXAMS, 1 << 33, 12), (1 << 40, SAMPLES, 12), (EXAMS, 900_000, 12), (1 << 22, 4096, 12))


class Hdf5:
    """A folder of CODE-15% whose one part is another every time, with a secret outside.

    Args:
        folder: Where; gets ``code15/`` and ``secret.hdf5``.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "code15"
        self.root.mkdir()
        self.secret = folder / "secret.hdf5"
        with h5py.File(self.secret, "w") as file:
            file["tracings"] = np.full((EXAMS, SAMPLES, 12), SECRET, np.float32)
            file["exam_id"] = np.arange(EXAMS) + 1
        self.part = self.root / "exams_part0.hdf5"
        self.table = [
            HEADER,
            *(f"{i},50,True{',False' * 6},{i},{self.part.name}" for i in range(1, EXAMS + 1)),
        ]

    def attempt(self, source: random.Random) -> str:
        """Write a part, perhaps with a damaged table, and read it; returns how that ended."""
        self.part.unlink(missing_ok=True)
        if source.random() < 0.03:
            self.part.symlink_to(self.secret)
        else:
            with h5py.File(self.part, "w", libver=source.choice(("earliest", "latest"))) as file:
                self._ids(file, source)
                self._tracings(file, source)
            if source.random() < 0.4:
                self.part.write_bytes(mutate(self.part.read_bytes(), source, words=False))
        table = "\n".join(self.table).encode()
        (self.root / "exams.csv").write_bytes(
            mutate(table, source, words=True) if source.random() < 0.2 else table
        )
        # Compressed zeros may honestly be a thousand times larger than their file: these files are all small.
        return guarded(self._read, self.root.parent, max(self.part.stat().st_size, 1 << 19))

    def _ids(self, file: h5py.File, source: random.Random) -> None:
        kind = source.random()
        ids = np.arange(1, EXAMS + 1)
        if kind < 0.7:
            file["exam_id"] = ids
        elif kind < 0.85:
            odd = (
                ids[:-1],
                ids.astype("f8"),
                ids - 3,
                ids.astype("S3"),
                np.int64(3),
                ids[:, None],
                ids.astype("u8") << 62,
            )
            file["exam_id"] = source.choice(odd)
        elif kind < 0.9:
            file["exam_id"] = h5py.ExternalLink("../secret.hdf5", "exam_id")
        elif kind < 0.95:
            file.create_group("exam_id")

    def _tracings(self, file: h5py.File, source: random.Random) -> None:
        kind, name = source.random(), "tracings"
        if kind < 0.5:
            shape = source.choice(SHAPES)
            values = np.random.default_rng(source.getrandbits(32)).normal(size=shape)
            if values.size and source.random() < 0.3:
                values.reshape(-1)[:: source.randint(1, 90)] = source.choice((np.nan, np.inf, 1e300, 0.0))
            with np.errstate(all="ignore"):
                values = values.astype(source.choice(("f4", *DTYPES)) if source.random() < 0.5 else "f4")
            try:
                file.create_dataset(name, data=values, **source.choice(CREATION))
            except (ValueError, TypeError, RuntimeError):  # this type can't be stored like this
                if name in file:
                    del file[name]
                file[name] = np.zeros(3)
        elif kind < 0.7:
            options = source.choice(
                ({}, {"chunks": (1, 32, 12)}, {"chunks": (1, 32, 12), "compression": "gzip"})
            )
            file.create_dataset(name, source.choice(ANNOUNCED), source.choice(("f4", "f8")), **options)
        elif kind < 0.75:
            file[name] = h5py.ExternalLink("../secret.hdf5", "/tracings")
        elif kind < 0.8:
            file[name] = h5py.SoftLink(source.choice(("/nowhere", "/exam_id", "/tracings")))
        elif kind < 0.85:
            external = [("../secret.hdf5", 0, EXAMS * SAMPLES * 12 * 4)]
            file.create_dataset(name, (EXAMS, SAMPLES, 12), "f4", external=external)
        elif kind < 0.9:
            layout = h5py.VirtualLayout((EXAMS, SAMPLES, 12), "f4")
            layout[:] = h5py.VirtualSource(str(self.secret), name, (EXAMS, SAMPLES, 12))
            file.create_virtual_dataset(name, layout)
        elif kind < 0.93:
            file.create_group(name)
        elif kind < 0.96:
            file.create_dataset(name, (EXAMS, SAMPLES, 12), h5py.vlen_dtype(np.float32))
        elif kind < 0.98:
            file[name] = np.zeros((EXAMS, SAMPLES, 12), [("a", "f4"), ("b", "i2")])

    def _read(self) -> None:
        from ecg_hf.data.schema import SourceRow
        from ecg_hf.data.sources import create_source

        source = create_source("code15", self.root, {})
        for row in source.read_many(source.plan().entries):
            if isinstance(row, SourceRow) and (row.ecg.samples == SECRET).all():
                raise Misbehaviour("values from outside the folder")


ODD_FIELDS: dict[str, tuple[Any, ...]] = {
    "samples": (None, b"", b"\1", b"\0" * 7),
    "dtype": (None, "object", "float64", "int8", "", "\x1b[2J"),
    "shape": (None, [2**31 - 1] * 2, [-1, -1], [0, 5], [12, 0], [1, 1]),
    "gain": (
        None,
        [],
        [0.0] * 12,
        [float("nan")] * 12,
        [1e-320] * 12,
        [1e300] * 12,
        [1.0],
        [None] * 12,
        [-1.0] * 12,
    ),
    "baseline": (None, [], [2**31 - 1] * 12, [0], [None] * 12),
    "invalid": (None, 0, -(2**31)),
    "sampling_rate": (None, 0.0, -1.0, float("nan"), float("inf"), 1e300, 5e-324),
    "lead_names": (
        None,
        [],
        ["I"] * 12,
        [""] * 12,
        [None] * 12,
        ["I"],
        ["\x1b[2J"] * 12,
        [f"x{i}" for i in range(12)],
    ),
}
"""Values of the fields of a stored ECG that cannot be, or hardly can."""

ODD_TYPES = (pa.string(), pa.int64(), pa.float32(), pa.binary(), pa.list_(pa.string()), pa.bool_(), pa.null())
ODD_FEATURES = (
    "{}", "[]", "nonsense", '{"info": {"features": 5}}', '{"info": {"features": {"ecg": {"_type": "Ecg", "x": 1}}}}',
    '{"info": {"features": {"ecg": {"_type": "Ecg", "sampling_rate": -1}}}}',
    '{"info": {"features": {"ecg": {"dtype": "string", "_type": "Value"}}}}',
    '{"info": {"features": {"ecg": {"_type": "Nobody"}}}}', '{"info": {"features": {"ecg": {"_type": "Ecg"}}}}',
)  # fmt: skip


class Parquet:
    """An export whose one file is another every time.

    Args:
        folder: Where; gets ``built/`` and ``parquet/``.
    """

    def __init__(self, folder: Path) -> None:
        from ecg_hf.data import build_dataset, export_parquet

        folds = {"train_folds": "1-10", "validation_folds": "", "test_folds": ""}
        build_dataset("synthetic", None, folder / "built", records=6, progress=False, **folds)
        self.root = folder / "parquet"
        export_parquet(folder / "built", self.root, progress=False)
        [self.file] = (self.root / "data").glob("train-*.parquet")
        self.content, self.table = self.file.read_bytes(), pq.read_table(self.file)
        self.rows = self.table.to_pylist()
        # The library's locks lie in its cache, which is not what is looked for here.
        datasets.config.HF_DATASETS_CACHE = folder / "cache"
        self._read()

    def attempt(self, source: random.Random) -> str:
        """Write a file and read it; returns how that ended."""
        if source.random() < 0.3:
            content = mutate(self.content, source, words=False)
            if source.random() < 0.5:  # the footer, which says where everything is
                content = (
                    self.content[:-4096]
                    + mutate(self.content[-4096:-8], source, words=False)
                    + self.content[-8:]
                )
            self.file.write_bytes(content)
        else:
            options = {
                "compression": source.choice(("zstd", "none", "gzip")),
                "row_group_size": source.choice((1, 4, 100)),
            }
            pq.write_table(self._changed(source), self.file, **options)
        size = max(self.file.stat().st_size, 1 << 20)
        before = pa.default_memory_pool().max_memory()
        try:
            return guarded(self._read, self.root.parent, size, traced=False)
        finally:
            # Arrow's own memory, which Python does not see; its record is never taken back.
            peak = pa.default_memory_pool().max_memory()
            if peak > max(before, 64 * size):
                raise Misbehaviour(f"Arrow took {peak} bytes for a file of {size}")

    def _changed(self, source: random.Random) -> pa.Table:
        table = self.table
        kind = source.random()
        if kind < 0.5:
            rows = [dict(row) for row in self.rows]
            for _ in range(source.choice((1, 1, 2))):
                row = source.choice(rows)
                row["ecg"] = dict(row["ecg"] or {})
                name = source.choice(list(ODD_FIELDS))
                row["ecg"][name] = source.choice(ODD_FIELDS[name])
            if source.random() < 0.1:
                source.choice(rows)["ecg"] = None
            table = pa.Table.from_pylist(rows, schema=table.schema)
        elif kind < 0.8:
            name = source.choice(table.column_names)
            place = table.column_names.index(name)
            if source.random() < 0.3:
                table = table.drop_columns([name])
            elif name == "ecg" and source.random() < 0.7:
                table = table.set_column(place, name, self._other_struct(source))
            else:
                kind_of = source.choice(ODD_TYPES)
                table = table.set_column(place, name, pa.nulls(len(table), kind_of))
        elif kind < 0.85:
            table = table.slice(0, source.choice((0, 1)))
        metadata = dict(table.schema.metadata or {})
        if source.random() < 0.4:
            metadata[b"huggingface"] = source.choice(ODD_FEATURES).encode()
        return table.replace_schema_metadata(metadata)

    def _other_struct(self, source: random.Random) -> pa.Array:
        values = [dict(row["ecg"]) for row in self.rows]
        name = source.choice(list(values[0]))
        other = source.choice((1, "x", [1], None, [["a"]], {"a": 1}, b"\0"))
        for value in values:
            if source.random() < 0.5 or "samples" not in value:
                value.pop(name, None)
            else:
                value[name] = other
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return pa.array([{"a": 1}] * len(values))

    def _read(self) -> None:
        from ecg_hf.data import BatchDecoder
        from ecg_hf.data.streaming import RowStream

        stream = RowStream.open([self.root], buffer_size=2)
        list(stream.reports())
        for rows in islice(stream.batches(0, 2), 2):
            decoder = BatchDecoder(rows)
            decoder.reports()
            for _, batch in decoder.by_layout():
                if np.isinf(batch.signal).any():
                    raise Misbehaviour("an infinite signal")
            rows[0]["ecg"]


KINDS: dict[str, Callable[[Path], Any]] = {"hdf5": Hdf5, "parquet": Parquet}


def run(folder: Path, *, seconds: float, seed: int, only: tuple[str, ...] = ()) -> tuple[Outcomes, int]:
    """Try files of each kind for a while, one kind after the other: Arrow's threads outlive a call."""
    # The library waits five seconds for its threads whenever a stream is closed.
    datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
    outcomes: Outcomes = {}
    foreign = 0
    kinds = only or tuple(KINDS)
    for name in kinds:
        (folder / name).mkdir()
        files = KINDS[name](folder / name)
        found, wrong = fuzz({name: files.attempt}, seconds=seconds / len(kinds), seed=seed)
        outcomes |= found
        foreign += wrong
    return outcomes, foreign


if __name__ == "__main__":
    main_of(run, __doc__, tuple(KINDS))
