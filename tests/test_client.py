"""The official client against a server of ours: logged in, its faults in one line, tried again only where it helps."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from kaggle_server import BASIC, KEY, RULES, TOKEN, USER, Fault, KaggleServer, make_zip, serving

from steel.competition import SLUG
from steel.errors import UserError
from steel.kaggle import client

LIST = "ListDataFiles"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KaggleServer]:
    with serving(monkeypatch, tmp_path) as found:
        found.archive = make_zip({"train.csv": b"12345", "train_images/a.jpg": b"123"})
        yield found


def ask(slug: str = SLUG) -> list[tuple[str, int]]:
    """Names and sizes of the competition's files, by the real client."""
    api = client.open_api()
    answer = client.call("list", lambda: api.competition_list_files(slug))
    return [(file.name, file.total_bytes) for file in answer.files]


def fault(slug: str = SLUG) -> str:
    with pytest.raises(UserError) as refusal:
        ask(slug)
    return str(refusal.value)


def token_file(home: Path, name: str, text: str, mode: int = 0o600) -> Path:
    path = home / ".kaggle" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def without_key(patch: pytest.MonkeyPatch) -> None:
    patch.delenv("KAGGLE_USERNAME")
    patch.delenv("KAGGLE_KEY")


def test_the_real_client_asks_and_is_answered_in_kaggles_types(server: KaggleServer) -> None:
    assert ask() == [("train.csv", 5), ("train_images/a.jpg", 3)]
    (seen,) = server.seen
    assert (seen.name, seen.message.competition_name, seen.message.page_size) == (LIST, SLUG, 20)
    assert seen.headers["Authorization"] == BASIC


def test_the_link_to_all_files_is_signed_and_kept_from_the_token(server: KaggleServer) -> None:
    link = client.archive_link(client.open_api())
    assert link.url.startswith(f"http://127.0.0.1:{server.server_port}/storage/{SLUG}.zip?X-Goog-Signature=")
    assert link.size == len(server.archive)
    assert link.version == f'"{link.version[1:-1]}"' and len(link.version) == 34  # an md5 in quotes
    assert server.names == ["DownloadDataFiles", "link"]
    assert "Authorization" not in server.seen[1].headers


@pytest.mark.usefixtures("server")
def test_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.user_of(client.open_api()) == USER
    without_key(monkeypatch)
    token_file(tmp_path, "kaggle.json", f'{{"username": "{USER}", "key": "{KEY}"}}')
    assert client.user_of(client.open_api()) == USER
    assert ask()


