"""Object stores by fsspec.

An object that this package publishes has an account, an object beside it that is written last: size, digest and what
is to be said of the content. An object without its account, or one that differs from it, is not finished.

Credentials are fsspec's own (environment, configuration files, roles of the machine). An address that holds any is
refused, so that none can reach a log, a report or an error.
"""

from ecg_hf.storage.folder import RemoteFolder
from ecg_hf.storage.locations import local_folder, local_only, location
from ecg_hf.storage.objects import ACCOUNTS, StoredObject, account_name
from ecg_hf.storage.trying import trouble_of
from ecg_hf.storage.working_copy import WorkingCopy, working_copy

__all__ = [
    "ACCOUNTS",
    "RemoteFolder",
    "StoredObject",
    "WorkingCopy",
    "account_name",
    "local_folder",
    "local_only",
    "location",
    "trouble_of",
    "working_copy",
]
