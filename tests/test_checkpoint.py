"""Checkpoints and weights: whole or not there, plain tensors, one line when broken."""

import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from steel.errors import UserError
from steel.fit.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights

CPU = torch.device("cpu")


def test_round_trip_with_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.pt"
    assert load_checkpoint(path, CPU) is None
    net = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = {"key": "a", "done": 3, "log": '[{"epoch": 1}]', "optimizer": optimizer.state_dict()}
    save_checkpoint(path, state)
    found = load_checkpoint(path, CPU)
    assert found is not None and (found["key"], found["done"], found["log"]) == ("a", 3, '[{"epoch": 1}]')
    assert torch.equal(found["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]


def test_memory_format_survives(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", {"x": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)})
    found = load_checkpoint(tmp_path / "a", CPU)
    assert found is not None and found["x"].is_contiguous(memory_format=torch.channels_last)


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("code was run",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"x": Evil()}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(UserError, match=rf"{name} cannot be read .*: delete it to train anew"):
            load_checkpoint(tmp_path / name, CPU)
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut off"])
def test_a_broken_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"last\.pt cannot be read") as caught:
        load_checkpoint(path, CPU)
    assert "\n" not in str(caught.value)
    path.with_name("w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.safetensors does not hold this net's weights"):
        load_weights(nn.Linear(1, 1), path.with_name("w.safetensors"))


def test_a_cut_checkpoint_is_one_line(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a", {"x": torch.rand(1000)})
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:3000])
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(tmp_path / "a", CPU)


@pytest.mark.parametrize("save", [save_checkpoint, save_weights])
def test_a_full_disk_leaves_what_was_there(save: Callable[[Path, dict[str, Any]], None], tmp_path: Path) -> None:
    path = tmp_path / "file"
    save(path, {"x": torch.ones(3)})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # no file may grow beyond: as a full disk, an OSError
    try:
        with pytest.raises(OSError, match="too large"):
            save(path, {"x": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_weights_are_safetensors_of_equal_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_weights(tmp_path / "a", net.state_dict())
    save_weights(tmp_path / "b", dict(reversed(list(net.state_dict().items()))))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    other = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))
    load_weights(other, tmp_path / "a")
    assert all(torch.equal(v, net.state_dict()[name]) for name, v in other.state_dict().items())
    assert load_file(tmp_path / "a")["0.weight"].shape == (2, 3, 3, 3)


def test_weights_of_another_net_are_refused_by_name(tmp_path: Path) -> None:
    save_weights(tmp_path / "w", nn.Linear(2, 3).state_dict())
    with pytest.raises(UserError, match=r"w does not hold this net's weights: .*weight"):
        load_weights(nn.Linear(2, 4), tmp_path / "w")
    with pytest.raises(UserError, match=r"does not hold this net's weights: .*Missing"):
        load_weights(nn.Sequential(nn.Linear(2, 3)), tmp_path / "w")
    with pytest.raises(UserError, match=r"nowhere does not hold"):
        load_weights(nn.Linear(2, 3), tmp_path / "nowhere")
