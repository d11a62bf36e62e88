"""The one list of methods. Tests, command line, Auto classes, documentation and cards follow from it."""

from __future__ import annotations

from ecg_hf.errors import ConfigurationError
from ecg_hf.models.method_spec import AUTO_CLASSES, ROLES, ClassRole, MethodSpec
from ecg_hf.signal.leads import STANDARD_LEADS

__all__ = [
    "AUTO_CLASSES",
    "METHODS",
    "OFFICIAL_TYPES",
    "PRETRAINABLE",
    "ROLES",
    "ClassRole",
    "MethodSpec",
    "get_method",
]

_INDEPENDENT_LEADS = ("I", "II", *STANDARD_LEADS[6:])
_FAMILY_SIZES = ("micro", "tiny", "base-100hz", "base")

METHODS: dict[str, MethodSpec] = {
    spec.name: spec
    for spec in (
        MethodSpec(
            name="cg-dmer",
            class_prefix="CgDmer",
            title="CG-DMER: disentangled multimodal ECG representation",
            paper="2602.21154",
            official_code=None,
            status="from the paper; 22 gaps filled by inferred defaults, each a field of CgDmerConfig with the "
            "literal reading where there is one; losses equal float64 reference values; no official code or weights",
            multimodal=True,
            supervision="signals and reports",
            use="recordings with reports, a GPU: zero-shot answers to free text",
            sizes=("micro", "tiny", "small", "base"),
        ),
        MethodSpec(
            name="clear-hug",
            class_prefix="ClearHug",
            title="CLEAR-HUG: masked heartbeats along the conduction view, lead groups in the classifier",
            paper="2512.24002",
            official_code="https://github.com/Ashespt/CLEAR-HUG",
            status="equal to the official code (no licence stated) on its fixture: beats, masks, encoder, decoder, "
            "loss, gradients, HUG; where paper and code differ a config field says which is followed; inferred: what "
            "beats see of each other in the encoder's view; official weights convert",
            multimodal=False,
            use="signals without reports, cut into beats: their shape matters more than their rhythm",
            sizes=("micro", "tiny", "base", "large"),
            official_weights="unknown",
        ),
        MethodSpec(
            name="core-ecg",
            class_prefix="CoreEcg",
            title="CoRe-ECG: contrast of two views and reconstruction in one masked forward",
            paper="2604.11359",
            official_code=None,
            status="from the abstract and from what readers of the paper report; two masking probabilities are "
            "theirs, nearly all other values inferred, each a field of CoreEcgConfig; views, masks and losses equal "
            "definitions written out; no official code or weights",
            multimodal=False,
            leads=_INDEPENDENT_LEADS,
            use="signals without reports, for contrast and reconstruction at once",
            sizes=("micro", "tiny", "small", "base"),
        ),
        MethodSpec(
            name="ecg-jepa",
            class_prefix="EcgJepa",
            title="ECG-JEPA (Kim): prediction of a teacher's tokens of hidden patches, with cross-pattern attention",
            paper="2410.08559",
            official_code="https://github.com/sehunfromdaegu/ECG_JEPA",
            status="equal to the official code (MIT) on its fixture: tokens, loss, gradients, momentum step, masks, "
            "reduced leads; inferred: masks per sample, other lead sets, first weights of small presets; official "
            "weights convert",
            multimodal=False,
            leads=_INDEPENDENT_LEADS,
            use="many signals without reports; features of whole recordings, few leads",
            sizes=("micro", "tiny", "base"),
            official_weights="mit",
            trainer="ecg_hf.training.method_trainers",
        ),
        MethodSpec(
            name="weimann-jepa",
            class_prefix="WeimannJepa",
            title="ECG-JEPA (Weimann): prediction of a teacher's tokens of hidden moments of all leads",
            paper="2410.13867",
            official_code="https://github.com/kweimann/ECG-JEPA",
            status="equal to the official code (MIT) on its fixture: tokens, embedding, attention pooling, loss, "
            "gradients; inferred: resampler, padding, missing leads; no published weights, files of training convert",
            multimodal=False,
            use="many signals of 12 leads without reports; small networks, tokens in time",
            sizes=("micro", "extra-small", "small", "base"),
            official_weights="mit",
            trainer="ecg_hf.training.method_trainers",
        ),
        MethodSpec(
            name="ecg-cpc",
            class_prefix="EcgCpc",
            title="ECG-CPC: contrastive predictive coding with S4",
            paper="2605.12241",
            official_code="https://github.com/AI4HealthUOL/ecg-pretraining-strategies",
            status="from the official code, also of arXiv:2509.25095: stem, kernel, context and loss equal it to "
            "5e-6; training from scratch is equal in distribution, not step by step; inferred: resampler, place of "
            "clipping; official weights convert",
            multimodal=False,
            use="few parameters, tokens in time: long recordings, delineation, rhythm",
            sizes=("micro", "tiny", "base", "base-10s"),
            official_weights="cc-by-4.0",
            trainer="ecg_hf.training.method_trainers",
        ),
        MethodSpec(
            name="ecgfounder",
            class_prefix="EcgFounder",
            title="ECGFounder: a convolutional network trained on 150 statements of machine-read ECGs",
            paper="2410.04133",
            official_code="https://github.com/PKUDigitalHealth/ECGFounder",
            status="equal to the official code (MIT) on its fixture: filters, stages, features, logits, gradients; "
            "official weights of 12 leads and of lead I convert, with their 150 labels; encoder and classifier only, "
            "the supervised training is not here",
            multimodal=False,
            sizes=("micro", "base", "base-1-lead"),
            official_weights="mit",
            pretrainable=False,
            supervision="labels of 10 million recordings",
            use="weights of its authors: findings by 150 names, from 12 leads or from lead I",
        ),
        MethodSpec(
            name="hubert-ecg",
            class_prefix="HubertEcg",
            title="HuBERT-ECG: masked prediction of clusters on leads laid end to end",
            paper="10.1101/2024.11.14.24317328",
            official_code="https://github.com/Edoar-do/HuBERT-ECG",
            status="equal to the official code (CC BY-NC 4.0) on its fixture: preprocessing, tokens, layers, "
            "embedding, heads; official weights of three sizes convert, with the 164 labels of their fine-tuning; "
            "inferred: the order of those labels, masks of missing leads; targets by k-means, no masked prediction",
            multimodal=False,
            sizes=("micro", "small", "base", "large"),
            official_weights="cc-by-nc-4.0",
            official_type="hubert_ecg",
            pretrainable=False,
            use="weights of its authors, not for commercial use: features of long recordings of 12 leads",
        ),
        MethodSpec(
            name="ecg-fm",
            class_prefix="EcgFm",
            title="ECG-FM: wav2vec 2.0 with contrast of adjacent segments",
            paper="2408.05178",
            official_code="https://github.com/bowang-lab/ECG-FM",
            status="equal to the official code (MIT) on its fixture: preprocessing, tokens, layers, embedding, "
            "padding, logits, four losses and gradients; official weights convert, with the 17 labels of their "
            "fine-tuning and the way pieces of 5 s become one; inferred: missing leads are zeros, small presets",
            multimodal=False,
            sizes=("micro", "tiny", "base"),
            official_weights="mit",
            use="weights of its authors: features and 17 labels, pieces of 5 s; signals without reports",
        ),
        MethodSpec(
            name="ked",
            class_prefix="Ked",
            title="KED: an xresnet taught by reports and by what language models know of diagnoses",
            paper="10.1016/j.xcrm.2024.101875",
            official_code="https://github.com/control-spiderman/ECGFM-KED",
            status="equal to the official code (no licence stated; nothing of it is copied) on its fixture: stem, "
            "stages, tokens, embedding; official weights convert, the ECG encoder of them; inferred: missing leads "
            "are zeros; the authors' scale of signals was not published; encoder and classifier only, no text side",
            multimodal=False,
            sizes=("micro", "base"),
            official_weights="unknown",
            pretrainable=False,
            supervision="signals and reports",
            use="weights of its authors, who state no licence: small features of 12 leads at 100 Hz",
        ),
        MethodSpec(
            name="melp",
            class_prefix="Melp",
            title="MELP: an ECG transformer aligned with reports by tokens, beats and rhythm",
            paper="2506.21803",
            official_code="https://github.com/HKU-MedAI/MELP",
            status="poolers equal to the official code (MIT) on their fixture; the rest is structure only: the "
            "transformer is that of ECG-FM, which equals its code, and there is no whole model to compare with; "
            "official weights convert; inferred: missing leads are zeros; encoder and classifier only, no text side",
            multimodal=False,
            sizes=("micro", "base"),
            official_weights="apache-2.0",
            pretrainable=False,
            supervision="signals and reports",
            use="weights of its authors: features of 12 leads that reports have shaped",
        ),
        MethodSpec(
            name="ecg-beat",
            class_prefix="EcgBeat",
            title="ECG-Beat: median beat and measurements, encoded to what reports say",
            paper="",
            official_code=None,
            status="this package's own method; every value chosen on validation records of PTB-XL",
            multimodal=True,
            supervision="reports",
            use="recordings with reports and minutes of a CPU; teaches ECG-Distil",
            sizes=("micro", "base"),
        ),
        MethodSpec(
            name="ecg-distil",
            class_prefix="EcgDistil",
            title="ECG-Distil: raw signals, distilled from reports, measurements and ECG-Beat",
            paper="",
            official_code=None,
            status="this package's own method; every value chosen on validation records of PTB-XL",
            multimodal=True,
            supervision="reports, measurements, ECG-Beat",
            use="the default, weights ship: embeddings and zero-shot answers on a CPU",
            sizes=("micro", "base"),
        ),
        MethodSpec(
            name="acl-ecg",
            class_prefix="AclEcg",
            title="ACL-ECG: contrast of the heart's anatomical regions under views that keep the rhythm",
            paper="10.3390/s26031080",
            official_code=None,
            status="regions, projectors, losses and optimiser from what readers of the paper report; encoders and "
            "ranges of the views inferred, each a field of AclEcgConfig; losses and views equal naive loops; no "
            "official code or weights",
            multimodal=False,
            leads=("II", "III", *STANDARD_LEADS[6:]),
            use="signals without reports, for the contrast of the heart's regions; the smallest",
            sizes=("micro", "tiny", "base"),
        ),
        MethodSpec(
            name="st-mem",
            class_prefix="StMem",
            title="ST-MEM: reconstruction of hidden patches, lead by lead, from visible ones of all leads",
            paper="2402.09450",
            official_code="https://github.com/bakqui/ST-MEM",
            status="equal to the official code (CC BY-NC 4.0; nothing of it is copied) on its fixture: "
            "preprocessing, tokens, embedding, reconstruction, loss, gradients; official weights convert; inferred: "
            "masks of missing leads, schedule; the first 9 s are taken, not random ones",
            multimodal=False,
            use="signals without reports, a GPU: a masked autoencoder that knows leads and times",
            sizes=("micro", "tiny", "small-100hz", "small-500hz", "small", "base"),
            official_weights="cc-by-nc-4.0",
        ),
        MethodSpec(
            name="crt",
            class_prefix="Crt",
            title="CRT: reconstruction of time, magnitude and phase from what is left of all three",
            paper="2205.09928",
            official_code="https://github.com/BobZwr/Cross-Reconstruction-Transformer",
            status="from the official code (no licence; nothing of it is copied): domains, networks, dropping, loss "
            'and gradients equal it on its fixture with targets="official", which pairs predictions with the wrong '
            "patches; by default each is compared with its own; inferred: logarithm and scale of the spectrum, "
            "schedule",
            multimodal=False,
            use="signals without reports: tokens of rhythm and of frequencies, for a GPU",
            sizes=("micro", "tiny", "base-100hz", "base"),
        ),
        MethodSpec(
            name="heartlang",
            class_prefix="HeartLang",
            title="HeartLang: sentences of heartbeats, hidden ones predicted as words of a vocabulary",
            paper="2502.10707",
            official_code="https://github.com/PKUDigitalHealth/HeartLang",
            status="equal to the official code (MIT) on its fixture: beats, encoder, vocabulary, losses of both "
            "stages, gradients; inferred: first codes, records without R peaks; official weights convert",
            multimodal=False,
            use="signals without reports, cut into beats, a GPU: a vocabulary first, then sentences",
            sizes=("micro", "tiny", "base"),
            official_weights="mit",
        ),
        MethodSpec(
            name="simclr",
            class_prefix="SimClr",
            title="SimCLR: contrast of two views of a record with those of all others",
            paper="2002.05709",
            official_code="https://github.com/google-research/simclr",
            status="a method for pictures: loss, temperature and projector from the paper; inferred: backbone and "
            "views of ECGs; loss and gradients equal lightly's on its fixture",
            multimodal=False,
            sizes=_FAMILY_SIZES,
            family="joint_embedding",
            use="a comparator: contrast of two views",
        ),
        MethodSpec(
            name="byol",
            class_prefix="Byol",
            title="BYOL: prediction of what a slow teacher makes of the other view",
            paper="2006.07733",
            official_code="https://github.com/google-deepmind/deepmind-research/tree/master/byol",
            status="a method for pictures: loss, heads and teacher from the paper; inferred: widths, backbone "
            "and views of ECGs; loss, gradients, teacher's step and schedule equal lightly's on its "
            "fixture",
            multimodal=False,
            sizes=_FAMILY_SIZES,
            family="joint_embedding",
            use="a comparator: a teacher, no negatives",
        ),
        MethodSpec(
            name="barlow-twins",
            class_prefix="BarlowTwins",
            title="Barlow Twins: cross-correlation of two views towards the identity",
            paper="2103.03230",
            official_code="https://github.com/facebookresearch/barlowtwins",
            status="a method for pictures: loss and shape of the projector from the paper; inferred: widths, "
            "backbone and views of ECGs; loss and gradients equal the official code (MIT) on its fixture",
            multimodal=False,
            sizes=_FAMILY_SIZES,
            family="joint_embedding",
            use="a comparator: decorrelated features, no negatives",
        ),
        MethodSpec(
            name="moco-v3",
            class_prefix="MoCoV3",
            title="MoCo v3: queries that find the keys of a slow teacher",
            paper="2104.02057",
            official_code="https://github.com/facebookresearch/moco-v3",
            status="a method for pictures: loss, heads and teacher from the official code (CC BY-NC 4.0; nothing "
            "of it is copied); inferred: widths, backbone and views of ECGs; loss, gradients and "
            "teacher's step equal it on its fixtures",
            multimodal=False,
            sizes=_FAMILY_SIZES,
            family="joint_embedding",
            use="a comparator: contrast with a teacher",
        ),
        MethodSpec(
            name="simsiam",
            class_prefix="SimSiam",
            title="SimSiam: prediction of the other view, which gets no gradient",
            paper="2011.10566",
            official_code="https://github.com/facebookresearch/simsiam",
            status="a method for pictures: loss, heads and the predictor's constant learning rate from the "
            "official code (CC BY-NC 4.0; nothing of it is copied); inferred: widths, backbone and views "
            "of ECGs; loss, gradients and collapse monitor equal it on its fixture",
            multimodal=False,
            sizes=_FAMILY_SIZES,
            family="joint_embedding",
            trainer="ecg_hf.training.method_trainers",
            use="a comparator: neither teacher nor negatives",
        ),
        MethodSpec(
            name="3kg",
            class_prefix="ThreeKg",
            title="3KG: contrast of patients by views of a rotated dipole",
            paper="2106.04452",
            official_code="https://github.com/Jwoo5/fairseq-signals",
            status="views, positives and temperature from the paper's code; inferred: projector and backbone; views, "
            "loss and gradients equal that code (MIT) on its fixture",
            multimodal=False,
            sizes=_FAMILY_SIZES,
            family="joint_embedding",
            python_name="three_kg",
            use="a comparator: views by the geometry of the leads",
        ),
        MethodSpec(
            name="ts-tcc",
            class_prefix="TsTcc",
            title="TS-TCC: prediction of the other view's future, and contrast of contexts",
            paper="2106.14112",
            official_code="https://github.com/emadeldeen24/TS-TCC",
            status="a method for time series: losses, their weights and the network of the contexts from the "
            "official code (MIT); inferred: backbone, steps, ranges of the views; losses and gradients equal "
            "that code on its fixture",
            multimodal=False,
            sizes=_FAMILY_SIZES,
            family="joint_embedding",
            use="a comparator: predicts what comes next",
        ),
        MethodSpec(
            name="clocs",
            class_prefix="Clocs",
            title="CLOCS: contrast of segments and leads of patients",
            paper="2005.13249",
            official_code="https://github.com/danikiyasseh/CLOCS",
            status="loss, positives, temperature and the network for single leads from the paper and the official "
            "code (CC BY-NC-SA 4.0; nothing of it is copied), all pairs of views instead of the last; inferred: "
            "backbone and projector of the default, cmsc; losses and gradients equal its fixture",
            multimodal=False,
            sizes=_FAMILY_SIZES,
            family="joint_embedding",
            use="a comparator: positives by patient, no augmentation",
        ),
        MethodSpec(
            name="astcl",
            class_prefix="Astcl",
            title="ASTCL: agreement of noisy and denoised views of a patient, and a discriminator between them",
            paper="10.1109/TNNLS.2023.3272153",
            official_code=None,
            status="re-derived from the paper's abstract: kinds of views and modules; all else is inferred, each "
            "value a field of AstclConfig; nothing to compare with",
            multimodal=False,
            sizes=_FAMILY_SIZES,
            family="joint_embedding",
            use="a comparator: robust to noise, no negatives",
        ),
        MethodSpec(
            name="merl",
            class_prefix="Merl",
            title="MERL: contrast of records with reports, and of two views of a record",
            paper="2403.06659",
            official_code="https://github.com/cheliu-computation/MERL-ICML2024",
            status="equal to the official code (MIT) on its fixtures, ResNet and ViT: encoder, attention pool, "
            "projections, both losses, gradients, zero-shot scores; inferred: 100 Hz, small presets; official "
            "weights convert, whole or encoder alone",
            multimodal=True,
            supervision="signals and reports",
            sizes=_FAMILY_SIZES,
            family="ecg_text",
            official_weights="mit",
            use="recordings with reports: the reference of zero-shot answers; weights of its authors",
        ),
        MethodSpec(
            name="etp",
            class_prefix="Etp",
            title="ETP: contrast of records with reports by linear projections",
            paper="2309.07145",
            official_code=None,
            status="re-derived from what readers of the paper report; inferred: width, temperature, stem and stages "
            "(MERL's), scaling of signals; the loss equals that of MERL's code; no official code or weights",
            multimodal=True,
            supervision="signals and reports",
            sizes=_FAMILY_SIZES,
            family="ecg_text",
            use="a comparator: contrast with reports alone",
        ),
        MethodSpec(
            name="d-beta",
            other_names=("c-melt",),
            class_prefix="DBeta",
            title="D-BETA (C-MELT): masked words and ECG tokens, matching and a sigmoid contrast at once",
            paper="2410.02131",
            official_code="https://github.com/manhph2211/D-BETA",
            status="equal to the official code (CC BY-NC 4.0; nothing of it is copied) on its fixture: ECG branch, "
            "text, fusion, masks, four losses, gradients; inferred: pairs that don't match are neighbours of a "
            "batch, small presets, optimiser; official weights convert, whole or ECG branch alone",
            multimodal=True,
            supervision="signals and reports",
            sizes=_FAMILY_SIZES,
            official_weights="cc-by-nc-4.0",
            use="a comparator: four objectives on records and reports; weights of its authors, for research",
        ),
    )
}

OFFICIAL_TYPES = frozenset(spec.official_type for spec in METHODS.values() if spec.official_type)
"""What authors' own ``config.json`` have as ``model_type``."""

PRETRAINABLE = tuple(name for name, spec in METHODS.items() if spec.pretrainable)
"""Names of the methods whose pretraining is here."""

_OTHER_NAMES = {other: name for name, spec in METHODS.items() for other in spec.other_names}


def get_method(name: str) -> MethodSpec:
    """Look a method up, by its name or another that means it.

    Raises:
        ConfigurationError: if there is none of that name; the message lists those there are.
    """
    try:
        return METHODS[_OTHER_NAMES.get(name, name)]
    except KeyError:
        raise ConfigurationError(f"unknown model {name!r}; known: {', '.join(METHODS)}", value=name) from None
