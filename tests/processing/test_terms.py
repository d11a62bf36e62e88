"""Terms of a corpus of reports, counted by hand."""

import numpy as np
import pytest

from ecg_hf.errors import ConfigurationError
from ecg_hf.processing.terms import make_term_vocabulary

REPORTS = (
    ["Sinusrhythmus normales EKG"] * 3 + ["Vorhofflimmern, T-Welle"] * 2 + ["sinusrhythmus. T abnorm 4.46"]
)


def terms_of(vocabulary) -> dict[str, float]:
    names = {index: word for word, index in vocabulary.tokenizer.get_vocab().items()}
    texts = [" ".join(names[i] for i in pair if i >= 0) for pair in vocabulary.words.tolist()]
    return dict(zip(texts, vocabulary.frequency, strict=True))


def test_words_and_pairs_with_their_frequencies():
    found = terms_of(make_term_vocabulary(REPORTS, min_reports=2))
    # Of terms in the same reports the first in the alphabet stays.
    assert found == {"ekg": 0.5, "sinusrhythmus": 4 / 6, "t": 0.5, "t welle": 2 / 6}


def test_order_of_reports_does_not_matter():
    one, other = (
        make_term_vocabulary(REPORTS, min_reports=2),
        make_term_vocabulary(REPORTS[::-1], min_reports=2),
    )
    assert terms_of(one) == terms_of(other)
    assert one.tokenizer.get_vocab() == other.tokenizer.get_vocab()


def test_words_of_one_person_stay_out():
    patients = ["a", "a", "a", "b", "c", "d"]
    assert "ekg" not in terms_of(make_term_vocabulary(REPORTS, min_reports=2, patients=patients))


def test_umlauts_numbers_and_standing_phrases():
    reports = ["Überleitungsstörung 12.5 unbestätigter Bericht", "ueberleitungsstoerung"] * 3
    tokenizer = make_term_vocabulary([*reports, "anderes"], min_reports=2).tokenizer
    assert tokenizer.tokenize(reports[0]) == ["ueberleitungsstoerung"]


def test_idf_falls_with_frequency():
    vocabulary = make_term_vocabulary(REPORTS, min_reports=2)
    assert np.all(np.argsort(vocabulary.idf) == np.argsort(-vocabulary.frequency))


def test_too_few_reports_are_said():
    with pytest.raises(ConfigurationError, match="too few reports"):
        make_term_vocabulary(REPORTS, min_reports=10)
