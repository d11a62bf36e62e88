"""Sphinx: the documentation site. ``make docs`` builds it, offline."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "src"), str(HERE)]
# No example may reach for a network: what it needs ships with the package.
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")
warnings.filterwarnings("ignore", category=DeprecationWarning)

import written_pages  # noqa: E402
from gallery_figures import FiguresOfExamples  # noqa: E402

import ecg_hf  # noqa: E402

project = "ecg-hf"
author = "the ecg-hf authors"
release = version = ecg_hf.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery", "myst_parser"]
exclude_patterns = ["_build", "examples"]
root_doc = "index"
default_role = "literal"

html_theme = "furo"
html_title = "ecg-hf"
html_show_sourcelink = False
html_show_copyright = False
html_copy_source = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 100
napoleon_numpy_docstring = False
# As fields of the class: a dataclass lists its attributes once more by itself.
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (FiguresOfExamples(),),
    "reset_modules": (),
    "capture_repr": (),
    "min_reported_time": 0,
    "download_all_examples": False,
    "show_memory": False,
    # Its page would load scripts from elsewhere; the log has the seconds.
    "write_computation_times": False,
    "default_thumb_file": str(HERE / "sample_ecg.png"),
    "show_signature": False,
    "plot_gallery": "True",
    "abort_on_example_error": True,
    "notebook_images": False,
    "first_notebook_cell": "# Needs ecg-hf, see its README; a CPU and no network are enough.\n%matplotlib inline",
}


def _quiet_libraries() -> None:
    """Progress bars and reports of loading are not what an example shows."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _escape_types(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """``numpy.str_`` is a type, not a reference to a target."""
    lines[:] = [line.replace("numpy.str_", r"numpy.str\_") for line in lines]


def setup(app: Any) -> None:
    """Write the pages that follow from the code, before any is read."""
    _quiet_libraries()
    written_pages.write_all(HERE / "written")
    # After napoleon, which writes types of attributes into their texts.
    app.connect("autodoc-process-docstring", _escape_types, priority=900)
