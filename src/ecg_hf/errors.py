"""Typed errors: every failure a caller can meet while reading, building or encoding an ECG.

All of them derive from :class:`EcgError`, carry the offending ``path``, ``lead`` and ``value`` as
attributes, and print as one line. Code of this package lets no other exception escape from a
reader: what a user can cause by a bad file or a bad argument is an ``EcgError``.
"""

from __future__ import annotations

from os import PathLike

from ecg_hf.escaping import printable

__all__ = [
    "AmbiguousLayoutError",
    "ChecksumMismatch",
    "ConfigurationError",
    "ConversionError",
    "DatasetBuildError",
    "DownloadError",
    "EcgError",
    "HeaderError",
    "HubError",
    "LeadError",
    "LibraryMissing",
    "MetadataMissing",
    "ModelFolderError",
    "NoReports",
    "NonFiniteSignal",
    "RecordNotFound",
    "SamplingRateError",
    "SignalError",
    "StorageError",
    "TruncatedSignal",
    "UnknownUnit",
    "UnsafePath",
    "UnsupportedFormat",
]


class EcgError(ValueError):
    """Base of every error raised on purpose by ``ecg_hf``.

    Args:
        message: What is wrong and, where it is known, what to do about it. One line.
        path: File or folder the problem was found in.
        lead: Canonical name of the lead concerned.
        value: The offending value.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | PathLike[str] | None = None,
        lead: str | None = None,
        value: object = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = None if path is None else str(path)
        self.lead = lead
        self.value = value

    def __str__(self) -> str:
        where = "" if self.path is None else f"{self.path}: "
        lead = "" if self.lead is None else f" (lead {self.lead})"
        # Line breaks of our own messages become blanks, whatever else a file's name or value brings is escaped.
        return printable(" ".join(f"{where}{self.message}{lead}".split()))

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes send errors home by pickle, which would lose keyword-only arguments.
        state = {"path": self.path, "lead": self.lead, "value": self.value}
        return (_rebuild, (type(self), self.message, state))


def _rebuild(kind: type[EcgError], message: str, state: dict[str, object]) -> EcgError:
    return kind(message, **state)  # type: ignore[arg-type]


class LibraryMissing(EcgError):
    """A file's format needs an optional library that is not installed; says which extra brings it."""


class RecordNotFound(EcgError):
    """A record's header, signal file or segment does not exist."""


class HeaderError(EcgError):
    """A header is empty, garbled, or contradicts itself or its signal file."""


class TruncatedSignal(EcgError):
    """A signal file holds fewer bytes than its header announces."""


class ChecksumMismatch(EcgError):
    """The samples of a lead do not add up to the header's checksum."""


class UnsupportedFormat(EcgError):
    """The file is of a kind or storage format that is not read here."""


class MetadataMissing(EcgError):
    """Something needed to interpret a signal (rate, leads, unit) was neither stored nor given."""


class SamplingRateError(EcgError):
    """A sampling rate is missing, zero, absurd, or not the one expected."""


class UnknownUnit(EcgError):
    """An amplitude unit that can't be converted to millivolts."""


class LeadError(EcgError):
    """Lead names are absent, duplicated, or do not fit what was asked for."""


class SignalError(EcgError):
    """The samples can't be an ECG: none of them valid, none at all, or of an impossible type."""


class NonFiniteSignal(SignalError):
    """NaN or infinite samples where the policy in force forbids them."""


class AmbiguousLayoutError(SignalError):
    """An array's axes can't be told apart (leads or samples first?)."""


class UnsafePath(EcgError):
    """A path that leaves the data root, or names a remote location nobody asked for."""


class DatasetBuildError(EcgError):
    """A dataset can't be built, resumed or loaded from the folder given."""


class DownloadError(EcgError):
    """A download failed or does not match its published checksum."""


class StorageError(EcgError):
    """An object store can't be reached, refuses, or holds something else than the account of it says."""


class ModelFolderError(EcgError):
    """A folder that should hold a model does not, or holds something unsafe."""


class HubError(EcgError):
    """The Hub can't be reached, refuses, or does not have what was asked for."""


class ConfigurationError(EcgError):
    """Options or configuration values that can't work, alone or together."""


class NoReports(ConfigurationError):
    """A method that learns from ECGs and their reports was given a dataset without a single report."""


class ConversionError(EcgError):
    """An official checkpoint is not what its method's authors publish, or leaves something open."""
