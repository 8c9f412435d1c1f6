"""How a solution's kernel stands, for `steel status`: its fallbacks, the bundle, its dry run, what was sent of it."""

from collections.abc import Sequence

from steel import files, stage
from steel.decide import fallback_search
from steel.errors import UserError
from steel.kaggle import bundle, push, remote
from steel.paths import Paths


def lines(paths: Paths, folds: Sequence[int]) -> list[tuple[str, str]]:
    """Name and words of the fallbacks and of the kernel, whose bundle was made."""
    fallbacks = stage.look(fallback_search.spec(paths, folds))
    parts = [_bundle(paths, folds), _dry_run(paths), *_sent(paths)]
    return [("fallbacks", str(fallbacks)), ("kernel", "; ".join(parts))]


def _bundle(paths: Paths, folds: Sequence[int]) -> str:
    """How the bundle stands, by what is known without the digests of its weights."""
    metadata = paths.kernel / remote.KERNEL
    owner = files.read_json(metadata)["id"].partition("/")[0] if metadata.exists() else ""
    try:
        bundle.need_finished(paths, folds)
    except UserError:
        return "stale (what it is made from does not stand)"
    try:
        return str(stage.look(bundle.spec(paths, folds, owner)))
    except UserError as error:  # such as test strips predicted on several numbers of threads
        return f"stale ({error})"


def _dry_run(paths: Paths) -> str:
    if bundle.passed(paths):
        return "dry run passed"
    has_older = (paths.kernel / bundle.DRY_RUN).exists()
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
    local = paths.submission / push.FILE
    compared = {"version": version, "submission": files.sha256(local) if local.exists() else ""}
    is_compared = sent.get("output", {}).items() >= compared.items()
    return [f"version {version} pushed", "compared" if is_compared else "not compared yet"]
