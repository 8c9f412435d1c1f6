"""`steel kernel submit`: a proved version of the kernel submitted, its score awaited and written down.

Each submission has a line in `submissions/log.csv`, and an entry in `scores.json` beside manifest.json, as soon as it
has a number; its scores are filled in once Kaggle tells them, be it after the next version was pushed. manifest.json is
an output of the stage `submit`: were they added to it, the stage, and the bundle after it, would no longer stand.
"""

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
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

SCORES, LOG = "scores.json", "log.csv"
ENDED = ("complete", "error")
COLUMNS = (
    "date",
    "solution",
    "bundle",
    "cv",
    "expected_lb",
    "state",
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
        logged(paths.submission.parent / LOG)  # a log of another kind is told before anything is submitted
        known = _score(client.open_api(), paths, kernel, known or {"version": version, "message": text})
    _tell(paths, kernel, known)


def log(path: Path, row: dict[str, Any]) -> None:
    """Add a line to the log of all submissions, or replace the one that the submission has."""
    rows = logged(path)
    rows[str(row["submission_id"])] = row
    with files.atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows.values())


def logged(path: Path) -> dict[str, dict[str, Any]]:
    """The lines of the log by the submission's number; none where there is no log."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise UserError(f"{path}: other columns than {','.join(COLUMNS)}: move it away, and a new one is begun")
        return {old["submission_id"]: old for old in reader}


def _score(api: Any, paths: Paths, kernel: str, known: dict[str, Any]) -> dict[str, Any]:
    """Submit, unless that was done, and wait for the score; what is known of the submission then."""
    if "id" not in known:
        known = _submit(api, paths, kernel, known)
    what = f"submission {known['id']}"
    look = partial(client.call, what, lambda: _state(api, known["id"]))
    follow(what, look, ENDED, POLL_S)
    there = {one.id: one for one in client.call(what, partial(endpoints.submissions, api))}
    found = there[known["id"]]
    _fill_in(paths, there)
    known |= {"public": found.public, "private": found.private, "fault": found.fault, "state": found.state}
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
    _begin(paths, kernel, known)
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


def _begin(paths: Paths, kernel: str, known: dict[str, Any]) -> None:
    """Write down what was submitted just now, with the scores that are expected of it."""
    head = files.read_json(paths.submission / "manifest.json")["cv"]
    row = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "solution": paths.solution.name,
        "bundle": recorded(paths.kernel),
        "cv": f"{head['mean']:.5f}",
        "expected_lb": f"{head['public_mean']:.5f}",
        "state": "pending",
        "public": "",
        "private": "",
        "kernel_version": known["version"],
        "submission_id": known["id"],
    }
    scores = [one for one in _scores(paths) if one["submission_id"] != known["id"]]
    _write(paths, [*scores, {**row, "kernel": kernel, "message": known["message"]}])


def _fill_in(paths: Paths, there: dict[int, Submission]) -> None:
    """Complete all submissions of the solution that had no score yet; by number, what Kaggle tells of each."""
    scores = _scores(paths)
    for one in scores:
        found = there.get(one["submission_id"])
        if one.get("state") not in ENDED and found is not None:
            one |= {"date": found.date, "state": found.state, "public": found.public, "private": found.private}
    _write(paths, scores)


def _scores(paths: Paths) -> list[dict[str, Any]]:
    path = paths.submission / SCORES
    return files.read_json(path) if path.exists() else []


def _write(paths: Paths, scores: list[dict[str, Any]]) -> None:
    files.write_json(paths.submission / SCORES, scores)
    for one in scores:
        log(paths.submission.parent / LOG, one)


def _tell(paths: Paths, kernel: str, known: dict[str, Any]) -> None:
    """Say a score; a UserError for a submission that has none."""
    if known["state"] == "error":
        why = client.one_line(known["fault"]) or "it does not say why"
        raise UserError(
            f"submission {known['id']} of {kernel}: Kaggle could not score it: {why}; its page has the log; "
            "`steel kernel submit CONFIG --yes --force` submits it again"
        )
    head = files.read_json(paths.submission / "manifest.json")["cv"]
    say(
        f"kernel submit: {kernel} is submission {known['id']}: public {known['public'] or 'not told'}, "
        f"private {known['private'] or 'not told'}; CV {head['mean']:.5f}, expected {head['public_mean']:.5f}"
    )
