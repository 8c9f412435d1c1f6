"""`steel kernel submit` with the real client against a server of ours: once, its score awaited and written down."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import proved_bundle
import pytest
import tiny
from kaggle_push_server import PushServer, Run, Verdict
from kaggle_server import Fault
from proved_bundle import FOLDER, KERNEL, LOCAL, REAL, fault, kernel

from steel import files, stage
from steel.__main__ import main
from steel.competition import SLUG
from steel.kaggle import bundle, client, endpoints, leaderboard, parts, remote
from steel.paths import Paths
from steel.stage import recorded

LOG, SCORES, SUBMIT = Path("submissions/log.csv"), Path("submissions/tiny/scores.json"), "CreateCodeSubmission"

pytestmark = pytest.mark.usefixtures("waited")


@pytest.fixture(scope="module")
def pushed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As after a push of version 1, which tests/test_push.py is about."""
    folder = proved_bundle.make(finished, tmp_path_factory.mktemp("pushed"))
    with tiny.within(folder):
        dataset = {"id": f"{KERNEL}-weights", "digest": remote.content(FOLDER / "dataset"), "version": 1}
        remote.note(FOLDER, dataset=dataset, kernel={**remote._kernel(FOLDER), "version": 1})
        remote.note(FOLDER, output={"version": 1, "submission": files.sha256(LOCAL), "dice": 1.0})
    return folder


@pytest.fixture
def server(pushed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PushServer]:
    with proved_bundle.place(monkeypatch, pushed, tmp_path) as found:
        found.kernels[KERNEL] = [(None, Run({"submission.csv": LOCAL.read_bytes()}))]
        yield found


def head() -> Any:
    return files.read_json(Path("submissions/tiny/manifest.json"))["cv"]


def logged() -> list[dict[str, str]]:
    with LOG.open(newline="") as file:
        return list(csv.DictReader(file))


def told(public: str = "0.91000", private: str = "0.90000") -> str:
    return (
        f"kernel submit: {KERNEL}/1 is submission 1001: public {public}, private {private}; "
        f"CV {head()['mean']:.5f}, expected {head()['public_mean']:.5f}"
    )


