"""`steel kernel submit`: a proved version of the kernel submitted, its score awaited and written down.

The scores lie in `scores.json` beside manifest.json, which is an output of the stage `submit`: were they added to it,
the stage, and the bundle after it, would no longer stand. `submissions/log.csv` has a line for each submission.
"""

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from steel import files
from steel.competition import SLUG
from steel.errors import UserError
from steel.kaggle import bundle, client, endpoints, push, remote
from steel.kaggle.endpoints import Submission
from steel.kaggle.follow import POLL_S, follow
from steel.paths import Paths
from steel.progress import say
from steel.stage import recorded

COLUMNS = (
    "date",
    "solution",
    "bundle",
    "cv",
    "expected_lb",
    "public",
    "private",
    "kernel_version",
    "submission_id",
)


def run(paths: Paths, folds: Sequence[int], yes: bool, message: str | None, force: bool = False) -> None:
    """Submit the version that `push` proved, wait for its score and log it; without `yes` only say what would be done.

    A version is submitted once: if it was, its score is waited for, or told. `force`: submit it again after an error.
    """
    bundle.need(paths, folds, "kernel submit")
    version = push.proved(paths)
    kernel = f"{push.kernel_id(paths)}/{version}"
    known = remote.sent(paths.kernel).get("submission", {})
    if known.get("version") != version or (force and known.get("state") == "error"):
        known = {}
    text = " ".join((message or _message(paths, version)).split())
    if not yes and "state" not in known:
        what = f"the score of submission {known['id']} is not known yet" if "id" in known else "it would be submitted"
        say(f"kernel submit: {kernel} to {SLUG}, {text!r}: {what}")
        say("kernel submit: nothing has left this machine; with --yes it is done (a day has 5 submissions)")
        return
    if "state" not in known:
        known = _score(client.open_api(), paths, kernel, known or {"version": version, "message": text})
    _tell(paths, kernel, known)


def log(path: Path, row: dict[str, Any]) -> None:
    """Add a line to the log of all submissions, unless the submission has its line."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UserError(f"{path}: other columns than {','.join(COLUMNS)}: move it away, and a new one is begun")
            rows = list(reader)
    if any(old["submission_id"] == str(row["submission_id"]) for old in rows):
        return
    with files.atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, row])


def _score(api: Any, paths: Paths, kernel: str, known: dict[str, Any]) -> dict[str, Any]:
    """Submit, unless that was done, and wait for the score; what is known of the submission then."""
    if "id" not in known:
        known = _submit(api, paths, kernel, known)
    what = f"submission {known['id']}"
    look = partial(client.call, what, lambda: _state(api, known["id"]))
    follow(what, look, ("complete", "error"), POLL_S)
    (found,) = [one for one in client.call(what, partial(endpoints.submissions, api)) if one.id == known["id"]]
    known |= {"date": found.date, "public": found.public, "private": found.private, "fault": found.fault}
    known["state"] = found.state
    remote.note(paths.kernel, submission=known)
    return known


def _submit(api: Any, paths: Paths, kernel: str, known: dict[str, Any]) -> dict[str, Any]:
    """Submit a version; if an answer was lost, be it by an earlier run, first look whether it was submitted."""
    what = f"submission of {kernel}"
    name, _, version = kernel.rpartition("/")
    there = client.call(what, partial(endpoints.submissions, api))
    number = _find(there, known)
    if number is None:
        known = {**known, "before": [one.id for one in there]}
        remote.note(paths.kernel, submission=known)
        make = partial(endpoints.submit, api, name, int(version), push.FILE, known["message"])
        number = client.change(what, make, lambda: _find(endpoints.submissions(api), known))
    known = {**known, "id": number}
    remote.note(paths.kernel, submission=known)
    say(f"kernel submit: {kernel} is submission {number}; it runs again on Kaggle, which may take an hour")
    return known


def _find(there: Sequence[Submission], known: dict[str, Any]) -> int | None:
    """The submission that was made, by its message, after those that were there `before`."""
    if "before" not in known:
        return None
    found = [one.id for one in there if one.description == known["message"] and one.id not in known["before"]]
    return found[0] if found else None


def _state(api: Any, number: int) -> str:
    return next((one.state for one in endpoints.submissions(api) if one.id == number), "")


def _message(paths: Paths, version: int) -> str:
    head = files.read_json(paths.submission / "manifest.json")["cv"]
    return f"{paths.solution.name}, kernel version {version}, CV {head['mean']:.5f}, bundle {recorded(paths.kernel)}"


def _tell(paths: Paths, kernel: str, known: dict[str, Any]) -> None:
    """Write a score down, and say it; a UserError for a submission that has none."""
    if known["state"] == "error":
        why = client.one_line(known["fault"]) or "it does not say why"
        raise UserError(
            f"submission {known['id']} of {kernel}: Kaggle could not score it: {why}; its page has the log; "
            "`steel kernel submit CONFIG --yes --force` submits it again"
        )
    head = files.read_json(paths.submission / "manifest.json")["cv"]
    row = {
        "date": known["date"],
        "solution": paths.solution.name,
        "bundle": recorded(paths.kernel),
        "cv": f"{head['mean']:.5f}",
        "expected_lb": f"{head['public_mean']:.5f}",
        "public": known["public"],
        "private": known["private"],
        "kernel_version": known["version"],
        "submission_id": known["id"],
    }
    scores = paths.submission / "scores.json"
    told = files.read_json(scores) if scores.exists() else []
    if known["id"] not in [one["submission_id"] for one in told]:
        files.write_json(scores, [*told, {**row, "kernel": kernel, "message": known["message"]}])
    log(paths.submission.parent / "log.csv", row)
    say(
        f"kernel submit: {kernel} is submission {known['id']}: public {known['public'] or 'not told'}, "
        f"private {known['private'] or 'not told'}; CV {row['cv']}, expected {row['expected_lb']}"
    )
