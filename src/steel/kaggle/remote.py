"""What the kit does on Kaggle: send a dataset and a kernel, wait for the kernel's end, fetch what it left.

What was sent lies in `sent.json` in the kernel's folder, written before and after each step, so that a killed program
goes on where it was, and nothing is sent twice. The dataset's folder lies inside the kernel's.
"""

import re
import tempfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import requests

from steel import files
from steel.config import Solution, digest
from steel.errors import UserError
from steel.kaggle import client, endpoints
from steel.kaggle.endpoints import Pushed
from steel.kaggle.follow import POLL_S, follow, log_text
from steel.kaggle.parts import DATASET, KERNEL
from steel.progress import say

SENT = "sent.json"
TITLE_CHARS = (6, 50)  # of a title, and so of the slug that Kaggle makes of it
DATASET_POLL_S = 5.0
N_LOG_LINES = 20
CHUNK = 1 << 20  # bytes written at a time
VERIFY = (
    "the token's account may not do that; for a GPU or the internet its phone number has to be verified at "
    "https://www.kaggle.com/settings"
)


class KernelFailed(UserError):
    """A kernel ended otherwise than well: to be pushed anew, not waited for."""


def refuse_made_up(solution: Solution) -> None:
    """A UserError for a solution on strips that Kaggle does not have."""
    if solution.data.synth is not None:
        raise UserError(
            f"{solution.name}: its strips are made up (data.synth), and Kaggle has others; "
            "allowed: a solution on the competition's own, such as configs/baseline.yaml"
        )


def send_dataset(api: Any, folder: Path) -> int:
    """Create, or give a new version to, the dataset of a folder with dataset-metadata.json; its version, once ready.

    Nothing is sent if Kaggle's latest version was made here of the same files. Folders travel as zip archives, which
    Kaggle unpacks.
    """
    metadata = _metadata(api, folder / DATASET)
    dataset, what = metadata["id"], f"dataset {metadata['id']}"
    now = {"id": dataset, "digest": content(folder)}
    known = sent(folder.parent).get("dataset", {})
    version = client.call(what, partial(endpoints.dataset_version, api, dataset), VERIFY)
    if known.items() >= now.items():
        if version and version == known.get("version"):
            say(f"{what}: version {version} has these files; nothing is sent")
            return version
        if "version" not in known and client.call(what, partial(_arrived, api, dataset, known["before"]), VERIFY):
            return _wait_dataset(api, folder, known)
    exists = _settled(api, dataset)
    tokens = _upload(api, folder, what)
    now["before"] = version
    note(folder.parent, dataset=now, uploads=None, kernel=None, output=None)  # what ran, ran on another dataset
    make = partial(endpoints.create_dataset_version, api, dataset, f"sha256 {now['digest']}", tokens)
    if not exists:
        make = partial(endpoints.create_dataset, api, metadata, tokens)
    fault = client.change(what, make, lambda: "" if _arrived(api, dataset, version) else None, VERIFY)
    if fault:
        note(folder.parent, dataset=None)
        raise UserError(f"{what}: Kaggle refuses it: {client.one_line(fault)}")
    return _wait_dataset(api, folder, now)


def send_kernel(api: Any, folder: Path) -> int:
    """Push the kernel of a folder with kernel-metadata.json, which runs it; its version.

    It is pushed again even if nothing changed, but not if only the answer to the last push was lost.
    """
    kernel = _metadata(api, folder / KERNEL)["id"]
    what, now = f"kernel {kernel}", _kernel(folder)
    known = sent(folder).get("kernel", {})
    before = client.call(what, partial(endpoints.kernel_version, api, kernel), VERIFY)
    if known.items() >= now.items() and "version" not in known and before > known["before"]:
        pushed = Pushed(before, "", "")
    else:
        now["before"] = before
        note(folder, kernel=now)
        pushed = client.change(
            what, partial(endpoints.save_kernel, api, folder), partial(_pushed, api, kernel, before), VERIFY
        )
    if pushed.fault:
        note(folder, kernel=None)
        raise UserError(f"{what}: Kaggle refuses it: {client.one_line(pushed.fault)}")
    version = pushed.version or client.call(what, partial(endpoints.kernel_version, api, kernel), VERIFY)
    note(folder, kernel={**now, "version": version}, output=None, submission=None)
    say(f"{what}: version {version} is pushed{f', see {pushed.url}' if pushed.url else ''}")
    return version


