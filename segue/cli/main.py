"""The program `segue`: its verbs, and how it ends.

Results go to standard output, everything else to standard error. Bad input costs one line and exit code 2.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import typer

from segue.cli.codes import decode, encode
from segue.cli.describe import info
from segue.cli.doctor import doctor
from segue.cli.evaluate import mount as mount_evaluate
from segue.cli.listen import listen_make, listen_score, listen_serve
from segue.cli.pairs import pairs_app
from segue.cli.sound import continue_, generate, reconstruct
from segue.cli.tokenize import tokenize
from segue.cli.tokens import tokens
from segue.cli.training import fit, train_codec, train_lm, train_parallel, train_semantic
from segue.errors import SegueError
from segue.terminal import err

app = typer.Typer(
    name="segue",
    help="AudioLM as software: give it a few seconds of raw audio and it goes on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
evaluate_app = typer.Typer(help="Measure a bundle on held-out sound.", no_args_is_help=True)
listen_app = typer.Typer(help="Let people judge: blind listening tests.", no_args_is_help=True)
train_app = typer.Typer(help="Train one part on your own data.", no_args_is_help=True)

app.command("continue")(continue_)
app.command()(generate)
app.command()(reconstruct)
app.command()(encode)
app.command()(decode)
app.command()(tokenize)
app.command()(tokens)
app.command()(fit)
app.command()(info)
app.command()(doctor)
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
mount_evaluate(evaluate_app)
evaluate_app.add_typer(pairs_app, name="pairs")
app.add_typer(listen_app, name="listen")
listen_app.command("make")(listen_make)
listen_app.command("serve")(listen_serve)
listen_app.command("score")(listen_score)
train_app.command("codec")(train_codec)
train_app.command("semantic")(train_semantic)
train_app.command("lm")(train_lm)
train_app.command("parallel")(train_parallel)


_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Of click, which typer keeps to itself: no such option, a value of the wrong kind, something missing."""
_INTERRUPTED = 130


def main() -> None:
    """Run the command line; what the caller can mend becomes one line and exit code 2."""
    warnings.showwarning = lambda message, *rest, **more: err.print(f"segue: warning: {message}")
    try:
        code = app(prog_name="segue", standalone_mode=False)
    except SegueError as error:
        err.print(f"segue: {' '.join(str(error).split())}")
        sys.exit(2)
    except _UsageError as error:
        _tell_usage(error)
        sys.exit(2)
    if code == _INTERRUPTED:
        err.print("segue: stopped")
    sys.exit(code)


def _tell_usage(error: Any) -> None:
    """A usage error as one line; none where no verb was named and the help was shown instead."""
    told = " ".join(error.format_message().split()).rstrip(".")
    if told:
        command = error.ctx.command_path if error.ctx else "segue"
        err.print(f"segue: {told}; see {command} --help")
