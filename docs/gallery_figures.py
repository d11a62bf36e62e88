"""Pictures of the gallery: figures here are not pyplot's, which sphinx-gallery would find by itself."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


class FiguresOfExamples:
    """Saves each figure that a block of an example left in a variable, once; remembers on the figure that it did."""

    def __repr__(self) -> str:
        # Part of the configuration that Sphinx compares from build to build: without an address.
        return "FiguresOfExamples()"

    def __call__(self, block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
        """The reStructuredText that shows the new figures."""
        paths = []
        for value in block_vars["example_globals"].values():
            if isinstance(value, Figure) and not hasattr(value, "_in_gallery"):
                value._in_gallery = True
                path = next(block_vars["image_path_iterator"])
                value.savefig(path, format="png", dpi=110)
                paths.append(path)
        return figure_rst(paths, gallery_conf["src_dir"])
