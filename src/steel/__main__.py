"""The program ``steel``: its stages, and what a user sees when something is wrong."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from steel import __version__
from steel.commands import BESIDE
from steel.errors import UserError

ABOUT = "A solution kit for the Kaggle competition Severstal: Steel Defect Detection."


def main(argv: list[str] | None = None) -> None:
    """Run one stage; exit 0, or 2 after one line on what is wrong, or 130 when interrupted."""
    args = sys.argv[1:] if argv is None else argv
    # Threads that wait by spinning starve each other once the cores are shared: a step then takes ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads OpenMP
    try:
        try:
            with _interruptible():
                _dispatch(args)
        finally:
            sys.stdout.flush()  # here, where a closed pipe is caught, and not at exit
    except UserError as error:
        _leave(f"steel: {error}", 2)
    except KeyboardInterrupt as error:
        _leave("steel: interrupted; start it again and it continues", 128 + (error.args or (signal.SIGINT,))[0])
    except BrokenPipeError:  # `steel ... | head`: nobody reads on; the code is what the shell gives other programs
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except RuntimeError as error:
        advice = EXHAUSTED.get(type(error).__name__)
        if advice is None and "DataLoader worker" in str(error):
            advice = EXHAUSTED["BrokenProcessPool"]
        if advice is None:
            raise
        _leave(f"steel: {advice}", 2)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        where = f" ({error.filename})" if error.filename else ""
        advice = "; free some space and start it again, it continues" if full else ""
        _leave(f"steel: {error.strerror or error}{where}{advice}", 2)


# Faults of the machine that reach us as RuntimeErrors, by the name of their type: what to do about them.
EXHAUSTED = {
    "OutOfMemoryError": "the GPU's memory is full; lower batch or width in models.NAME.phases, or predict.batch",
    "BrokenProcessPool": "a process was killed, perhaps for want of memory; lower machine.jobs or machine.workers",
}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C, and who asks it to end, leave one line: no complaints of what is half built, such as a DataLoader."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = os.getpid()

    def interrupt(number: int, _frame: object) -> NoReturn:
        if os.getpid() != own:  # a child by fork, which has this handler too: as if it had none
            os._exit(128 + number)
        if number == signal.SIGTERM:  # one sent to the group comes again from a script that passes its own on
            signal.signal(number, signal.SIG_IGN)
        sys.unraisablehook = lambda _: None
        raise KeyboardInterrupt(number)

    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ours = {n: handler for n, handler in usual.items() if signal.getsignal(n) is handler}  # else in the background
    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in ours.items():
            if signal.getsignal(number) is interrupt:
                signal.signal(number, handler)


def _dispatch(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        print(overview())
        return
    if args[0] == "--version":
        print(f"steel {__version__}")
        return
    name, *rest = args
    if name in BESIDE:
        BESIDE[name](rest)
        return
    from steel.cli import parse
    from steel.stages import STAGES, Context, check_known

    check_known(name)
    about = (STAGES[name].__doc__ or "").strip()
    STAGES[name](Context(*parse(name, about, rest)))


def overview() -> str:
    """The stages in order, a line each."""
    from steel.stages import STAGES

    lines = [ABOUT, "", "usage: steel STAGE CONFIG [--key value ...]      CONFIG: a YAML such as configs/demo.yaml", ""]
    lines += [f"  {name:<11}{(stage.__doc__ or '').strip()}" for name, stage in STAGES.items()]
    lines += ["  score      Score a submission file against a label file (no CONFIG)."]
    lines += ["  show       Draw a strip, or an augmentation: `steel show IMAGE_ID --config CONFIG`."]
    lines += ["  compare    Say which of two finished runs is better: `steel compare A B`."]
    lines += ["  submission Check a submission file, or compare two: `steel submission check FILE`."]
    lines += ["  kernel     Predict or train on Kaggle: `steel kernel bundle|test|push|submit|train CONFIG`.", ""]
    lines += ["`steel STAGE --help` lists the options; `steel --version` says which version this is."]
    return "\n".join(lines)


def _leave(line: str, code: int) -> None:
    sys.stdout.flush()
    print(line, file=sys.stderr)
    raise SystemExit(code) from None


if __name__ == "__main__":
    main()
