"""Operations of object stores, tried again where that may help, and what is said when it does not."""

from __future__ import annotations

import errno
import logging
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from ecg_hf.errors import StorageError

__all__ = ["ATTEMPTS", "tried", "trouble_of"]

logger = logging.getLogger(__name__)

ATTEMPTS = 4
"""How often an operation is tried; the libraries of the stores try each request some times themselves."""

_PAUSE_S = 0.5
# Where exceptions of a store's library are defined; whatever else is raised is a bug, and passes.
_LIBRARIES = (
    "botocore",
    "aiobotocore",
    "aiohttp",
    "gcsfs",
    "google",
    "azure",
    "huggingface_hub",
    "httpx",
    "fsspec",
)
_LOCAL_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

T = TypeVar("T")


def tried(work: Callable[[], T], path: str) -> T:
    """The result of an operation of a store, tried again where that may help.

    Raises:
        StorageError: instead of what the store's library raises.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except FileNotFoundError:
            raise StorageError("no such object, or no such bucket", path=path) from None
        except Exception as error:
            reason = trouble_of(error)
            if reason is None:
                raise
            if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
                raise StorageError(f"the store refuses: {reason}", path=path) from None
            if attempt == ATTEMPTS:
                raise StorageError(f"the store failed {ATTEMPTS} times: {reason}", path=path) from None
            logger.info("%s: %s, trying again", path, reason)
        time.sleep(_PAUSE_S * 2**attempt * random.uniform(0.5, 1.0))
    raise AssertionError("unreachable")


def trouble_of(error: Exception) -> str | None:
    """One line on what a store's library raised; None for what it did not."""
    library = type(error).__module__.partition(".")[0] in _LIBRARIES
    if not library and (not isinstance(error, OSError) or error.errno in _LOCAL_TROUBLE):
        return None
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    # A signed address is a credential.
    text = re.sub(r"\?\S+", "?...", re.sub(r"//[^/@\s]+@", "//...@", text))
    kind = "" if type(error) is OSError else f"{type(error).__name__}: "
    return f"{kind}{' '.join(text.split())[:200]}"
