"""Schiller EDI XML (SEMA, AT-110): the rhythm waves; averages come first under the same lead names."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from ecg_hf.errors import SignalError, TruncatedSignal, UnsupportedFormat
from ecg_hf.signal.io.decoded import StoredLead, digital_from_leads
from ecg_hf.signal.io.digital import DigitalRecord
from ecg_hf.signal.io.options import ReadOptions
from ecg_hf.signal.io.xml_tree import child, child_text, number, numbers

__all__ = ["read_schiller"]


def read_schiller(root: Element, options: ReadOptions, record_id: str | None) -> DigitalRecord:
    """Read a Schiller export.

    Raises:
        EcgError: if there are no rhythm waves, or rate, unit or samples are missing or garbled.
    """
    waves = [wave for wave in root.iter("wavedata") if child_text(wave, "type").upper() == "ECG_RHYTHMS"]
    if not waves:
        raise SignalError("the file holds no rhythm waves")
    wave = waves[0]
    if len(waves) > 1:
        raise UnsupportedFormat(f"the file holds {len(waves)} sets of rhythm waves")
    rate = child(wave, "resolution/samplerate")
    # The exponent is that of a power: 500 to the 1. No other has been seen, and none is guessed.
    if number(child_text(rate, "exponent") or "1", "samplerate/exponent") != 1.0:
        raise UnsupportedFormat("the exponent of the sampling rate is not 1")
    step = number(child_text(wave, "resolution/yres/unitperbit"), "unitperbit")
    unit = child_text(wave, "resolution/yres/units")
    # Written in capitals throughout, where MV can't be megavolts.
    unit = {"UV": "uV", "MV": "mV", "NV": "nV"}.get(unit, unit)
    leads = []
    for channel in wave.findall("channel"):
        if child_text(channel, "datastype") not in ("", "COMMASEPARATE"):
            raise UnsupportedFormat("samples are not written as numbers between commas")
        counts = numbers(channel.findtext("data"), "data", ",")
        stated = child_text(channel, "samplecount")
        if stated and number(stated, "samplecount") != len(counts):
            raise TruncatedSignal(f"{len(counts)} samples, samplecount says {float(stated):g}")
        leads.append(StoredLead(child_text(channel, "name") or None, counts, step, unit or None))
    if not leads:
        raise SignalError("the rhythm waves have no channels")
    return digital_from_leads(
        leads, number(child_text(rate, "value"), "samplerate"), options, record_id=record_id
    )
