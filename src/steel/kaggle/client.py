"""The official client: log in, ask, and say in one line what went wrong and what to do.

Only this module and `endpoints` touch the packages kaggle and kagglesdk.
"""

import errno
import json
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from io import StringIO
from pathlib import Path
from time import sleep
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import requests
from kagglesdk import KaggleClient, get_access_token_from_env
from kagglesdk.competitions.types.competition_api_service import ApiDownloadDataFilesRequest
from kagglesdk.kaggle_env import get_endpoint, get_env
from kagglesdk.kaggle_http_client import KaggleHttpClient
from requests.exceptions import ChunkedEncodingError, HTTPError, RequestException, SSLError, Timeout
from urllib3.exceptions import MaxRetryError

from steel.competition import SLUG
from steel.errors import UserError
from steel.progress import say

T = TypeVar("T")

TIMEOUT_S = 60.0  # without a byte from the server
WAITS_S = (2.0, 5.0, 15.0, 45.0, 120.0)  # before the second try, the third, ...
SETTLE_S = (20.0, 60.0, 120.0)  # the same where it must first show whether a change was made
LONGEST_WAIT_S = 300.0  # a server that asks for more is left alone
READABLE_BY_OTHERS = 0o044
TOKEN_PAGE = "https://www.kaggle.com/settings/api"
RULES_PAGE = f"https://www.kaggle.com/competitions/{SLUG}/rules"

BROKEN = (requests.ConnectionError, Timeout, ChunkedEncodingError, ConnectionError, TimeoutError)
ACCEPT_RULES = f"accept the competition's rules at {RULES_PAGE}, with the account that the token belongs to"
REMEDIES = {
    401: f"the token is wrong or expired; make a new one at {TOKEN_PAGE}",
    404: "check the name, and that the account which the token belongs to may see it",
    429: "too many requests; wait a while and start it again",
}
KAGGLE_AILS = "Kaggle has a fault of its own; start it again later"


@dataclass(frozen=True)
class Link:
    """Where the bytes of a file lie for a short while.

    Attributes:
        url: signed: whoever knows it may read the file, so it is never shown.
        size: bytes.
        version: changes with the bytes; '' where the server names none.
    """

    url: str
    size: int
    version: str


@dataclass(frozen=True)
class _Fault:
    """What went wrong, what to do, whether it may pass by itself, and how long the server asks to wait, s."""

    what: str
    remedy: str
    passes: bool = False
    wait_s: float = 0.0


def open_api() -> Any:
    """The official client, `kaggle.api.kaggle_api_extended.KaggleApi`, logged in; its user is `user_of(api)`.

    The token is looked for where Kaggle documents it: KAGGLE_API_TOKEN, ~/.kaggle/access_token, KAGGLE_USERNAME and
    KAGGLE_KEY, kaggle.json, then the credentials of `kaggle auth login`. UserError where there is none, a wrong one,
    or one that others may read. Each request of the client is to be made within `call`.
    """
    api = _api_class()()
    api.build_kaggle_client = partial(_build, api)
    for file in _token_files(api):
        if file.stat().st_mode & READABLE_BY_OTHERS:
            raise UserError(f"{file} holds your Kaggle token, and others may read it: run `chmod 600 {file}`")
    try:
        call("Kaggle login", partial(quietly, api.authenticate))
    except (SystemExit, TypeError, AttributeError):  # how the package says that there is no token, or an odd file
        raise UserError(_no_token(api)) from None
    return api


def user_of(api: Any) -> str:
    """Name of the account that the token belongs to."""
    return api.config_values[api.CONFIG_NAME_USER]


def call(
    what: str, function: Callable[[], T], forbidden: str = ACCEPT_RULES, waits_s: Sequence[float] | None = None
) -> T:
    """Do `function`; a fault of Kaggle, of the network or of the disk is a UserError: `what`, the fault, the remedy.

    A rate limit, a fault of the server and a broken connection may pass: it is then done again, after growing waits
    (WAITS_S, or what the server asks for), each told in a line. `function` must bear being done again; `forbidden` is
    the remedy where the account may not do it (403).
    """
    for wait_s in (*(WAITS_S if waits_s is None else waits_s), None):
        try:
            return function()
        except (RequestException, OSError, ValueError) as error:
            fault = _fault(error, forbidden)
            if wait_s is None or not fault.passes:
                raise UserError(f"{what}: {fault.what}: {fault.remedy}") from None
        pause_s = max(wait_s, fault.wait_s)
        say(f"{what}: {fault.what}; trying again in {pause_s:g} s")
        sleep(pause_s)
    raise AssertionError("the last try returns or raises")


def change(what: str, function: Callable[[], T], made: Callable[[], T | None], forbidden: str = ACCEPT_RULES) -> T:
    """`call` for what must not be done twice, such as a submission.

    An answer may be lost though the change was made: before another try, `made` looks for it and gives what the answer
    would have, or None if there is no such change.
    """
    tried = False

    def attempt() -> T:
        nonlocal tried
        if tried and (found := made()) is not None:
            return found
        tried = True
        return function()

    return call(what, attempt, forbidden, SETTLE_S)


