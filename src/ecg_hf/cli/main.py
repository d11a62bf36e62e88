"""Entry point of ``ecg-hf``: the list of commands, and errors as one line with exit code 2."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from ecg_hf.allocator import keep_freed_memory
from ecg_hf.cli import (
    card,
    compare,
    convert,
    convert_file,
    data,
    demo,
    embed,
    evaluate,
    explain,
    export,
    finetune,
    listing,
    plan,
    plot,
    predict,
    pretrain,
    push,
    quickstart,
    serve,
    study,
)
from ecg_hf.cli.commands import Commands
from ecg_hf.cli.disk_errors import disk_trouble
from ecg_hf.cli.output import echo, printable_logs
from ecg_hf.errors import EcgError

__all__ = ["app", "main"]

app = Commands(
    name="ecg-hf",
    help="Self-supervised and multimodal ECG models: data, pretraining, embeddings, zero-shot scores.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")
app.command("list")(listing.list_command)
app.command("quickstart")(quickstart.quickstart_command)
app.command("pretrain", context_settings=pretrain.PASS_THROUGH)(pretrain.pretrain_command)
app.command("finetune", context_settings=pretrain.PASS_THROUGH)(finetune.finetune_command)
app.command("plan", context_settings=plan.PASS_THROUGH)(plan.plan_command)
app.command("embed")(embed.embed_command)
app.command("evaluate")(evaluate.evaluate_command)
app.command("compare")(compare.compare_command)
app.command("convert", context_settings=convert.PASS_THROUGH)(convert.convert_command)
app.command("export")(export.export_command)
app.command("convert-file")(convert_file.convert_file_command)
app.command("predict")(predict.predict_command)
app.command("explain")(explain.explain_command)
app.command("plot")(plot.plot_command)
app.command("demo")(demo.demo_command)
app.command("serve")(serve.serve_command)
app.command("card")(card.card_command)
app.command("push")(push.push_command)


def _version(wanted: bool) -> None:
    if wanted:
        import ecg_hf

        echo(f"ecg-hf {ecg_hf.__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the signal's number."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a bug of this package (with its traceback), 2 an error the caller can fix (one line),
    130 interrupted (one line).
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if arguments is None:
        # Importing torch and transformers makes some million objects that stay; going through them again and again
        # in search of cycles is a tenth to a fifth of the seconds before a command begins.
        gc.set_threshold(50_000, 20, 50)
        keep_freed_memory()
    try:
        with printable_logs():
            # Not standalone: usage errors come here too, to be one line like all others. Help is not an error.
            code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # private in typer; the help is printed already
            sys.exit(2)
        _refuse(error.format_message())
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except EcgError as error:
        _refuse(str(error))
    except Exception as error:
        # Disk full, read-only output, no permission: for the caller to fix, although not an EcgError.
        trouble = disk_trouble(error) or (str(error) if isinstance(error, OSError) else None)
        if trouble is None:
            raise
        _refuse(trouble)
    if code == INTERRUPTED:  # typer makes a KeyboardInterrupt this code, and says nothing
        echo("interrupted", err=True)
    if code:
        sys.exit(code)


def _refuse(reason: str) -> NoReturn:
    echo(f"error: {' '.join(reason.split())}", err=True)
    sys.exit(2)


if __name__ == "__main__":
    main()
