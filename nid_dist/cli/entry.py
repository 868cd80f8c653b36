"""What all commands share: errors and warnings in one line, exit codes, new output folders."""

import argparse
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

from nid_dist import cli
from nid_dist.cli.warned import Warned
from nid_dist.device import DeviceChoice, use_device
from nid_dist.errors import UserError
from nid_dist.files import NOT_TRIED, keep_apart
from nid_dist.memory import out_of_memory
from nid_dist.parallel.launch.launching import Launch, launch_in

_WORD = 10.0  # seconds in which the first process says what is wrong, and its launcher then ends the others


# What the library calls an argument that all commands have the same option for.
_OPTIONS = {
    r"^override (?=\S+: )": "--set ",
    r"^single_process(?=: )": "--single-process",
    r"^synset (?=\S+: )": "--synset ",
    r"\bresume=": "--resume ",
}


@runtime_checkable
class Command(Protocol):
    """Takes the arguments (None: the process's) and returns the exit code."""

    def __call__(self, arguments: Sequence[str] | None = None) -> int:
        """Run."""
        ...


class RankZeroArgumentParser(argparse.ArgumentParser):
    """Of several processes that a launcher started together, only the first explains the options."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if _launch().rank == 0:
            super()._print_message(message, file)


def add_device_option(parser: argparse.ArgumentParser, *, default: str | None = "auto") -> None:
    """Add the option that `chosen_device` reads."""
    parser.add_argument(
        "--device", default=default, metavar="auto|cpu|cuda|cuda:N", help="where to compute; auto: the GPU, if any"
    )


def chosen_device(options: argparse.Namespace) -> DeviceChoice:
    """The device asked for, of all that the command does and starts; it prints the choice when it begins to compute.

    Raises:
        UserError: when there is no such device.
    """
    return use_device(options.device)


@contextmanager
def in_options(**phrases: str) -> Iterator[None]:
    """Errors that name an argument of the library, or hint at it, say its phrase instead: the option."""
    try:
        yield
    except UserError as error:
        where, hint = error.where, error.hint
        for word, phrase in phrases.items():
            where, hint = (re.sub(rf"\b(the )?{word}\b", phrase, text) for text in (where, hint))
        raise UserError(where, found=error.found, expected=error.expected, hint=hint) from None


def guarded(program: str, command: Command, *, together: bool = False) -> Command:
    """Wrap a command so that an error of the user's ends it with one line on stderr and exit code 2.

    Of several processes that a launcher started to do one thing `together`, only one says what has failed, only the
    first shows warnings, and one that fails ends at once; without it, each runs its own.
    """

    def main(arguments: Sequence[str] | None = None) -> int:
        launch = _launch() if together else Launch()
        warned = Warned(program, silent=launch.rank != 0)
        if launch.size > 1:
            from nid_dist.parallel.launch import failures

            failures.let_say(lambda error: _end_together(program, error))
        try:
            with warnings.catch_warnings():
                warnings.showwarning = warned.show
                cli.raise_interruptions()
                try:
                    return command(arguments)
                finally:
                    warned.finish()
        except SystemExit:
            raise
        except BaseException as error:
            if launch.size > 1:
                _end_together(program, error)
            message = _message(error)
            if message is None:
                raise
            print(f"{program}: {message[0]}", file=sys.stderr)
            if isinstance(error, KeyboardInterrupt):
                cli.end_soon()
            return message[1]

    return main


def _launch() -> Launch:
    try:
        return launch_in(os.environ)
    except UserError:
        return Launch()  # the command itself will say what is wrong with it


def _message(error: BaseException) -> tuple[str, int] | None:
    """What to say of an error, and the exit code; None: it is a mistake of the program's."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    error = out_of_memory(error) or error
    if not isinstance(error, UserError):
        return None
    text = str(error)
    for words, option in _OPTIONS.items():
        text = re.sub(words, option, text)
    return f"error: {text}", 2


def _end_together(program: str, error: BaseException) -> NoReturn:
    """Say what has failed, unless another process of the job does, and end this one."""
    from nid_dist.parallel.launch import failures

    failures.claim_the_end()
    joined = failures.joined()
    if joined:
        # The launcher, too, notices a process that has ended, and would end this one before it has said why.
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if failures.is_lost_connection(error):
            error = failures.diagnose(error)
    message, first = _message(error), failures.speak_first()
    if message is None:
        traceback.print_exception(error)
    elif first:
        print(f"{program}: {message[0]}", file=sys.stderr)
    elif not joined and isinstance(error, UserError):
        # The first one may not have come so far yet; if this one ended, the launcher would end that one, too.
        time.sleep(_WORD)
    failures.end(1 if message is None else message[1])


def without_result(program: str, failed: Mapping[str, str], count: int) -> int:
    """Say on stderr which of `count` inputs have no result, and why: exit code 0 where all have one, otherwise 2."""
    for reason in failed.values():
        if reason != NOT_TRIED:
            print(f"{program}: error: {reason}", file=sys.stderr)
    if failed and count > 1:
        print(
            f"{program}: error: {len(failed)} of {count} images have no result"
            + ("" if len(failed) == count else "; the others are written"),
            file=sys.stderr,
        )
    return 2 if failed else 0


def make_out_folder(path: Path, inputs: Iterable[Path | str | None] = ()) -> None:
    """Make an output folder, which must be new or empty, and outside of the folders of the inputs.

    Raises:
        UserError: when it holds something, cannot be made, or lies within the inputs.
    """
    keep_apart(path, inputs)
    try:
        path.mkdir(parents=True, exist_ok=True)
        filled = any(path.iterdir())
    except OSError as error:
        raise UserError(
            f"--out {path}", found=error.strerror or str(error), expected="a writable place", hint="choose another"
        ) from error
    if filled:
        raise UserError(
            f"--out {path}", found="a folder with files", expected="a new or empty one", hint="choose another"
        )
