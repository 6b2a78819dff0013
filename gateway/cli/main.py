"""The ``sealgate`` command: parse, run, and turn whatever happens into an exit code and a helpful line.

Nothing slow is imported here: a command imports what it runs when it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from attest.refusal import Refused
from gateway import errors
from gateway.cli.commands import app
from gateway.cli.failure import Exit, Failure
from policies.refusal import PolicyRefusal


def main() -> NoReturn:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Returns:
        The exit code, see ``Exit``.
    """
    try:
        result = app(args=list(arguments), prog_name="sealgate", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has closed it (`| head`); flushing again at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAULT
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except Exception as error:
        if os.environ.get("SEALGATE_TRACEBACK"):
            raise
        failure = explain(error)
        if failure.message:  # a group without a command has already printed its help
            _report(failure, as_json="--json" in arguments)
        return failure.exit_code
    return result if isinstance(result, int) else Exit.OK


def explain(error: Exception) -> Failure:
    """What to tell a person about an exception that ended a command."""
    match error:
        case Failure():
            return error
        case Refused() | PolicyRefusal():
            return Failure(
                f"refused: {error}",
                f"docs/reference/refusal-codes.md explains {error.code}",
                code=error.code,
                exit_code=error.exit_code,
            )
        case errors.GatewayError():
            return Failure(f"{error.code}: {error.detail}", error.what_to_do, code=error.code)
        case typer.TyperException():
            return _usage(error)
        case OSError():
            name = f"{error.filename}: " if error.filename else ""
            return Failure(f"{name}{error.strerror or error}", code="os_error")
        case _:
            return _other(error)


def _other(error: Exception) -> Failure:
    if type(error).__name__ == "SettingsError":  # by name: its module is slow to load
        return Failure(
            "the settings are wrong",
            "'sealgate config explain' shows them once they are right",
            code="settings",
            exit_code=Exit.USAGE,
            detail="\n".join(getattr(error, "problems", ())),
        )
    # The text of an unforeseen exception may quote what it choked on, so only its kind is shown.
    return Failure(
        f"internal error ({type(error).__name__})",
        "this is a defect in Sealgate; set SEALGATE_TRACEBACK=1 to see where, and please report it",
        code="internal_error",
    )


def _usage(error: typer.TyperException) -> Failure:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "sealgate"
    message = error.format_message().rstrip(".")
    return Failure(
        message[:1].lower() + message[1:],
        f"'{path} --help' shows what it takes",
        code="usage",
        exit_code=Exit.USAGE,
    )


def _report(failure: Failure, *, as_json: bool) -> None:
    from gateway.cli.output import Output  # noqa: PLC0415 - rich is slow to load and rarely needed here

    Output(as_json=as_json).failure(failure)


if __name__ == "__main__":
    main()
