"""Studies: many methods pretrained and evaluated alike, from one YAML file to one table."""

from typing import TYPE_CHECKING

from ecg_hf.lazy import lazy_names

if TYPE_CHECKING:
    from ecg_hf.studies.run import run_study
    from ecg_hf.studies.study import Arm, Study, list_studies, load_study

__all__ = ["Arm", "Study", "list_studies", "load_study", "run_study"]

# Loaded on first use: listing studies needs none of what runs them.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".run": ("run_study",),
        ".study": (
            "Arm",
            "Study",
            "list_studies",
            "load_study",
        ),
    },
)
