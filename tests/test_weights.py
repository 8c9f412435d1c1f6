"""Pretrained encoders: from a file, in whole or in part; and a download that fails."""

import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from steel.config import ModelConfig
from steel.errors import UserError
from steel.nets.build import build
from steel.nets.weights import downloading, load_encoder

DEPTH_4 = {"encoder_depth": 4, "decoder_channels": [32, 32, 16, 16]}


def encoder_of(model: ModelConfig) -> nn.Module:
    return build(model).body.get_submodule("encoder")


def tiny_net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 3, 1))


def write(path: Path, change: dict[str, Tensor | None]) -> str:
    """A file of the tensors of another tiny encoder, some of them changed or left out."""
    values: dict[str, Tensor | None] = dict(tiny_net(1).state_dict()) | change
    kept = {name: value.clone() for name, value in values.items() if value is not None}
    save_file(kept, path) if path.suffix == ".safetensors" else torch.save(kept, path)
    return str(path)


def test_the_real_file_fits_an_encoder_of_depth_4(encoder_file: Path) -> None:
    encoder = encoder_of(ModelConfig(encoder="resnet18", weights=str(encoder_file), options=DEPTH_4))
    found, have = load_file(encoder_file), encoder.state_dict()
    assert torch.equal(have["layer3.1.conv2.weight"], found["layer3.1.conv2.weight"])
    assert torch.equal(have["bn1.running_var"], found["bn1.running_var"])
    assert have["conv1.weight"].shape == (64, 1, 7, 7)
    torch.testing.assert_close(have["conv1.weight"], found["conv1.weight"].sum(1, keepdim=True))


def test_a_grey_strip_meets_the_same_filters_as_in_rgb(encoder_file: Path) -> None:
    rgb = load_file(encoder_file)["conv1.weight"]
    grey = encoder_of(ModelConfig(weights=str(encoder_file), options=DEPTH_4)).get_parameter("conv1.weight")
    x = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(torch.conv2d(x, grey), torch.conv2d(x.expand(-1, 3, -1, -1), rgb), atol=1e-4, rtol=1e-4)


def test_the_real_file_fits_the_same_backbone_of_timm(encoder_file: Path) -> None:
    encoder = encoder_of(ModelConfig(encoder="tu-resnet18", weights=str(encoder_file), options=DEPTH_4))
    expected = load_file(encoder_file)["layer3.1.conv2.weight"]
    assert torch.equal(encoder.state_dict()["model.layer3.1.conv2.weight"], expected)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_a_deeper_encoder_is_refused_unless_partial(
    encoder: str, encoder_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = r"layer4\.0\.conv1\.weight is missing, .* and 22 more; set weights_partial: true to accept this"
    with pytest.raises(UserError, match=message):
        build(ModelConfig(encoder=encoder, weights=str(encoder_file)))
    net = build(ModelConfig(encoder=encoder, weights=str(encoder_file), weights_partial=True))
    found, told = load_file(encoder_file), capsys.readouterr().out
    assert f" gives {len(found)} of the 120 tensors of the encoder: layer4.0.conv1.weight is missing, " in told
    assert told.count("\n") == 1
    values = net.body.state_dict()
    name = "encoder.model.layer1.0.conv1.weight" if encoder.startswith("tu-") else "encoder.layer1.0.conv1.weight"
    assert torch.equal(values[name], found["layer1.0.conv1.weight"])


def test_nothing_is_said_of_a_file_that_fits_in_whole(encoder_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for partial in (False, True):
        encoder_of(ModelConfig(weights=str(encoder_file), weights_partial=partial, options=DEPTH_4))
    assert capsys.readouterr().out == ""


def test_an_encoder_of_another_family_is_refused_even_in_part(encoder_file: Path) -> None:
    model = ModelConfig(encoder="tu-test_convnext", weights=str(encoder_file), weights_partial=True)
    with pytest.raises(UserError, match="holds no tensor that fits the encoder"):
        build(model)


def test_a_classifier_takes_a_backbone_and_keeps_its_own_head(encoder_file: Path) -> None:
    model = ModelConfig(kind="classifier", net="resnet18", weights=str(encoder_file), weights_partial=True)
    body = build(model).body
    assert torch.equal(body.get_parameter("layer2.0.conv1.weight"), load_file(encoder_file)["layer2.0.conv1.weight"])
    assert body.get_parameter("fc.weight").shape == (4, 512)


def test_the_forward_pass_that_looks_for_idle_layers_leaves_no_trace(tmp_path: Path) -> None:
    encoder = nn.Sequential(tiny_net(), nn.Conv2d(3, 1, 1))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    path = tmp_path / "a.safetensors"
    save_file({"0.0.bias": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="missing"):
        load_encoder(encoder, str(path), partial=False)
    assert encoder.training and all(torch.equal(v, before[name]) for name, v in encoder.state_dict().items())
    assert not any(m._forward_pre_hooks for m in encoder.modules())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_every_tensor_is_copied(suffix: str, tmp_path: Path) -> None:
    encoder = tiny_net()
    rgb = torch.arange(54.0).view(2, 3, 3, 3)
    path = write(tmp_path / f"a{suffix}", {"0.weight": rgb, "1.running_mean": torch.tensor([5.0, 6.0])})
    load_encoder(encoder, path, partial=False)
    assert encoder.state_dict()["0.weight"].tolist() == rgb.sum(1, keepdim=True).tolist()
    assert encoder.state_dict()["1.running_mean"].tolist() == [5, 6]


def test_heads_for_other_classes_and_counters_do_not_matter(tmp_path: Path) -> None:
    head = {"fc.weight": torch.ones(1000, 3), "classifier.bias": torch.ones(7), "1.num_batches_tracked": None}
    load_encoder(tiny_net(), write(tmp_path / "a.safetensors", head), partial=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"2.bias": None}, r"2\.bias is missing; set weights_partial"),
        ({"extra.weight": torch.ones(1)}, r"extra\.weight is not in the encoder"),
        ({"2.bias": torch.ones(4)}, r"2\.bias is \(4,\), the encoder wants \(3,\)"),
        ({"2.bias": torch.ones(3, 3, 1, 1)}, r"2\.bias is \(3, 3, 1, 1\), the encoder wants \(3,\)"),
        ({"0.weight": torch.ones(2, 2, 3, 3)}, r"0\.weight is \(2, 2, 3, 3\), the encoder wants \(2, 1, 3, 3\)"),
    ],
)
def test_faults_by_name(change: dict[str, Tensor | None], message: str, tmp_path: Path) -> None:
    path, encoder = write(tmp_path / "a.safetensors", change), tiny_net()
    with pytest.raises(UserError, match=message):
        load_encoder(encoder, path, partial=False)
    assert torch.equal(encoder.state_dict()["0.weight"], tiny_net().state_dict()["0.weight"])  # nothing was copied
    load_encoder(encoder, path, partial=True)


