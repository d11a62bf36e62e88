"""Which format a file's first bytes are of, and its reader."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree.ElementTree import Element

from ecg_hf.errors import UnsupportedFormat
from ecg_hf.signal.io.dicom import is_dicom, read_dicom
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.edf import is_edf, read_edf
from ecg_hf.signal.io.ge_muse import read_ge_muse
from ecg_hf.signal.io.hl7_aecg import read_hl7_aecg
from ecg_hf.signal.io.ishne import is_ishne, read_ishne
from ecg_hf.signal.io.kardia_atc import is_kardia_atc, read_kardia_atc
from ecg_hf.signal.io.mortara import read_mortara
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.philips_sierra import read_philips_sierra
from ecg_hf.signal.io.schiller import read_schiller
from ecg_hf.signal.io.scp import is_scp, read_scp
from ecg_hf.signal.io.xml_tree import looks_like_xml, parse_xml

__all__ = ["Reader", "container_reader"]

Reader = Callable[[bytes, ReadOptions, str | None], DigitalRecord]

_BINARY: tuple[tuple[Callable[[bytes], bool], Reader], ...] = (
    (is_ishne, read_ishne),
    (is_kardia_atc, read_kardia_atc),
    (is_edf, read_edf),
    (is_dicom, read_dicom),
    (is_scp, read_scp),
)
# By the name of the root element, without namespace and package, in lower case.
_XML: dict[str, Callable[[Element, ReadOptions, str | None], DigitalRecord]] = {
    "annotatedecg": read_hl7_aecg,
    "restingecg": read_ge_muse,
    "restingecgdata": read_philips_sierra,
    "schilleredi": read_schiller,
    "ecg": read_mortara,
}


def container_reader(head: bytes) -> Reader | None:
    """The reader of the format that a file's first bytes are of; None if they are of none."""
    if looks_like_xml(head):
        return _read_xml
    return next((read for recognises, read in _BINARY if recognises(head)), None)


def _read_xml(content: bytes, options: ReadOptions, record_id: str | None) -> DigitalRecord:
    root = parse_xml(content)
    reader = _XML.get(root.tag.rpartition(".")[2].lower())
    if reader is None:
        raise UnsupportedFormat(
            "the XML is of no format read here (HL7 aECG, GE MUSE, Philips Sierra, Schiller, Mortara)"
        )
    return reader(root, options, record_id)
