"""The program ``steel``: its stages, and what a user sees when something is wrong."""

import errno
import os
import sys
from pathlib import Path

from steel import __version__
from steel.errors import UserError

ABOUT = "A solution kit for the Kaggle competition Severstal: Steel Defect Detection."


def main(argv: list[str] | None = None) -> None:
    """Run one stage; exit 0, or 2 after one line on what is wrong, or 130 when interrupted."""
    args = sys.argv[1:] if argv is None else argv
    try:
        _dispatch(args)
    except UserError as error:
        _leave(f"steel: {error}", 2)
    except KeyboardInterrupt:
        _leave("steel: interrupted; start it again and it continues", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        where = f" ({error.filename})" if error.filename else ""
        advice = "; free some space and start it again, it continues" if full else ""
        _leave(f"steel: {error.strerror or error}{where}{advice}", 2)


def _dispatch(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        print(overview())
        return
    if args[0] == "--version":
        print(f"steel {__version__}")
        return
    name, *rest = args
    if name == "score":
        from steel.kaggle.score import main as score

        score(rest)
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
    lines += [f"  {name:<9}{(stage.__doc__ or '').strip()}" for name, stage in STAGES.items()]
    lines += ["  score    Score a submission file against a label file (no CONFIG).", ""]
    lines += ["`steel STAGE --help` lists the options; `steel --version` says which version this is."]
    return "\n".join(lines)


def _leave(line: str, code: int) -> None:
    sys.stdout.flush()
    print(line, file=sys.stderr)
    raise SystemExit(code) from None


if __name__ == "__main__":
    if not Path.cwd().is_dir():
        sys.exit("steel: the working directory is gone")
    main()