def test_nothing_is_submitted_by_itself(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    before = tiny.contents(Path())
    main(["kernel", "submit", tiny.CONFIG, *REAL])
    message = f"tiny, kernel version 1, CV {head()['mean']:.5f}, bundle {recorded(FOLDER)}"
    assert capsys.readouterr().out.splitlines() == [
        f"kernel submit: {KERNEL}/1 to {SLUG}, {message!r}: it would be submitted",
        "kernel submit: nothing has left this machine; with --yes it is done (a day has 5 submissions)",
    ]
    assert server.seen == [] and tiny.contents(Path()) == before


def test_submitted_scored_and_logged(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    main(["kernel", "submit", tiny.CONFIG, *REAL, "--yes", "--message", " first\n try "])
    assert capsys.readouterr().out.splitlines() == [
        f"kernel submit: {KERNEL}/1 is submission 1001; it runs again on Kaggle, which may take an hour",
        "submission 1001: pending, 0 s",
        "submission 1001: complete, 1 min 0 s",
        told(),
    ]
    (request,) = [seen.message for seen in server.seen if seen.name == SUBMIT]
    assert (request.kernel_owner, request.kernel_slug, request.kernel_version) == (*KERNEL.split("/"), 1)
    assert (request.competition_name, request.file_name) == (SLUG, "submission.csv")
    assert request.submission_description == "first try"
    row = {
        "date": "2026-11-23T10:00:00+00:00",
        "solution": "tiny",
        "bundle": recorded(FOLDER),
        "cv": f"{head()['mean']:.5f}",
        "expected_lb": f"{head()['public_mean']:.5f}",
        "state": "complete",
        "public": "0.91000",
        "private": "0.90000",
        "kernel_version": "1",
        "submission_id": "1001",
    }
    assert logged() == [row]
    more = {"kernel_version": 1, "submission_id": 1001, "kernel": f"{KERNEL}/1", "message": "first try"}
    assert json.loads(SCORES.read_text()) == [{**row, **more}]

    server.seen.clear()
    before = tiny.contents(Path())
    for yes in (True, False):
        kernel("submit", yes=yes)
        assert capsys.readouterr().out == f"{told()}\n"
    assert server.seen == [] and tiny.contents(Path()) == before


def test_the_stages_stand_after_it(server: PushServer) -> None:
    kernel("submit")
    paths = Paths(tiny.solution())
    assert stage.look(bundle.spec(paths, (0, 1, 2), "tester")).kind == "done"
    assert parts.passed(paths.kernel) and server.submitted


@pytest.mark.parametrize("lost", ["output", "kernel", "dataset", "changed"])
def test_a_version_that_was_not_proved_is_not_submitted(lost: str, server: PushServer) -> None:
    if lost == "changed":  # the run of another dataset
        known = remote.sent(FOLDER)["dataset"]
        remote.note(FOLDER, dataset={**known, "digest": "of other weights"})
    else:
        remote.note(FOLDER, **{lost: None})
    for yes in (True, False):
        assert fault("submit", yes) == (
            "kernels/tiny was not pushed as it is, run on Kaggle and compared: "
            "run `steel kernel push CONFIG --yes` first"
        )
    remote.note(FOLDER, output={"version": 1, "submission": "of another submission", "dice": 1.0})
    assert fault("submit")
    assert server.seen == []


def test_a_submission_that_fails_is_not_made_again_by_itself(
    server: PushServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.verdict = Verdict("ERROR", "", "", "Notebook Timeout.\nMore")
    expected = f"submission 1001 of {KERNEL}/1: Kaggle could not score it: Notebook Timeout. More; its page has the log"
    expected += "; `steel kernel submit CONFIG --yes --force` submits it again"
    assert fault("submit") == expected
    server.seen.clear()
    assert fault("submit") == expected
    assert server.seen == [] and [(row["state"], row["public"]) for row in logged()] == [("error", "")]
    server.verdict = Verdict()
    paths = Paths(proved_bundle.real())
    leaderboard.run(paths, paths.solution.folds, True, None, force=True)
    assert "submission 1002" in capsys.readouterr().out
    assert [row["state"] for row in logged()] == ["error", "complete"]
    leaderboard.run(paths, paths.solution.folds, True, None, force=True)
    assert server.names.count("CreateCodeSubmission") == 1  # one with a score is never made again


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("nth", range(6))
def test_killed_at_any_request_it_is_submitted_once(
    nth: int, after: bool, server: PushServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """List, submit, three looks, and the one for the scores; killed before the request or after it."""
    asked: list[str] = []

    def counted(name: str) -> Any:
        do = getattr(endpoints, name)

        def ask(*args: Any) -> Any:
            asked.append(name)
            if len(asked) == nth + 1:
                if after:
                    do(*args)
                raise KeyboardInterrupt
            return do(*args)

        return ask

    with monkeypatch.context() as patch:
        for name in ("submissions", "submit"):
            patch.setattr(endpoints, name, counted(name))
        with pytest.raises(KeyboardInterrupt):
            kernel("submit")
    assert asked == ["submissions", "submit", *["submissions"] * 4][: nth + 1]
    kernel("submit")
    assert capsys.readouterr().out.splitlines()[-1] == told()
    assert len(server.submitted) == len(logged()) == 1


@pytest.mark.parametrize("nth", [0, 1])
@pytest.mark.parametrize("how", ["log", "note", "write_json"])
def test_killed_while_it_is_written_down(
    how: str, nth: int, server: PushServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When it has its number, and when it has its scores."""
    module = {"log": leaderboard, "note": remote, "write_json": files}[how]
    do, calls = getattr(module, how), []

    def killed(*args: Any, **parts: Any) -> Any:
        if (how == "write_json" and args[0] == SCORES) or how == "log" or "id" in parts.get("submission", {}):
            calls.append(how)
            if len(calls) > nth:
                raise KeyboardInterrupt
        return do(*args, **parts)

    with monkeypatch.context() as patch:
        patch.setattr(module, how, killed)
        with pytest.raises(KeyboardInterrupt):
            kernel("submit")
    kernel("submit")
    assert capsys.readouterr().out.splitlines()[-1] == told()
    assert len(server.submitted) == len(logged()) == len(json.loads(SCORES.read_text())) == 1


@pytest.mark.parametrize("answer", [Fault(cut_after=3), Fault(500, "Oops"), Fault(429, "Slow down")])
@pytest.mark.parametrize("done", [False, True])
def test_a_broken_submission_is_made_once(answer: Fault, done: bool, server: PushServer, waited: list[float]) -> None:
    server.faults[SUBMIT] = [replace(answer, done=done)]
    kernel("submit")
    assert len(server.submitted) == len(logged()) == 1
    assert waited[0] == 20  # the list of submissions may lag behind
    assert server.names.count(SUBMIT) == (1 if done else 2)


def test_a_lost_submission_is_not_mistaken_for_an_earlier_one(server: PushServer) -> None:
    """Another of the same message, made by an earlier run of the same bundle elsewhere."""
    kernel("submit")
    for path in (LOG, SCORES):
        path.unlink()
    remote.note(FOLDER, submission=None)
    server.verdict = Verdict(looks=9)
    server.faults[SUBMIT] = [Fault(cut_after=3, done=True)]
    kernel("submit")
    assert [row["submission_id"] for row in logged()] == ["1002"]
    assert len(server.submitted) == 2


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Fault(403, "Permission denied"), "403 (Permission denied): accept the competition's rules at https://"),
        (Fault(400, "Daily limit reached"), "400 (Daily limit reached): the request is refused"),
        (Fault(404, "Not found"), "404 (Not found): check the name"),
    ],
)
def test_a_refused_submission(answer: Fault, expected: str, server: PushServer) -> None:
    server.faults[SUBMIT] = [answer]
    assert fault("submit").startswith(f"submission of {KERNEL}/1: Kaggle answers {expected}")
    assert server.submitted == []
    kernel("submit")
    assert len(server.submitted) == 1


@pytest.mark.parametrize("before", [0, 1])
def test_kaggle_out_of_reach(
    before: int, server: PushServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it is submitted, or while the score is awaited."""
    none = Fault(body=b'{"submissions": []}', headers={"Content-Type": "application/json"})
    server.faults["ListSubmissions"] = [*[none] * before, Fault(500, "Oops")]
    with monkeypatch.context() as patch:
        patch.setattr(client, "WAITS_S", ())
        what = "submission 1001" if before else f"submission of {KERNEL}/1"
        assert fault("submit").startswith(f"{what}: Kaggle answers 500 (Oops): ")
    assert len(server.submitted) == before
    kernel("submit")
    assert capsys.readouterr().out.splitlines()[-1] == told()
    assert len(server.submitted) == 1


def test_scores_that_come_after_the_next_version_was_pushed(
    server: PushServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(leaderboard, "follow", killed)
        with pytest.raises(KeyboardInterrupt):
            kernel("submit")
    (row,) = logged()
    assert (row["submission_id"], row["state"], row["public"]) == ("1001", "pending", "")
    server.kernels[KERNEL].append((None, Run({"submission.csv": LOCAL.read_bytes()})))
    remote.note(FOLDER, kernel={**remote._kernel(FOLDER), "version": 2}, submission=None)
    remote.note(FOLDER, output={"version": 2, "submission": files.sha256(LOCAL), "dice": 1.0})
    kernel("submit")
    assert f"{KERNEL}/2 is submission 1002: public 0.91000" in capsys.readouterr().out
    assert [(row["submission_id"], row["kernel_version"], row["public"]) for row in logged()] == [
        ("1001", "1", "0.91000"),
        ("1002", "2", "0.91000"),
    ]


def test_scores_that_are_not_told(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.verdict = Verdict(private="")
    kernel("submit")
    assert capsys.readouterr().out.splitlines()[-1] == told(private="not told")
    assert logged()[0]["private"] == ""


def test_a_score_that_is_not_there_yet_is_told_of(server: PushServer, capsys: pytest.CaptureFixture[str]) -> None:
    remote.note(FOLDER, submission={"version": 1, "message": "x", "before": [], "id": 1001})
    kernel("submit", yes=False)
    assert ": the score of submission 1001 is not known yet\n" in capsys.readouterr().out
    assert server.seen == []
