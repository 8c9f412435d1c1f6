"""A Kaggle of our own on loopback: it speaks the endpoints that the kit uses in kagglesdk's own types, and breaks them.

To speak one endpoint more: a method of `KaggleServer` from request to answer, and its line in ENDPOINTS.
"""

import base64
import hashlib
import json
import re
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kagglesdk.kaggle_env as kaggle_env
import pytest
from kagglesdk.common.types.http_redirect import HttpRedirect
from kagglesdk.competitions.types import competition_api_service as competitions
from kagglesdk.kaggle_object import KaggleObject
from kagglesdk.security.types import oauth_service as oauth

from steel.competition import SLUG
from steel.kaggle import client, follow

USER, KEY, TOKEN = "tester", "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "KGAT_112233445566778899aabbccddeeff00"
BASIC = "Basic " + base64.b64encode(f"{USER}:{KEY}".encode()).decode()
RULES = "You must accept this competition's rules before you'll be able to download files."
LINK, STORAGE = "link", "storage"  # the redirected request for a file's headers, and that for its bytes
UPLOAD, OUTPUT = "upload", "output"  # to the storage, and of a kernel from there


@dataclass
class Fault:
    """How an answer goes wrong: a status with a message, or a body cut off, or one that comes late."""

    status: int = 200
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of the body, after which the connection breaks
    delay_s: float = 0.0
    body: bytes | None = None  # in place of JSON
    done: bool = False  # what was asked for, though the answer goes wrong


class Refused(Exception):
    """An answer that is an error: status and message."""


@dataclass
class Seen:
    """A request: `name` is that of its endpoint, `message` what it asks for in kagglesdk's type."""

    name: str
    headers: dict[str, str]
    message: Any = None


class KaggleServer(ThreadingHTTPServer):
    """What Kaggle has, and how it is to fail: `faults` of an endpoint are taken one by one, before good answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.archive = b""
        self.heeds_ranges = True
        self.tokens = {TOKEN: USER}
        self.faults: dict[str, list[Fault]] = {}
        self.seen: list[Seen] = []
        self.signatures: set[str] = set()

    @property
    def url(self) -> str:
        """Of the API; the storage has another host name, as Kaggle's has."""
        return f"http://localhost:{self.server_port}"

    @property
    def names(self) -> list[str]:
        """Endpoints asked, in order."""
        return [seen.name for seen in self.seen]

    @property
    def ranges(self) -> list[str]:
        """The header Range of each request for bytes."""
        return [seen.headers["Range"] for seen in self.seen if seen.name == STORAGE]

    def list_data_files(self, _request: Any) -> KaggleObject:
        """The members of the zip."""
        answer = competitions.ApiListDataFilesResponse()
        answer.files = []
        for member in zipfile.ZipFile(BytesIO(self.archive)).infolist():
            file = competitions.ApiDataFile()
            file.name, file.total_bytes = member.filename, member.file_size
            answer.files.append(file)
        return answer

    def download_data_files(self, _request: Any) -> KaggleObject:
        """A signed address in the storage."""
        answer = HttpRedirect()
        answer.url = self.sign(f"{SLUG}.zip")
        return answer

    def introspect_token(self, request: Any) -> KaggleObject:
        """Whose an access token is."""
        answer = oauth.IntrospectTokenResponse()
        answer.active = request.token in self.tokens
        answer.username = self.tokens.get(request.token, "")
        return answer

    def receive(self, _path: str, _body: bytes) -> bool:
        """Whether the storage has taken an upload."""
        return False

    def stored(self, _path: str) -> bytes:
        """The bytes of a file of the storage."""
        return self.archive

    def sign(self, path: str) -> str:
        """A new address of a file of the storage."""
        signature = hashlib.sha256(f"{len(self.signatures)}".encode()).hexdigest()
        self.signatures.add(signature)
        return f"http://127.0.0.1:{self.server_port}/storage/{path}?X-Goog-Signature={signature}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what some tests are about."""


Answer = Callable[[Any, Any], KaggleObject]  # from a server and a request
COMPETITIONS = "competitions.CompetitionApiService"
ENDPOINTS: dict[str, tuple[type[KaggleObject], Answer]] = {
    f"{COMPETITIONS}/ListDataFiles": (competitions.ApiListDataFilesRequest, KaggleServer.list_data_files),
    f"{COMPETITIONS}/DownloadDataFiles": (competitions.ApiDownloadDataFilesRequest, KaggleServer.download_data_files),
    "security.OAuthService/IntrospectToken": (oauth.IntrospectTokenRequest, KaggleServer.introspect_token),
}