@pytest.mark.parametrize("how", ["environment", "file named there", "access_token", "access_token.txt"])
def test_an_access_token(how: str, server: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_key(monkeypatch)
    if how == "environment":
        monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    elif how == "file named there":
        monkeypatch.setenv("KAGGLE_API_TOKEN", str(token_file(tmp_path, "mine", TOKEN)))
    else:
        token_file(tmp_path, how, f"{TOKEN}\n")
    api = client.open_api()
    assert client.user_of(api) == USER
    assert ask()
    assert server.names == ["IntrospectToken", "IntrospectToken", LIST]
    assert server.seen[-1].headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.usefixtures("waited")
def test_no_token(server: KaggleServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    without_key(monkeypatch)
    assert fault() == (
        "Kaggle login: no token is set: make one at https://www.kaggle.com/settings/api, "
        "save it in ~/.kaggle/access_token and run `chmod 600 ~/.kaggle/access_token`"
    )
    assert server.seen == []
    assert capsys.readouterr() == ("", "")  # none of the package's own pages


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', '{"username": "tester"}'])
@pytest.mark.usefixtures("server")
def test_a_token_file_without_a_token(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_key(monkeypatch)
    file = token_file(tmp_path, "kaggle.json", text)
    assert fault().startswith(f"Kaggle login: {file}: holds no token that can be used: make one at https://")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
@pytest.mark.parametrize("name", ["kaggle.json", "access_token", "credentials.json"])
def test_a_token_that_others_may_read(name: str, mode: int, server: KaggleServer, tmp_path: Path) -> None:
    file = token_file(tmp_path, name, TOKEN, mode)
    assert fault() == f"{file} holds your Kaggle token, and others may read it: run `chmod 600 {file}`"
    assert server.seen == []


def test_a_wrong_access_token(server: KaggleServer, monkeypatch: pytest.MonkeyPatch) -> None:
    without_key(monkeypatch)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_wrong")
    message = fault()
    assert message.startswith("Kaggle login: the token of KAGGLE_API_TOKEN is wrong or expired: make one at https://")
    assert "KGAT_wrong" not in message
    assert server.names == ["IntrospectToken"]


def test_a_wrong_key(
    server: KaggleServer,
    waited: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KAGGLE_KEY", "5" * 32)
    remedy = "the token is wrong or expired; make a new one at https://www.kaggle.com/settings/api"
    assert fault() == f"list: Kaggle answers 401 (Unauthenticated): {remedy}"
    assert (server.names, waited) == ([LIST], [])  # a second try would not help
    assert "5" * 32 not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            Fault(403, RULES),
            f"list: Kaggle answers 403 ({RULES[:-1]}): accept the competition's rules at "
            f"https://www.kaggle.com/competitions/{SLUG}/rules, with the account that the token belongs to",
        ),
        (Fault(400, "a\nb"), "list: Kaggle answers 400 (a b): the request is refused"),
        (
            Fault(429, "Slow down", {"Retry-After": "3600"}),
            "list: Kaggle answers 429 (Slow down): the next request is allowed in 3600 s; start it again then",
        ),
        (Fault(403, body=b"<html>"), "list: Kaggle answers 403 (Forbidden): accept the competition's rules at"),
        (
            Fault(200, body=b"<html>Please log in"),
            "list: the answer is not Kaggle's: is a proxy or a login page of the network in between?",
        ),
    ],
)
def test_what_does_not_pass_is_told_at_once(
    answer: Fault, expected: str, server: KaggleServer, waited: list[float]
) -> None:
    server.faults[LIST] = [answer]
    assert fault().startswith(expected)
    assert (len(server.seen), waited) == (1, [])


def test_an_unknown_competition(server: KaggleServer, waited: list[float]) -> None:
    expected = "list: Kaggle answers 404 (Not found): check the name, and that the account which the token belongs to"
    assert fault("severstal-steel").startswith(expected)
    assert (len(server.seen), waited) == (1, [])


PASSING = {
    "rate limit": (Fault(429, "Slow down"), "Kaggle answers 429 (Slow down)", "too many requests; wait a while"),
    "server error": (
        Fault(503, "Backend error"),
        "Kaggle answers 503 (Backend error)",
        "Kaggle has a fault of its own",
    ),
    "cut": (Fault(cut_after=3), "the connection to Kaggle broke", "start it again, it continues"),
}


@pytest.mark.parametrize("kind", PASSING)
def test_what_may_pass_is_tried_again(
    kind: str, server: KaggleServer, waited: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    answer, what, _ = PASSING[kind]
    server.faults[LIST] = [answer, answer]
    assert len(ask()) == 2
    assert (len(server.seen), waited) == (3, [2, 5])
    assert capsys.readouterr().out == f"list: {what}; trying again in 2 s\nlist: {what}; trying again in 5 s\n"


@pytest.mark.parametrize("kind", PASSING)
def test_but_not_for_ever(kind: str, server: KaggleServer, waited: list[float]) -> None:
    answer, what, remedy = PASSING[kind]
    server.faults[LIST] = [answer] * 100
    assert fault().startswith(f"list: {what}: {remedy}")
    assert (len(server.seen), waited) == (6, [2, 5, 15, 45, 120])


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_as_long_as_the_server_asks(form: str, server: KaggleServer, waited: list[float]) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    server.faults[LIST] = [Fault(429, "Slow down", {"Retry-After": "100" if form == "seconds" else moment})]
    assert ask()
    assert waited == [pytest.approx(100, abs=5)]


def test_nobody_answers(
    server: KaggleServer, waited: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"localhost:{server.server_port}"
    server.shutdown()
    server.server_close()
    expected = f"cannot reach {where}"
    assert fault() == f"list: {expected}: check the network, and HTTPS_PROXY if there is a proxy"
    assert len(waited) == len(capsys.readouterr().out.splitlines()) == 5
    monkeypatch.setattr(client, "WAITS_S", ())
    assert fault().startswith(f"list: {expected}")


def test_a_server_that_says_nothing(server: KaggleServer, waited: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT_S", 0.2)
    server.faults[LIST] = [Fault(delay_s=1)] * 2
    assert ask()
    assert waited == [2, 5]


def test_login_is_tried_again_too(server: KaggleServer, waited: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    server.faults["IntrospectToken"] = [Fault(500, "Oops")]
    assert client.user_of(client.open_api()) == USER
    assert waited == [2]


def raiser(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_a_full_disk(waited: list[float]) -> None:
    with pytest.raises(UserError) as refusal:
        client.call("fetch", raiser(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.zip")))
    advice = "free some space and start it again, it continues"
    assert str(refusal.value) == f"fetch: No space left on device (a.zip): {advice}"
    assert waited == []


def test_what_the_package_itself_refuses() -> None:
    with pytest.raises(UserError, match=r"^push: Invalid folder: a b: the kaggle package gave up$"):
        client.call("push", raiser(ValueError("Invalid folder:\n a b")))


@pytest.mark.parametrize("error", [KeyError("x"), FileNotFoundError(2, "no", "x"), UserError("x")])
def test_other_errors_stay_what_they_are(error: Exception, waited: list[float]) -> None:
    with pytest.raises(type(error)) as raised:
        client.call("push", raiser(error))
    assert raised.value is error
    assert waited == []


@pytest.mark.parametrize("token", [TOKEN, ""])
def test_the_import_of_the_package_asks_nothing_and_says_nothing(token: str, tmp_path: Path) -> None:
    """By itself it logs in when imported, if there is a token, and prints a page of advice, if there is none."""
    code = """
import socket, sys
def look_up(host, *args, **options):
    print(host, file=sys.stderr)
    raise OSError
socket.getaddrinfo = look_up
from steel.kaggle import client
client._api_class()
import kaggle
print(kaggle.__version__)
"""
    environment = {**os.environ, "HOME": str(tmp_path), "KAGGLE_API_TOKEN": token, "NO_PROXY": "*"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (run.stderr, len(run.stdout.splitlines())) == ("", 1)
    assert run.stdout[0].isdigit()
