"""The demo as a folder that a Space of the Hub runs."""

from __future__ import annotations

import json
import re
import shutil
from importlib.metadata import requires, version
from pathlib import Path

import ecg_hf
from ecg_hf.errors import ConfigurationError
from ecg_hf.files import replace_folder, write_whole

__all__ = ["SPACE_PORT", "write_space"]

SPACE_PORT = 7860
"""Where a Space expects its application."""

_EXTRAS = ("demo", "clinical", "scp")

_APP = '''"""ecg-hf demo as a Space. The Space's proxy is what others reach; the page itself is on its port alone."""

from ecg_hf.cli.main import main

if __name__ == "__main__":
    main([{arguments}])
'''

_README = """---
title: ECG demo
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
license: apache-2.0
short_description: Findings, zero-shot answers and explanations of an ECG
---
# ECG demo

Upload an ECG: a picture, findings, similarity to texts of your own, what a score is due to, similar ECGs. For
research only, not for diagnosis. Uploads are removed after about fifteen minutes.

`ecg_hf/` is the package as it was when this folder was written, with the weights that ship with it, and
`requirements.txt` is what it needs.
"""


def write_space(folder: str | Path, model: str | None, *, overwrite: bool = False) -> Path:
    """Write ``app.py``, ``requirements.txt``, a ``README.md`` that the Hub reads, and the package itself.

    Args:
        folder: Folder to write; push it with ``hf upload --repo-type space ORG/NAME FOLDER .``
        model: Name of a model that ships, or of a repository on the Hub; the package's own if None.
        overwrite: Replace an existing folder.

    Returns:
        The folder.

    Raises:
        ConfigurationError: if the folder exists, or the model is a folder on this machine.
    """
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise ConfigurationError("exists already: overwrite it or choose another folder", path=folder)
    if model is not None and Path(model).exists():
        # What its licence allows is what push looks at.
        raise ConfigurationError(
            "a Space can't see a folder of this machine: push the model first", path=model
        )
    arguments = ["demo", *([] if model is None else [model]), "--host", "0.0.0.0", "--port", str(SPACE_PORT)]
    arguments.append("--behind-proxy")
    with replace_folder(folder, overwrite=overwrite) as target:
        target.mkdir()
        shown = ", ".join(json.dumps(one) for one in arguments)
        write_whole(target / "app.py", _APP.format(arguments=shown))
        write_whole(target / "requirements.txt", "\n".join(requirements()) + "\n")
        write_whole(target / "README.md", _README.format(gradio=version("gradio")))
        unwanted = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(Path(ecg_hf.__file__).parent, target / "ecg_hf", ignore=unwanted)
    return folder


def requirements() -> list[str]:
    """What the package and the extras of the demo need, without gradio, which the Space itself installs."""
    found = []
    for line in requires("ecg-hf") or []:
        wanted, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*[\"'](\w+)", marker)
        if (extra is None or extra[1] in _EXTRAS) and not wanted.startswith("gradio"):
            found.append(wanted.strip())
    return sorted(set(found), key=str.lower)
