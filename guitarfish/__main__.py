"""The entry point `guitarfish`: finds the verb, runs it, and turns every way it can end into an exit code.

0 success; 1 a run that failed, or an internal error; 2 something the user can fix; 3 the gate was not passed;
4 the budget is spent; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from guitarfish.commands import Verbs
from guitarfish.faults import report_fault
from guitarfish.show.rendering import json_printed, show_error
from runspec.errors import GuitarfishError

BROKEN_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended: 128 + 13."""

app = typer.Typer(
    cls=Verbs,
    name="guitarfish",
    help="Fine-tune language models with LoRA and QLoRA on Ray, and serve the adapters.",
    epilog="Start with `guitarfish init`, then `guitarfish check run.yaml`. Exit codes: 0 success, 1 failed, "
    "2 wrong input, 3 gate not passed, 4 budget spent, 130 interrupted.",
    invoke_without_command=True,
    rich_markup_mode=None,  # typer draws help with rich's Markdown and syntax modules, which take 0.3 s to import
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"guitarfish {installed('guitarfish')}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    json_printed.set(False)
    try:
        code = app(list(arguments), prog_name="guitarfish", standalone_mode=False)
        sys.stdout.flush()
    except GuitarfishError as error:
        show_error(error, as_json="--json" in arguments)
        return error.exit_code
    except typer.TyperException as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("\ninterrupted\n")
        return 130
    except BrokenPipeError:
        return _quiet()
    except SystemExit as exit_:
        return _quiet() if _is_broken_pipe(exit_.__context__) else _code(exit_)
    except Exception as error:  # noqa: BLE001 - the last place where an internal error can be shown
        return report_fault(error)
    return code if isinstance(code, int) else 0


def _usage(error: typer.TyperException) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # a verb with verbs of its own, called without one
        sys.stderr.write(f"{error.format_message()}\n")
        return 2
    context = getattr(error, "ctx", None)
    name = context.command_path if context is not None else "guitarfish"
    sys.stderr.write(f"error: {error.format_message()}\n  fix:   See `{name} --help`.\n")
    return 2


def _is_broken_pipe(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _quiet() -> int:
    """The reader of our output went away (`| head`): print nothing, not even when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def _code(exit_: SystemExit) -> int:
    return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)


def main() -> None:
    """What the `guitarfish` script calls."""
    _quiet_libraries()
    sys.exit(run(sys.argv[1:]))


def _quiet_libraries() -> None:
    """The terminal shows our own lines. These settings are read when the libraries are imported, so they come first."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # transformers' bar for each GGUF file; the hub's download bars stay
    if shutil.which("nvidia-smi") is None:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed prints to stdout that it found no GPU


if __name__ == "__main__":
    main()