class _Handler(BaseHTTPRequestHandler):
    server: KaggleServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """A call of the API."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path.removeprefix("/api/v1/")
        if path not in ENDPOINTS:
            self._json(501, {"code": 501, "message": f"this server does not speak {path}"})
            return
        kind, answer = ENDPOINTS[path]
        name = path.rpartition("/")[2]
        message = kind.from_json(body.decode())
        self.server.seen.append(Seen(name, dict(self.headers), message))
        fault = self._next_fault(name)
        if fault and fault.done:
            answer(self.server, message)
        if fault:
            self._fail(fault)
        elif name != "IntrospectToken" and not self._authorized():
            self._json(401, {"code": 401, "message": "Unauthenticated"})
        elif getattr(message, "competition_name", SLUG) != SLUG:
            self._json(404, {"code": 404, "message": "Not found"})
        else:
            self._say(answer, message)

    def do_PUT(self) -> None:
        """An upload to the storage."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append(Seen(UPLOAD, dict(self.headers)))
        if fault := self._next_fault(UPLOAD):
            self._fail(fault)
        else:
            self._send(200 if self.server.receive(self.path, body) else 404, b"", {})

    def do_GET(self) -> None:
        """A file of the storage, at a signed address."""
        address = urlsplit(self.path)
        name = STORAGE if "Range" in self.headers else OUTPUT if "/output/" in address.path else LINK
        self.server.seen.append(Seen(name, dict(self.headers)))
        fault = self._next_fault(name)
        if fault and fault.cut_after is None:
            self._fail(fault)
            return
        signatures = parse_qs(address.query).get("X-Goog-Signature", [""])
        if not address.path.startswith("/storage/") or signatures[0] not in self.server.signatures:
            self._send(403, b"<Error><Code>AccessDenied</Code></Error>", {"Content-Type": "application/xml"})
            return
        self._send_range(self.server.stored(address.path), fault.cut_after if fault else None)

    def _send_range(self, data: bytes, cut_after: int | None) -> None:
        headers = {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        headers["Content-Type"] = "application/zip"
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not asked or not self.server.heeds_ranges:
            self._send(200, data, headers, cut_after)
            return
        start = int(asked[1])
        if start >= len(data):
            self._send(416, b"", headers | {"Content-Range": f"bytes */{len(data)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206, data[start:], headers, cut_after)

    def _authorized(self) -> bool:
        given = self.headers.get("Authorization", "")
        return given == BASIC or given.removeprefix("Bearer ") in self.server.tokens

    def _say(self, answer: Answer, message: Any) -> None:
        try:
            found = answer(self.server, message)
        except Refused as refusal:
            status, text = refusal.args
            self._json(status, {"code": status, "message": text})
        else:
            if isinstance(found, HttpRedirect):
                self._send(302, b"", {"Location": found.url})
            else:
                self._json(200, type(found).to_dict(found))

    def _next_fault(self, name: str) -> Fault | None:
        waiting = self.server.faults.get(name, [])
        return waiting.pop(0) if waiting else None

    def _fail(self, fault: Fault) -> None:
        time.sleep(fault.delay_s)
        body = (
            json.dumps({"code": fault.status, "message": fault.message}).encode() if fault.body is None else fault.body
        )
        headers = {"Content-Type": "application/json" if fault.body is None else "text/html"}
        self._send(fault.status, body, headers | fault.headers, fault.cut_after)

    def _json(self, status: int, value: object) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut_after: int | None = None) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[:cut_after])
        if cut_after is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(patch: pytest.MonkeyPatch, home: Path, server: KaggleServer | None = None) -> Iterator[KaggleServer]:
    """A server that the real client finds, a token in the environment, an empty home; no other host can be reached."""
    server = server or KaggleServer()
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    patch.setattr(socket, "getaddrinfo", _loopback_only(socket.getaddrinfo))
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR", "KAGGLE_KERNEL_RUN_TYPE", "NETRC"):
        patch.delenv(name, raising=False)
    values = {"HOME": str(home), "NO_PROXY": "*", "KAGGLE_API_ENVIRONMENT": "TEST"}
    for name, value in {**values, "KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY}.items():
        patch.setenv(name, value)
    patch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.TEST, server.url)
    patch.setattr(client._api_class(), "config", str(home / ".kaggle" / "kaggle.json"))
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def waits(patch: pytest.MonkeyPatch) -> list[float]:
    """Let no wait last, but count; the list of those asked for, s."""
    asked: list[float] = []
    for module in (client, follow):
        patch.setattr(module, "sleep", asked.append)
    patch.setattr(follow, "monotonic", lambda: sum(asked))
    return asked


def make_zip(members: dict[str, bytes]) -> bytes:
    """A zip of these files, as they are: images do not shrink."""
    data = BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return data.getvalue()


def _loopback_only(look_up: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(host: Any, *args: Any, **options: Any) -> Any:
        assert host in ("localhost", "127.0.0.1"), f"a test would reach {host}"
        return look_up(host, *args, **options)

    return guarded
