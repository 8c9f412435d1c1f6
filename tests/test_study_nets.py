"""The study's nets: numbers of parameters, frozen stages, and what is refused. The rest: `test_nets_tables.py`."""

import pytest
import torch

from steel.config import ModelConfig
from steel.errors import UserError
from steel.nets.build import Net, build
from steel.nets.classifiers import CLASSIFIERS

PARAMETERS = {
    "cnn_single": 27_667_108,
    "cnn_multi": 61_017_828,
    "fcn": 743_316,
    "unet_plain": 600_612,
    "unet_modified": 492_492,
    "unet_residual": 491_980,
}


def model_of(name: str) -> ModelConfig:
    return ModelConfig(kind="classifier" if name in CLASSIFIERS else "segmenter", net=name)


def make(name: str) -> Net:
    return build(model_of(name), pretrained=False)


@pytest.mark.parametrize("name", PARAMETERS)
def test_as_many_parameters_as_in_the_study(name: str) -> None:
    assert sum(p.numel() for p in make(name).parameters() if p.requires_grad) == PARAMETERS[name]


def test_single_and_multi_heads_of_the_refined_pair_are_of_equal_size() -> None:
    sizes = {sum(p.numel() for p in make(f"cnn_deep_{head}").parameters()) for head in ("single", "multi")}
    # Convolutions, two batch norms a block, 128 maps of 14 x 48 px to 512, 512 to 4.
    assert sizes == {287_008 + 2 * 2 * (32 + 64 + 128) + (128 * 14 * 48 + 1) * 512 + 4 * 513}


def test_frozen_stages_neither_learn_nor_move_their_statistics() -> None:
    torch.set_num_threads(1)
    net = build(ModelConfig(kind="classifier", net="study_resnet50", options={"frozen_stages": 2}))
    learning = {n.split(".")[3] for n, p in net.named_parameters() if p.requires_grad and "backbone" in n}
    assert learning == {"layer2", "layer3", "layer4"}  # the stem and layer1 do not
    before = {n: v.clone() for n, v in net.state_dict().items() if "running" in n}
    net.train()(torch.randint(0, 256, (2, 1, 256, 1600), dtype=torch.uint8))
    moved = {n.split(".")[3] for n, v in net.state_dict().items() if "running" in n and not v.equal(before[n])}
    assert moved == {"layer2", "layer3", "layer4"}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ModelConfig(net="fcn", weights="imagenet"), "weights: 'imagenet' cannot be put into fcn, which has no enc"),
        (ModelConfig(net="unet_modified", options={"depth": 3}), "options: unet_modified has no option 'depth'; all"),
        (ModelConfig(kind="classifier", net="cnn_multi", weights="imagenet"), "weights: 'imagenet' cannot be put into"),
        (ModelConfig(kind="classifier", net="cnn_multi", options={"x": 1}), "net cnn_multi: refused: .*'x'"),
        (
            ModelConfig(kind="classifier", net="study_resnet50", options={"frozen_stages": 9}),
            r"options: frozen_stages is 9, allowed: 0\.\.5",
        ),
        (ModelConfig(net="unet"), "net: unknown name 'unet'; allowed: Unet, .*, fcn, unet_plain, "),
    ],
)
def test_one_line_on_what_is_wrong(model: ModelConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(model)
