"""Public names, for type checkers. Written by ``scripts/follow_registry.py``; do not edit."""

from ecg_hf.data import Ecg
from ecg_hf.errors import EcgError
from ecg_hf.fhir import record_to_fhir, scores_to_fhir
from ecg_hf.hub.fetching import pretrained
from ecg_hf.models.acl_ecg.configuration_acl_ecg import AclEcgConfig
from ecg_hf.models.acl_ecg.feature_extraction_acl_ecg import AclEcgFeatureExtractor
from ecg_hf.models.acl_ecg.modeling_acl_ecg import (
    AclEcgForEcgClassification,
    AclEcgForPreTraining,
    AclEcgModel,
)
from ecg_hf.models.auto import AutoModelForEcgClassification, AutoModelForZeroShotEcgClassification
from ecg_hf.models.cg_dmer.configuration_cg_dmer import CgDmerConfig
from ecg_hf.models.cg_dmer.feature_extraction_cg_dmer import CgDmerFeatureExtractor
from ecg_hf.models.cg_dmer.modeling_cg_dmer import (
    CgDmerForEcgClassification,
    CgDmerForPreTraining,
    CgDmerModel,
)
from ecg_hf.models.clear_hug.configuration_clear_hug import ClearHugConfig
from ecg_hf.models.clear_hug.feature_extraction_clear_hug import ClearHugFeatureExtractor
from ecg_hf.models.clear_hug.modeling_clear_hug import (
    ClearHugForEcgClassification,
    ClearHugForPreTraining,
    ClearHugModel,
)
from ecg_hf.models.core_ecg.configuration_core_ecg import CoreEcgConfig
from ecg_hf.models.core_ecg.feature_extraction_core_ecg import CoreEcgFeatureExtractor
from ecg_hf.models.core_ecg.modeling_core_ecg import (
    CoreEcgForEcgClassification,
    CoreEcgForPreTraining,
    CoreEcgModel,
)
from ecg_hf.models.crt.configuration_crt import CrtConfig
from ecg_hf.models.crt.feature_extraction_crt import CrtFeatureExtractor
from ecg_hf.models.crt.modeling_crt import CrtForEcgClassification, CrtForPreTraining, CrtModel
from ecg_hf.models.d_beta.configuration_d_beta import DBetaConfig
from ecg_hf.models.d_beta.feature_extraction_d_beta import DBetaFeatureExtractor
from ecg_hf.models.d_beta.modeling_d_beta import DBetaForEcgClassification, DBetaForPreTraining, DBetaModel
from ecg_hf.models.ecg_beat.configuration_ecg_beat import EcgBeatConfig
from ecg_hf.models.ecg_beat.feature_extraction_ecg_beat import EcgBeatFeatureExtractor
from ecg_hf.models.ecg_beat.modeling_ecg_beat import (
    EcgBeatForEcgClassification,
    EcgBeatForPreTraining,
    EcgBeatModel,
)
from ecg_hf.models.ecg_cpc.configuration_ecg_cpc import EcgCpcConfig
from ecg_hf.models.ecg_cpc.feature_extraction_ecg_cpc import EcgCpcFeatureExtractor
from ecg_hf.models.ecg_cpc.modeling_ecg_cpc import (
    EcgCpcForEcgClassification,
    EcgCpcForPreTraining,
    EcgCpcModel,
)
from ecg_hf.models.ecg_distil.configuration_ecg_distil import EcgDistilConfig
from ecg_hf.models.ecg_distil.feature_extraction_ecg_distil import EcgDistilFeatureExtractor
from ecg_hf.models.ecg_distil.modeling_ecg_distil import (
    EcgDistilForEcgClassification,
    EcgDistilForPreTraining,
    EcgDistilModel,
)
from ecg_hf.models.ecg_fm.configuration_ecg_fm import EcgFmConfig
from ecg_hf.models.ecg_fm.feature_extraction_ecg_fm import EcgFmFeatureExtractor
from ecg_hf.models.ecg_fm.modeling_ecg_fm import EcgFmForEcgClassification, EcgFmForPreTraining, EcgFmModel
from ecg_hf.models.ecg_jepa.configuration_ecg_jepa import EcgJepaConfig
from ecg_hf.models.ecg_jepa.feature_extraction_ecg_jepa import EcgJepaFeatureExtractor
from ecg_hf.models.ecg_jepa.modeling_ecg_jepa import (
    EcgJepaForEcgClassification,
    EcgJepaForPreTraining,
    EcgJepaModel,
)
from ecg_hf.models.ecg_text.configuration_etp import EtpConfig
from ecg_hf.models.ecg_text.configuration_merl import MerlConfig
from ecg_hf.models.ecg_text.feature_extraction import EtpFeatureExtractor, MerlFeatureExtractor
from ecg_hf.models.ecg_text.modeling_etp import EtpForEcgClassification, EtpForPreTraining, EtpModel
from ecg_hf.models.ecg_text.modeling_merl import MerlForEcgClassification, MerlForPreTraining, MerlModel
from ecg_hf.models.ecgfounder.configuration_ecgfounder import EcgFounderConfig
from ecg_hf.models.ecgfounder.feature_extraction_ecgfounder import EcgFounderFeatureExtractor
from ecg_hf.models.ecgfounder.modeling_ecgfounder import EcgFounderForEcgClassification, EcgFounderModel
from ecg_hf.models.heartlang.configuration_heartlang import HeartLangConfig
from ecg_hf.models.heartlang.feature_extraction_heartlang import HeartLangFeatureExtractor
from ecg_hf.models.heartlang.modeling_heartlang import (
    HeartLangForEcgClassification,
    HeartLangForPreTraining,
    HeartLangModel,
)
from ecg_hf.models.hubert_ecg.configuration_hubert_ecg import HubertEcgConfig
from ecg_hf.models.hubert_ecg.feature_extraction_hubert_ecg import HubertEcgFeatureExtractor
from ecg_hf.models.hubert_ecg.modeling_hubert_ecg import HubertEcgForEcgClassification, HubertEcgModel
from ecg_hf.models.joint_embedding.configuration_astcl import AstclConfig
from ecg_hf.models.joint_embedding.configuration_barlow_twins import BarlowTwinsConfig
from ecg_hf.models.joint_embedding.configuration_byol import ByolConfig
from ecg_hf.models.joint_embedding.configuration_clocs import ClocsConfig
from ecg_hf.models.joint_embedding.configuration_moco_v3 import MoCoV3Config
from ecg_hf.models.joint_embedding.configuration_simclr import SimClrConfig
from ecg_hf.models.joint_embedding.configuration_simsiam import SimSiamConfig
from ecg_hf.models.joint_embedding.configuration_three_kg import ThreeKgConfig
from ecg_hf.models.joint_embedding.configuration_ts_tcc import TsTccConfig
from ecg_hf.models.joint_embedding.feature_extraction import (
    AstclFeatureExtractor,
    BarlowTwinsFeatureExtractor,
    ByolFeatureExtractor,
    ClocsFeatureExtractor,
    MoCoV3FeatureExtractor,
    SimClrFeatureExtractor,
    SimSiamFeatureExtractor,
    ThreeKgFeatureExtractor,
    TsTccFeatureExtractor,
)
from ecg_hf.models.joint_embedding.modeling_astcl import (
    AstclForEcgClassification,
    AstclForPreTraining,
    AstclModel,
)
from ecg_hf.models.joint_embedding.modeling_barlow_twins import (
    BarlowTwinsForEcgClassification,
    BarlowTwinsForPreTraining,
    BarlowTwinsModel,
)
from ecg_hf.models.joint_embedding.modeling_byol import (
    ByolForEcgClassification,
    ByolForPreTraining,
    ByolModel,
)
from ecg_hf.models.joint_embedding.modeling_clocs import (
    ClocsForEcgClassification,
    ClocsForPreTraining,
    ClocsModel,
)
from ecg_hf.models.joint_embedding.modeling_moco_v3 import (
    MoCoV3ForEcgClassification,
    MoCoV3ForPreTraining,
    MoCoV3Model,
)
from ecg_hf.models.joint_embedding.modeling_simclr import (
    SimClrForEcgClassification,
    SimClrForPreTraining,
    SimClrModel,
)
from ecg_hf.models.joint_embedding.modeling_simsiam import (
    SimSiamForEcgClassification,
    SimSiamForPreTraining,
    SimSiamModel,
)
from ecg_hf.models.joint_embedding.modeling_three_kg import (
    ThreeKgForEcgClassification,
    ThreeKgForPreTraining,
    ThreeKgModel,
)
from ecg_hf.models.joint_embedding.modeling_ts_tcc import (
    TsTccForEcgClassification,
    TsTccForPreTraining,
    TsTccModel,
)
from ecg_hf.models.ked.configuration_ked import KedConfig
from ecg_hf.models.ked.feature_extraction_ked import KedFeatureExtractor
from ecg_hf.models.ked.modeling_ked import KedForEcgClassification, KedModel
from ecg_hf.models.melp.configuration_melp import MelpConfig
from ecg_hf.models.melp.feature_extraction_melp import MelpFeatureExtractor
from ecg_hf.models.melp.modeling_melp import MelpForEcgClassification, MelpModel
from ecg_hf.models.pretrained import sample_record
from ecg_hf.models.st_mem.configuration_st_mem import StMemConfig
from ecg_hf.models.st_mem.feature_extraction_st_mem import StMemFeatureExtractor
from ecg_hf.models.st_mem.modeling_st_mem import StMemForEcgClassification, StMemForPreTraining, StMemModel
from ecg_hf.models.weimann_jepa.configuration_weimann_jepa import WeimannJepaConfig
from ecg_hf.models.weimann_jepa.feature_extraction_weimann_jepa import WeimannJepaFeatureExtractor
from ecg_hf.models.weimann_jepa.modeling_weimann_jepa import (
    WeimannJepaForEcgClassification,
    WeimannJepaForPreTraining,
    WeimannJepaModel,
)
from ecg_hf.pipelines.embedding import embed
from ecg_hf.plotting import plot_ecg
from ecg_hf.processing import EcgFeatureExtractor, EcgProcessor
from ecg_hf.signal import EcgRecord, iter_windows, read_record, read_records
from ecg_hf.training import EcgPreTrainer, EcgPreTrainingArguments
from ecg_hf.training.method_trainers import EcgCpcTrainer, EcgJepaTrainer, SimSiamTrainer, WeimannJepaTrainer