def standing_kernel(api: Any, folder: Path) -> int | None:
    """`sent_kernel`, if Kaggle still has it."""
    kernel, version = files.read_json(folder / KERNEL)["id"], sent_kernel(folder)
    if version is None:
        return None
    latest = client.call(f"kernel {kernel}", partial(endpoints.kernel_version, api, kernel), VERIFY)
    return version if latest >= version else None


def sent_dataset(folder: Path) -> int | None:
    """The version of a dataset that was made of the very files in its folder; None if none was."""
    known = sent(folder.parent).get("dataset", {})
    now = {"id": files.read_json(folder / DATASET)["id"], "digest": content(folder)}
    return known.get("version") if known.items() >= now.items() else None


def sent_kernel(folder: Path) -> int | None:
    """The version of a kernel that was pushed of the very files in its folder, and runs on the dataset sent last."""
    known = sent(folder).get("kernel", {})
    return known.get("version") if known.items() >= _kernel(folder).items() else None


def wait_kernel(api: Any, kernel: str, every_s: float = POLL_S) -> None:
    """Wait until a kernel has ended; KernelFailed, after the end of its log, if it did not end well.

    `kernel` is "owner/slug", or "owner/slug/5" for its version 5: right after a push, the run that is found without a
    version may still be the one before.
    """
    what = f"kernel {kernel}"
    look = partial(client.call, what, lambda: endpoints.kernel_state(api, kernel)[0], VERIFY)
    state = follow(what, look, ("complete", "error", "cancel acknowledged"), every_s)
    if state == "complete":
        return
    _, message = client.call(what, partial(endpoints.kernel_state, api, kernel), VERIFY)
    _, log = client.call(what, partial(endpoints.kernel_output, api, kernel), VERIFY)
    lines = [line for line in log_text(log).splitlines() if line.strip()]
    for line in lines[-N_LOG_LINES:]:
        say(f"| {line}")
    why = ("failed" if state == "error" else "was cancelled") + (f" ({client.one_line(message)})" if message else "")
    end = f"{client.one_line(lines[-1])}; the end of its log stands above" if lines else "it left no log"
    raise KernelFailed(f"{what} {why}: {end}")


def fetch_output(api: Any, kernel: str, folder: Path) -> list[Path]:
    """Fetch the files that a kernel, "owner/slug" or "owner/slug/5", left, and its log as `slug.log`, into a folder."""
    done: dict[str, Path] = {}
    return client.call(f"output of {kernel}", partial(_fetch, api, kernel, folder, done), VERIFY)


def sent(folder: Path) -> dict[str, Any]:
    """What was sent from a kernel's folder, by part."""
    path = folder / SENT
    return files.read_json(path) if path.exists() else {}


def note(folder: Path, **parts: Any) -> None:
    """Write down parts of what was sent; None takes one away."""
    state = {**sent(folder), **parts}
    files.write_json(folder / SENT, {key: value for key, value in state.items() if value is not None})


def content(folder: Path) -> str:
    """Digest of the files of a dataset's folder."""
    return digest({str(path.relative_to(folder)): files.sha256(path) for path in dataset_files(folder)})


def dataset_files(folder: Path) -> list[Path]:
    """What a dataset has, or a folder in it: all files but the metadata."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / DATASET)


def _metadata(api: Any, path: Path) -> dict[str, Any]:
    """The metadata of a dataset or a kernel, checked as Kaggle would, or would not."""
    found = files.read_json(path)
    (owner, slug), title, user = found["id"].split("/"), found["title"], client.user_of(api)
    if owner.lower() != user.lower():
        raise UserError(f"{path}: of the user {owner!r}, but the token is {user}'s: make it anew with --owner {user}")
    least, most = TITLE_CHARS
    if re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") != slug or not least <= len(title) <= most:
        raise UserError(f"{path}: title {title!r}: expected {least} to {most} characters that yield the slug {slug!r}")
    return found


def _kernel(folder: Path) -> dict[str, Any]:
    """Name of a folder's kernel, and digest of what it runs."""
    metadata = files.read_json(folder / KERNEL)
    parts = [files.sha256(folder / metadata["code_file"]), files.sha256(folder / KERNEL)]
    return {"id": metadata["id"], "digest": digest(parts)}


