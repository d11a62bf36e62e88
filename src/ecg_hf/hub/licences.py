"""Licences as the identifiers of the Hub's metadata."""

from __future__ import annotations

import os

from ecg_hf.errors import ModelFolderError

__all__ = ["OTHER", "check_sharing", "licence_identifier"]

OTHER = "other"
"""The Hub's identifier for any other licence."""

_KNOWN = {
    *("apache-2.0", "mit", "bsd-3-clause", "gpl-3.0", "afl-3.0", "unknown", OTHER),
    *(
        "cc0-1.0",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-nc-nd-4.0",
    ),
    *("odbl", "odc-by", "pddl", "openrail"),
}
_VERSIONED = {"odbl-1.0": "odbl", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl"}


def licence_identifier(text: str) -> str:
    """The Hub's identifier: ``cc-by-4.0`` for ``CC BY 4.0``; :data:`OTHER` for licences without one.

    Args:
        text: Name of a licence; text in brackets is ignored.
    """
    slug = "-".join(text.partition("(")[0].lower().split())
    slug = _VERSIONED.get(slug, slug)
    return slug if slug in _KNOWN else OTHER


def check_sharing(licence: str | None, folder: str | os.PathLike[str], *, non_commercial: bool) -> None:
    """Refuse to pass on converted weights where their licence forbids it.

    Args:
        licence: Of converted weights; None for weights of one's own.
        folder: For the message.
        non_commercial: Whether they are shared for non-commercial ends.

    Raises:
        ModelFolderError: if none is stated, if it forbids changed copies, which converted weights are, or if it is
            for non-commercial ends and those were not said to be meant.
    """
    if licence is None:
        return
    identifier = licence_identifier(licence)
    words = identifier.split("-")
    if identifier == "unknown":
        raise ModelFolderError(
            "not pushed: these weights are their authors', who state no licence, so nobody may pass them on",
            path=folder,
        )
    if "nd" in words:
        raise ModelFolderError(
            f"not pushed: the weights' licence, {licence}, forbids changed copies", path=folder
        )
    if "nc" in words and not non_commercial:
        raise ModelFolderError(
            f"not pushed: the weights' licence, {licence}, is for non-commercial ends; --non-commercial says that "
            "yours are",
            path=folder,
        )
