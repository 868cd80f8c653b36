"""The command line: each module parses its arguments, calls the system and reports errors in one line.

What is imported first of a command is this: PyTorch takes seconds, in which Ctrl-C is to end it as quietly as later.
"""

import os
import signal
import sys
import threading
from typing import Any

_RANKS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")  # of several processes the first one speaks
_PATIENCE = 3.0  # seconds that an interrupted process may take to end
_begun = False


def begin() -> None:
    """Make this process a command: outside of what `guarded` runs, too, Ctrl-C ends it in one line, with exit code 130.

    It does nothing where somebody else listens to the signal.
    """
    global _begun
    if threading.current_thread() is threading.main_thread():
        _begun = signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _end)
        if _begun:
            signal.signal(signal.SIGINT, _end)


def raise_interruptions() -> None:
    """From here on Ctrl-C is an exception, so that what is half done is cleared up."""
    if _begun and signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_soon() -> None:
    """After an interruption: a thread that goes on keeps this process for no more than some seconds."""
    if _begun:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        end = threading.Timer(_PATIENCE, os._exit, (130,))
        end.daemon = True
        end.start()


def _end(*_: Any) -> None:
    if next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0":
        os.write(2, f"{_program()}: interrupted\n".encode(errors="replace"))
    os._exit(130)


def _program() -> str:
    module = next((word for word in sys.orig_argv if word.startswith("nid_dist.cli.")), None)
    if module is not None:
        return f"nid-{module.rpartition('.')[2].replace('_', '-')}"
    return "nid-train" if sys.argv[0].endswith(".py") else os.path.basename(sys.argv[0])


def _is_started() -> bool:
    """Whether a console script or `python -m` imports this, not a library, nor a process that a command starts."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        return False
    return bool(sys.argv) and (sys.argv[0] == "-m" or os.path.basename(sys.argv[0]).startswith("nid-"))


if _is_started():
    begin()