def _pushed(api: Any, kernel: str, before: int) -> Pushed | None:
    version = endpoints.kernel_version(api, kernel)
    return Pushed(version, "", "") if version > before else None


def _arrived(api: Any, dataset: str, before: int) -> bool:
    """Whether a version after `before` was made, be it that Kaggle is still at work on it."""
    state = endpoints.dataset_state(api, dataset)
    return state not in ("", "ready", "failed") or endpoints.dataset_version(api, dataset) > before


def _settled(api: Any, dataset: str) -> bool:
    """Whether a dataset exists, once Kaggle is not at work on it: it would refuse another version."""
    what = f"dataset {dataset}"
    look = partial(client.call, what, partial(endpoints.dataset_state, api, dataset), VERIFY)
    state = look()
    if state not in ("", "ready", "failed"):
        follow(what, look, ("ready", "failed"), DATASET_POLL_S)
    return state != ""


def _wait_dataset(api: Any, folder: Path, now: dict[str, Any]) -> int:
    """Wait until Kaggle has the version after `now["before"]` ready; its number."""
    dataset, what = now["id"], f"dataset {now['id']}"

    def look() -> str:
        state = endpoints.dataset_state(api, dataset)
        late = state == "ready" and endpoints.dataset_version(api, dataset) <= now["before"]
        return "" if late else state

    state = follow(what, partial(client.call, what, look, VERIFY), ("ready", "failed"), DATASET_POLL_S)
    if state == "failed":
        note(folder.parent, dataset=None)
        raise UserError(f"{what}: Kaggle failed to unpack it; start it again, it is sent anew")
    version = client.call(what, partial(endpoints.dataset_version, api, dataset), VERIFY)
    note(folder.parent, dataset={**now, "version": version})
    return version


def _upload(api: Any, folder: Path, what: str) -> list[str]:
    """Upload a dataset's files and archives; their tokens. Those of an interrupted run are taken, not sent again."""
    known = sent(folder.parent).get("uploads", {})
    tokens = {}
    names = sorted({path.relative_to(folder).parts[0] for path in dataset_files(folder)})
    for i, name in enumerate(names, 1):
        part = folder / name
        key = f"{name} {files.sha256(part) if part.is_file() else content(part)}"
        if key not in known:
            with tempfile.TemporaryDirectory() as temporary:
                path = part if part.is_file() else _archive(part, Path(temporary))
                say(f"{what}: {path.name}, {path.stat().st_size / 1e6:.1f} MB ({i} of {len(names)})")
                known[key] = client.call(f"upload of {path.name}", partial(endpoints.upload, api, path), VERIFY)
            note(folder.parent, uploads=known)
        tokens[key] = known[key]
    return list(tokens.values())


def _archive(folder: Path, where: Path) -> Path:
    """A folder as a zip, not compressed: what is in it mostly is."""
    path = where / f"{folder.name}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in dataset_files(folder):
            archive.write(file, file.relative_to(folder))
    return path


def _fetch(api: Any, kernel: str, folder: Path, done: dict[str, Path]) -> list[Path]:
    """Fetch what is not `done` yet: the addresses are new at each try, since they expire."""
    addresses, log = endpoints.kernel_output(api, kernel)
    for name in addresses.keys() - done.keys():
        path = _inside(folder, name)
        with requests.get(addresses[name], stream=True, timeout=client.TIMEOUT_S) as response:
            response.raise_for_status()
            with files.atomic(path) as temporary, temporary.open("wb") as file:
                file.writelines(response.iter_content(CHUNK))
        done[name] = path
    path = folder / f"{kernel.split('/')[1]}.log"
    with files.atomic(path) as temporary:
        temporary.write_text(log_text(log), encoding="utf-8")
    return [*(done[name] for name in sorted(done)), path]


def _inside(folder: Path, name: str) -> Path:
    """A file below a folder; a name that leads elsewhere is refused."""
    path = folder / name
    if "\\" in name or folder.resolve() not in path.resolve().parents:
        raise UserError(f"output of the kernel: {name!r} leads out of {folder}; allowed: files below it")
    return path