def archive_link(api: Any) -> Link:
    """Ask for all files of the competition as one zip; to be done within `call`."""
    request = ApiDownloadDataFilesRequest()
    request.competition_name = SLUG
    with api.build_kaggle_client() as kaggle:  # follows the redirect to the storage, but reads no byte of the file yet
        response = kaggle.competitions.competition_api_client.download_data_files(request)
        response.close()
    headers = response.headers
    size = headers.get("Content-Length", "")
    if not size.isdecimal():
        raise UserError(f"{SLUG}: the server does not say how large the files are; start it again later")
    return Link(response.url, int(size), headers.get("ETag") or headers.get("Last-Modified") or "")


def quietly(function: Callable[[], T]) -> T:
    """Without the pages of advice that the package prints; ours is the line of the error."""
    with redirect_stdout(StringIO()):
        return function()


def _api_class() -> Any:
    """The class KaggleApi; nothing else of what its import does, which is to log in at once and to print advice."""
    ask = KaggleHttpClient.call
    KaggleHttpClient.call = _refuse
    try:
        with redirect_stdout(StringIO()):
            from kaggle.api.kaggle_api_extended import KaggleApi
    finally:
        KaggleHttpClient.call = ask
    return KaggleApi


def _refuse(*_args: object, **_options: object) -> NoReturn:
    raise ConnectionError("nothing is asked while the package is imported")


def _build(api: Any) -> Any:
    """As KaggleApi does it, but heeding KAGGLE_API_ENVIRONMENT and a time limit, without which it can wait forever."""
    values = api.config_values
    client = KaggleClient(
        username=values.get(api.CONFIG_NAME_USER),
        password=values.get(api.CONFIG_NAME_KEY),
        api_token=values.get(api.CONFIG_NAME_TOKEN),
    )
    http = client.http_client()
    http._init_session()
    http._session.send = partial(http._session.send, timeout=TIMEOUT_S)
    return client


def _token_files(api: Any) -> list[Path]:
    """The files that exist of those in which the package looks for a token."""
    home = Path("~/.kaggle").expanduser()
    names = [api.config, *(home / name for name in ("access_token", "access_token.txt", "credentials.json"))]
    names.append(os.environ.get("KAGGLE_API_TOKEN", ""))  # the token itself, or a file that holds it
    return [Path(name) for name in names if os.path.isfile(name)]  # noqa: PTH113  a long token is no path: no error


def _no_token(api: Any) -> str:
    token, source = get_access_token_from_env()
    advice = f"make one at {TOKEN_PAGE}, save it in ~/.kaggle/access_token and run `chmod 600 ~/.kaggle/access_token`"
    if token:
        return f"Kaggle login: the token of {source} is wrong or expired: {advice}"
    if found := _token_files(api):
        return f"Kaggle login: {' and '.join(map(str, found))}: holds no token that can be used: {advice}"
    return f"Kaggle login: no token is set: {advice}"


def _fault(error: Exception, forbidden: str) -> _Fault:
    """Read a fault; what is none of Kaggle, network or disk is raised again."""
    if isinstance(error, HTTPError) and error.response is not None:
        return _answer(error.response, forbidden)
    if isinstance(error, json.JSONDecodeError):
        return _Fault("the answer is not Kaggle's", "is a proxy or a login page of the network in between?")
    if isinstance(error, BROKEN):
        return _connection(error)
    if isinstance(error, RequestException | ValueError):
        return _Fault(one_line(str(error)), "the kaggle package gave up")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = f" ({error.filename})" if error.filename else ""
        return _Fault(f"{error.strerror}{where}", "free some space and start it again, it continues")
    raise error


def _answer(response: requests.Response, forbidden: str) -> _Fault:
    """Read an answer that is an error."""
    status = response.status_code
    if urlsplit(response.url).netloc != urlsplit(get_endpoint(get_env())).netloc:  # a link that has expired
        return _Fault(f"Kaggle's storage answers {status}", "start it again", passes=True)
    try:
        message = one_line(str(response.json()["message"]))
    except (RequestException, ValueError, KeyError, TypeError):
        message = response.reason
    what = f"Kaggle answers {status} ({message})"
    if status >= 500:
        return _Fault(what, KAGGLE_AILS, passes=True)
    wait_s = _retry_after_s(response) if status == 429 else 0.0
    if wait_s > LONGEST_WAIT_S:
        return _Fault(what, f"the next request is allowed in {wait_s:.0f} s; start it again then")
    remedy = forbidden if status == 403 else REMEDIES.get(status, "the request is refused")
    return _Fault(what, remedy, passes=status == 429, wait_s=wait_s)


def _connection(error: Exception) -> _Fault:
    request = getattr(error, "request", None)
    host = urlsplit(request.url).netloc if request is not None and request.url else "Kaggle"
    check = "check the network, and HTTPS_PROXY if there is a proxy"
    if isinstance(error, SSLError):
        return _Fault(f"the certificate of {host} is not accepted", "check the clock and the network")
    if isinstance(error, Timeout | TimeoutError):
        return _Fault(f"no answer from {host} in {TIMEOUT_S:g} s", check, passes=True)
    if error.args and isinstance(error.args[0], MaxRetryError):
        return _Fault(f"cannot reach {host}", check, passes=True)
    return _Fault(f"the connection to {host} broke", "start it again, it continues", passes=True)


def _retry_after_s(response: requests.Response) -> float:
    """Seconds that the header Retry-After asks for, given as a number or as a date; 0 without it."""
    text = response.headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def one_line(text: str) -> str:
    """Text of others, for a message: one short line, and no address's query, which may be a signature."""
    words = [word.partition("?")[0] if "://" in word else word for word in text.split()]
    return " ".join(words)[:200].rstrip(".")
