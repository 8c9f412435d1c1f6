"""How a solution's kernel stands, for `steel status`: its fallbacks, the bundle, its dry run, what was sent of it."""

from collections.abc import Sequence

from steel import stage
from steel.decide import fallback_search
from steel.errors import UserError
from steel.kaggle import bundle, parts, push, remote
from steel.kaggle.owner import of_bundle
from steel.paths import Paths


def lines(paths: Paths, folds: Sequence[int]) -> list[tuple[str, str]]:
    """Name and words of the fallbacks and of the kernel, whose bundle was made."""
    fallbacks = stage.look(fallback_search.spec(paths, folds))
    kernel = [_bundle(paths, folds), _dry_run(paths), *_sent(paths)]
    return [("fallbacks", str(fallbacks)), ("kernel", "; ".join(kernel))]


def _bundle(paths: Paths, folds: Sequence[int]) -> str:
    """How the bundle stands, by what is known without the digests of its weights."""
    try:
        bundle.need_finished(paths, folds)
    except UserError:
        return "stale (what it is made from does not stand)"
    try:
        return str(stage.look(bundle.spec(paths, folds, of_bundle(paths.kernel))))
    except UserError as error:  # such as test strips predicted on several numbers of threads
        return f"stale ({error})"


def _dry_run(paths: Paths) -> str:
    if parts.passed(paths.kernel):
        return "dry run passed"
    has_older = (paths.kernel / parts.DRY_RUN).exists()
    return "dry run of an older bundle" if has_older else "no dry run yet"


def _sent(paths: Paths) -> list[str]:
    """The version that was pushed, and whether its submission was compared with the local one; nothing if none was."""
    sent = remote.sent(paths.kernel)
    version = sent.get("kernel", {}).get("version")
    if version is None:
        return []
    try:
        is_same = remote.sent_kernel(paths.kernel) == version
    except FileNotFoundError:  # a file of the bundle is gone
        is_same = False
    if not is_same:
        return [f"version {version} pushed of an older bundle"]
    is_compared = push.compared(paths, version)
    return [f"version {version} pushed", "compared" if is_compared else "not compared yet"]
