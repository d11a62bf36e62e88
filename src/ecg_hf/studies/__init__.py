"""Studies: many methods pretrained and evaluated alike, from one YAML file to one table."""

from ecg_hf.studies.run import run_study
from ecg_hf.studies.study import Arm, Study, list_studies, load_study

__all__ = ["Arm", "Study", "list_studies", "load_study", "run_study"]
