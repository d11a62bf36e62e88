"""``python -m ecg_hf.cli``: the command, for launchers such as torchrun."""

from ecg_hf.cli.main import main

main()