AclEcgTrainer = EcgPreTrainer
AstclTrainer = EcgPreTrainer
BarlowTwinsTrainer = EcgPreTrainer
ByolTrainer = EcgPreTrainer
CgDmerTrainer = EcgPreTrainer
ClearHugTrainer = EcgPreTrainer
ClocsTrainer = EcgPreTrainer
CoreEcgTrainer = EcgPreTrainer
CrtTrainer = EcgPreTrainer
DBetaTrainer = EcgPreTrainer
EcgBeatTrainer = EcgPreTrainer
EcgDistilTrainer = EcgPreTrainer
EcgFmTrainer = EcgPreTrainer
EtpTrainer = EcgPreTrainer
HeartLangTrainer = EcgPreTrainer
MerlTrainer = EcgPreTrainer
MoCoV3Trainer = EcgPreTrainer
SimClrTrainer = EcgPreTrainer
StMemTrainer = EcgPreTrainer
ThreeKgTrainer = EcgPreTrainer
TsTccTrainer = EcgPreTrainer

__version__: str

__all__ = [
    "AclEcgConfig",
    "AclEcgFeatureExtractor",
    "AclEcgForEcgClassification",
    "AclEcgForPreTraining",
    "AclEcgModel",
    "AclEcgTrainer",
    "AstclConfig",
    "AstclFeatureExtractor",
    "AstclForEcgClassification",
    "AstclForPreTraining",
    "AstclModel",
    "AstclTrainer",
    "AutoModelForEcgClassification",
    "AutoModelForZeroShotEcgClassification",
    "BarlowTwinsConfig",
    "BarlowTwinsFeatureExtractor",
    "BarlowTwinsForEcgClassification",
    "BarlowTwinsForPreTraining",
    "BarlowTwinsModel",
    "BarlowTwinsTrainer",
    "ByolConfig",
    "ByolFeatureExtractor",
    "ByolForEcgClassification",
    "ByolForPreTraining",
    "ByolModel",
    "ByolTrainer",
    "CgDmerConfig",
    "CgDmerFeatureExtractor",
    "CgDmerForEcgClassification",
    "CgDmerForPreTraining",
    "CgDmerModel",
    "CgDmerTrainer",
    "ClearHugConfig",
    "ClearHugFeatureExtractor",
    "ClearHugForEcgClassification",
    "ClearHugForPreTraining",
    "ClearHugModel",
    "ClearHugTrainer",
    "ClocsConfig",
    "ClocsFeatureExtractor",
    "ClocsForEcgClassification",
    "ClocsForPreTraining",
    "ClocsModel",
    "ClocsTrainer",
    "CoreEcgConfig",
    "CoreEcgFeatureExtractor",
    "CoreEcgForEcgClassification",
    "CoreEcgForPreTraining",
    "CoreEcgModel",
    "CoreEcgTrainer",
    "CrtConfig",
    "CrtFeatureExtractor",
    "CrtForEcgClassification",
    "CrtForPreTraining",
    "CrtModel",
    "CrtTrainer",
    "DBetaConfig",
    "DBetaFeatureExtractor",
    "DBetaForEcgClassification",
    "DBetaForPreTraining",
    "DBetaModel",
    "DBetaTrainer",
    "Ecg",
    "EcgBeatConfig",
    "EcgBeatFeatureExtractor",
    "EcgBeatForEcgClassification",
    "EcgBeatForPreTraining",
    "EcgBeatModel",
    "EcgBeatTrainer",
    "EcgCpcConfig",
    "EcgCpcFeatureExtractor",
    "EcgCpcForEcgClassification",
    "EcgCpcForPreTraining",
    "EcgCpcModel",
    "EcgCpcTrainer",
    "EcgDistilConfig",
    "EcgDistilFeatureExtractor",
    "EcgDistilForEcgClassification",
    "EcgDistilForPreTraining",
    "EcgDistilModel",
    "EcgDistilTrainer",
    "EcgError",
    "EcgFeatureExtractor",
    "EcgFmConfig",
    "EcgFmFeatureExtractor",
    "EcgFmForEcgClassification",
    "EcgFmForPreTraining",
    "EcgFmModel",
    "EcgFmTrainer",
    "EcgFounderConfig",
    "EcgFounderFeatureExtractor",
    "EcgFounderForEcgClassification",
    "EcgFounderModel",
    "EcgJepaConfig",
    "EcgJepaFeatureExtractor",
    "EcgJepaForEcgClassification",
    "EcgJepaForPreTraining",
    "EcgJepaModel",
    "EcgJepaTrainer",
    "EcgPreTrainer",
    "EcgPreTrainingArguments",
    "EcgProcessor",
    "EcgRecord",
    "EtpConfig",
    "EtpFeatureExtractor",
    "EtpForEcgClassification",
    "EtpForPreTraining",
    "EtpModel",
    "EtpTrainer",
    "HeartLangConfig",
    "HeartLangFeatureExtractor",
    "HeartLangForEcgClassification",
    "HeartLangForPreTraining",
    "HeartLangModel",
    "HeartLangTrainer",
    "HubertEcgConfig",
    "HubertEcgFeatureExtractor",
    "HubertEcgForEcgClassification",
    "HubertEcgModel",
    "KedConfig",
    "KedFeatureExtractor",
    "KedForEcgClassification",
    "KedModel",
    "MelpConfig",
    "MelpFeatureExtractor",
    "MelpForEcgClassification",
    "MelpModel",
    "MerlConfig",
    "MerlFeatureExtractor",
    "MerlForEcgClassification",
    "MerlForPreTraining",
    "MerlModel",
    "MerlTrainer",
    "MoCoV3Config",
    "MoCoV3FeatureExtractor",
    "MoCoV3ForEcgClassification",
    "MoCoV3ForPreTraining",
    "MoCoV3Model",
    "MoCoV3Trainer",
    "SimClrConfig",
    "SimClrFeatureExtractor",
    "SimClrForEcgClassification",
    "SimClrForPreTraining",
    "SimClrModel",
    "SimClrTrainer",
    "SimSiamConfig",
    "SimSiamFeatureExtractor",
    "SimSiamForEcgClassification",
    "SimSiamForPreTraining",
    "SimSiamModel",
    "SimSiamTrainer",
    "StMemConfig",
    "StMemFeatureExtractor",
    "StMemForEcgClassification",
    "StMemForPreTraining",
    "StMemModel",
    "StMemTrainer",
    "ThreeKgConfig",
    "ThreeKgFeatureExtractor",
    "ThreeKgForEcgClassification",
    "ThreeKgForPreTraining",
    "ThreeKgModel",
    "ThreeKgTrainer",
    "TsTccConfig",
    "TsTccFeatureExtractor",
    "TsTccForEcgClassification",
    "TsTccForPreTraining",
    "TsTccModel",
    "TsTccTrainer",
    "WeimannJepaConfig",
    "WeimannJepaFeatureExtractor",
    "WeimannJepaForEcgClassification",
    "WeimannJepaForPreTraining",
    "WeimannJepaModel",
    "WeimannJepaTrainer",
    "embed",
    "iter_windows",
    "plot_ecg",
    "pretrained",
    "read_record",
    "read_records",
    "record_to_fhir",
    "sample_record",
    "scores_to_fhir",
]
