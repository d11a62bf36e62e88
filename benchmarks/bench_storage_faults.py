"""Build, export, stream and embed in an S3 that cuts connections and throttles, against the local result.

Usage: python benchmarks/bench_storage_faults.py [--runs 50] [--embed 50] [--cuts 0.3] [--throttled 0.1]

Each run draws its faults anew and works in another folder. Printed are the runs whose results equal the local
ones byte by byte, those that ended with an error (which is allowed, and said), and those that were wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from pathlib import Path

from tests.storage.faults import BUCKET, FaultyProxy, endpoint, s3_server

from ecg_hf.data import build_dataset, export_parquet
from ecg_hf.data.streaming import RowStream
from ecg_hf.errors import EcgError
from ecg_hf.evaluation import embed_in_parts
from ecg_hf.models.pretrained import DEFAULT_MODEL, pretrained_folder
from ecg_hf.storage import ACCOUNTS, location


def content(folder: str | Path) -> dict[str, str]:
    """Digest of every file, but of reports, which say how long a build took."""
    place = location(folder)
    if isinstance(place, Path):
        found = {
            path.relative_to(place).as_posix(): path.read_bytes()
            for path in place.rglob("*")
            if path.is_file()
        }
    else:
        found = {name: place.read(name) for name in place.objects() if not name.startswith(ACCOUNTS)}
    return {
        name: hashlib.sha256(data).hexdigest()
        for name, data in found.items()
        if not name.endswith("_report.json")
    }


def order(folder: str | Path) -> list[str]:
    """Records of the first batches of a stream."""
    stream = RowStream.open([str(folder)], buffer_size=8)
    batches = stream.batches(0, 4)
    return [name for _ in range(6) for name in next(batches)["record_id"][:]]


def work(place: str, *, records: int, embed: bool) -> dict[str, object]:
    """The whole way, into a folder of a disk or of a store."""
    quiet = {"progress": False}
    build_dataset(
        "synthetic", None, f"{place}/built", records=records, records_per_shard=max(1, records // 3), **quiet
    )
    export_parquet(f"{place}/built", f"{place}/export", rows_per_file=max(1, records // 4), **quiet)
    found: dict[str, object] = {"build": content(f"{place}/built"), "export": content(f"{place}/export")}
    found["stream"] = order(f"{place}/export")
    if embed:
        options = {"records_per_part": max(1, records // 2), "batch_size": records}
        embed_in_parts(
            pretrained_folder(DEFAULT_MODEL), f"{place}/built", f"{place}/embeddings", **options, **quiet
        )
        found["embed"] = content(f"{place}/embeddings")
    return found


def main() -> None:
    """Run and count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--records", type=int, default=24)
    parser.add_argument("--cuts", type=float, default=0.3)
    parser.add_argument("--throttled", type=float, default=0.1)
    parser.add_argument("--embed", type=int, default=50, help="runs that embed too")
    asked = parser.parse_args()
    counts = {"equal": 0, "refused": 0, "wrong": 0, "connections": 0, "cut": 0, "throttled": 0}
    with tempfile.TemporaryDirectory() as folder, s3_server() as port:
        local = work(folder, records=asked.records, embed=asked.embed > 0)
        with endpoint(port):
            import fsspec

            fsspec.filesystem("s3").mkdir(BUCKET)
        for run in range(asked.runs):
            started = time.perf_counter()
            proxy = FaultyProxy(port, cuts=asked.cuts, throttled=asked.throttled, seed=run)
            with endpoint(proxy.port):
                try:
                    found = work(f"s3://{BUCKET}/run{run}", records=asked.records, embed=run < asked.embed)
                except EcgError as error:
                    counts["refused"] += 1
                    said = f"refused: {error}"
                else:
                    wrong = [name for name in found if found[name] != local[name]]
                    counts["wrong" if wrong else "equal"] += 1
                    said = f"wrong: {wrong}" if wrong else "equal"
            proxy.close()
            for name, count in proxy.count.items():
                counts[name] += count
            print(f"run {run}: {said}, {proxy.count}, {time.perf_counter() - started:.1f} s", flush=True)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
