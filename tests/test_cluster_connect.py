"""Connections that cannot be made end in one line; those that can are tested on a real cluster."""

import socket
import sys

import pytest

from steel.cluster.connect import _knock, connect
from steel.config import RayConfig
from steel.errors import UserError


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError) as error, connect(RayConfig()):
        pass
    assert str(error.value) == (
        "a cluster needs Ray: install it with scripts/ray.sh (python -m pip install -r requirements-ray.txt)"
    )


def test_a_door_that_nobody_opens_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        _knock(address)
        monkeypatch.setenv("RAY_ADDRESS", address)
        _knock("auto")
    for where in (address, "auto"):
        with pytest.raises(ConnectionRefusedError):
            _knock(where)
    _knock(None)
    monkeypatch.delenv("RAY_ADDRESS")
    _knock("auto")  # Ray looks for it
