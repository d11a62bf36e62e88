"""Licences as the identifiers of the Hub's metadata."""

from __future__ import annotations

__all__ = ["OTHER", "licence_identifier"]

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