@pytest.mark.parametrize("name", ["a", "1.num_batches_tracked"])  # a counter fits any net
def test_a_file_of_another_net_is_refused_even_in_part(name: str, tmp_path: Path) -> None:
    save_file({name: torch.ones([], dtype=torch.int64)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="holds no tensor that fits"):
        load_encoder(tiny_net(), str(tmp_path / "a.safetensors"), partial=True)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 cut off", b"\x80\x02N.", bytes(100)])
def test_a_broken_file_is_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"weights: .*{name} (cannot be read|does not hold)") as caught:
        load_encoder(tiny_net(), str(tmp_path / name), partial=False)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch advises to load it unsafely


def test_no_file_and_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights: no file nowhere\.pt; allowed: imagenet, null, or a "):
        build(ModelConfig(weights="nowhere.pt"))
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(UserError, match=r"list\.pt does not hold a table of tensors"):
        load_encoder(tiny_net(), str(tmp_path / "list.pt"), partial=False)


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub that does not answer (port 9 of this machine), and nothing downloaded before."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.usefixtures("unreachable")
@pytest.mark.parametrize(
    ("model", "name"),
    [
        (ModelConfig(encoder="resnet34", weights="imagenet"), "resnet34"),
        (ModelConfig(encoder="tu-mobilenetv4_conv_small_050", weights="imagenet"), "tu-mobilenetv4_conv_small_050"),
        (
            ModelConfig(kind="classifier", net="mobilenetv4_conv_small_050", weights="imagenet"),
            "mobilenetv4_conv_small",
        ),
    ],
)
def test_a_download_without_network_fails_fast_with_one_line(
    model: ModelConfig, name: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    start = time.monotonic()
    with pytest.raises(
        UserError, match=rf"imagenet weights of {name}.* cannot be downloaded \(.+\); allowed"
    ) as caught:
        build(model)
    assert time.monotonic() - start < 10  # the hub's own retries take half a minute
    message = str(caught.value)
    assert "\n" not in message and ".safetensors" in message and "null" in message
    assert "Retrying" not in capfd.readouterr().err + caplog.text
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.usefixtures("unreachable")
def test_what_was_downloaded_before_needs_no_network() -> None:
    with downloading("a", "imagenet"):
        assert constants.HF_HUB_OFFLINE  # the hub's client then reads its cache without asking
    assert not constants.HF_HUB_OFFLINE


def test_weights_from_a_file_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steel.nets.weights._hub_fault", lambda: pytest.fail("asked the hub"))
    with downloading("a", None):
        pass
    with downloading("a", "some.pt"):
        pass
