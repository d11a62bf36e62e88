"""Keep freed memory for the next batch instead of returning it to the system."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

__all__ = ["keep_freed_memory"]

# Of glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
LARGEST_KEPT_BYTES = 32 << 20


@cache
def keep_freed_memory() -> None:
    """Have this process use the memory of freed arrays again.

    Batches make and free arrays of megabytes thousands of times. glibc gets those above a threshold from the system
    each time, which clears every page; the threshold rises as it learns, but not in Dask's workers, whose nanny sets
    ``MALLOC_TRIM_THRESHOLD_`` and so turns learning off. Here it begins where learning ends: arrays of up to 32 MiB
    come from memory that was freed, of which up to 64 MiB may lie unused at the end. Without effect where the
    environment sets ``MALLOC_MMAP_THRESHOLD_``, and with C libraries other than glibc.
    """
    if sys.platform != "linux" or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, 2 * LARGEST_KEPT_BYTES)
