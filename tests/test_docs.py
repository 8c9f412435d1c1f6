"""README.md and docs/: their YAML loads, their Python runs, their paths, names and figures are right."""

import re
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import toy
import yaml
from numpy.typing import NDArray
from torch import nn

from steel import cli
from steel.competition import PUBLIC_SHARES
from steel.config import ModelConfig, Phase, Solution
from steel.data.augment import AUGMENTATIONS, augmenter
from steel.data.balance import WEIGHTS, positive_weights
from steel.data.dataset import Sampling, _draw_rows
from steel.fit.optim import OPTIMIZERS, optimizer_for
from steel.fit.schedules import SCHEDULES, lr_at
from steel.fit.train import check
from steel.nets.build import build
from steel.nets.classifiers import CLASSIFIERS
from steel.nets.losses import LOSSES, mixed
from steel.nets.pooling import POOLS
from steel.nets.segmenters import SEGMENTERS
from steel.nets.study_segmenters import WITHOUT_ENCODER
from steel.paths import Paths
from steel.tables import choose

PAGES = [tiny.ROOT / "README.md", *sorted((tiny.ROOT / "docs").glob("*.md"))]
EXTEND, SETTINGS = tiny.ROOT / "docs/extend.md", tiny.ROOT / "docs/settings.md"
ROOMS = "benchmarks|configs|docs|folds|scripts|src|tests"
N_STRIPS, N_DEFECTS = 12_568, 6_666
N_SHOWN = [897, 247, 5150, 801]  # strips with each class
IN_TRAINING = [12_568 - 2_515, 6_666 - (2_515 - 1_183)]  # beside fold 0 of folds/README.md: strips, with a defect


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M)


def row(page: Path, first: str) -> list[str]:
    """The cells of the one table row that begins with a cell."""
    (line,) = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def whole(text: str) -> str:
    """A YAML block as a whole solution: a part of one is completed, what is none is taken as a model's keys."""
    found = yaml.safe_load(text)
    if "name" in found:
        return text
    if found.keys() <= {field.name for field in fields(Solution)}:
        return yaml.safe_dump({"name": "part", "models": {"m": {"net": "Unet"}}, **found})
    return yaml.safe_dump({"name": "part", "models": {"m": found}})


def load(text: str, folder: Path) -> Solution:
    path = folder / "solution.yaml"
    path.write_text(whole(text))
    return cli.parse("status", "", [str(path)])[0]


YAML = [pytest.param(text, id=f"{page.stem}-{i}") for page in PAGES for i, text in enumerate(blocks(page, "yaml"))]


@pytest.mark.parametrize("text", YAML)
def test_yaml_loads(text: str, tmp_path: Path) -> None:
    assert load(text, tmp_path).name == yaml.safe_load(text).get("name", "part")


@pytest.mark.parametrize("text", [param for param in YAML if "my_" not in str(param.values[0])])
@pytest.mark.usefixtures("one_thread")
def test_what_yaml_names_exists(text: str, tmp_path: Path) -> None:
    """As `steel train` looks before it trains; without the download of weights."""
    solution = load(text, tmp_path)
    models = {name: replace(model, weights=None) for name, model in solution.models.items()}
    for name in models:
        check(Paths(replace(solution, models=models)), name)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which Python finds the examples of docs/extend.md, each as the module that its first line names."""
    folder, names = tmp_path_factory.mktemp("own"), []
    for text in blocks(EXTEND, "python"):
        first = re.match(r"# (my_\w+)\.py\n", text)
        assert first, f"the first line of an example names its module: {text}"
        names.append(first[1])
        (folder / f"{first[1]}.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(folder)])
        yield folder
    for name in names:
        sys.modules.pop(name, None)


def test_examples_are_short_and_each_table_has_one(own: Path) -> None:
    lines = {path.stem: [x for x in path.read_text().splitlines() if x] for path in own.glob("*.py")}
    assert max(map(len, lines.values())) <= 12
    kinds = ["augmentations", "classifiers", "losses", "optimizers", "pools", "schedules", "segmenters", "weights"]
    assert sorted(lines) == [f"my_{kind}" for kind in kinds]


@pytest.mark.usefixtures("own", "one_thread")
def test_segmenters() -> None:
    image = torch.randint(0, 256, (2, 1, 64, 96), dtype=torch.uint8)
    one = build(ModelConfig(net="my_segmenters:scse_unet", encoder=toy.TINY, options={"encoder_depth": 5}))
    two = build(ModelConfig(net="my_segmenters:two_layers", options={"filters": 8}, downscale=2))
    for net in (one, two):
        maps = net(image).maps
        assert maps is not None and maps.shape == (2, 4, 64, 96)
        maps.square().mean().backward()
        gradients = [p.grad for p in net.parameters()]
        assert gradients[0] is not None and gradients[0].abs().sum() > 0  # the encoder has layers that it does not run
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)
    assert "SCSEModule" in {type(module).__name__ for module in one.modules()}
    assert sum(p.numel() for p in two.parameters()) == (25 + 1) * 8 + (8 * 25 + 1) * 4


@pytest.mark.usefixtures("own", "one_thread")
def test_classifiers_and_a_pooling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POOLS, "lme", choose(POOLS, "my_pools:LogMeanExp", "pool"))
    models = [
        ModelConfig(kind="classifier", net="my_classifiers:brightest", options={"filters": 8}),
        ModelConfig(kind="classifier", net="my_pools:resnet_lme", options={"name": "test_resnet"}),
        ModelConfig(kind="classifier", net="test_resnet", options={"pool": "lme"}),
    ]
    for model in models:
        net = build(model)
        labels = net(torch.randint(0, 256, (2, 1, 64, 96), dtype=torch.uint8)).labels
        assert labels is not None and labels.shape == (2, 4)
        labels.square().mean().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    maps = torch.tensor([[[[0.0, np.log(3)]], [[5.0, 5.0]]]])  # (1, 2, 1, 2)
    assert POOLS["lme"]()(maps).tolist() == [pytest.approx([np.log(2), 5])]


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("shape", [(1, 4, 1, 2), (2, 4)])
def test_a_loss_and_weights_of_the_classes(shape: tuple[int, ...]) -> None:
    """At p = .5 cross-entropy is ln 2 and the chance of a miss one half."""
    logits, target = torch.zeros(shape), torch.ones(shape)
    plain = mixed({"my_losses:poly_bce": 2.0, "bce": 1.0})(logits, target)
    assert float(plain) == pytest.approx(2 * (np.log(2) + 0.5) + np.log(2))
    weights = positive_weights("my_weights:root", 100, [10, 50, 80, 0])
    assert weights == pytest.approx([3, 1, 0.5, 1])
    weighted = mixed({"my_losses:poly_bce": 1.0}, weights)(logits, target)
    assert float(weighted) == pytest.approx(5.5 / 4 * np.log(2) + 0.5)


@pytest.mark.usefixtures("own")
def test_an_optimizer_and_a_schedule() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 3)
    optimizer = optimizer_for(net, "my_optimizers:adamax", 0.1, 0.0, options={"betas": [0.8, 0.99]})
    net.weight.square().sum().backward()
    optimizer.step()
    assert net.weight.item() == pytest.approx(2.9)  # the first step is lr * sign of the gradient
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.99)
    rates = [lr_at(step, 8, 2.0, 0, "my_schedules:stairs") for step in range(8)]
    assert rates == pytest.approx([2, 2, 2, 2, 0.2, 0.2, 0.02, 0.02])


def uneven(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    image, mask = np.full((256, 64), 100, np.uint8), np.zeros((256, 64), np.uint8)
    mask[:10, :10] = 0b1010
    return augmenter("my_augmentations:uneven")(image, mask, seed)


@pytest.mark.usefixtures("own")
def test_an_augmentation() -> None:
    n_uneven, corners = 0, set()
    for seed in range(100):
        image, mask = uneven(seed)
        again = uneven(seed)
        assert np.array_equal(image, again[0]) and np.array_equal(mask, again[1])
        assert image.shape == mask.shape == (256, 64) and image.dtype == mask.dtype == np.uint8
        assert image.min() >= 80 and image.max() <= 120 and (mask == 0b1010).sum() == 100
        n_uneven += bool((image != 100).any())
        corners.add(tuple(np.argwhere(mask).min(0).tolist()))
    assert 35 < n_uneven < 65 and corners == {(0, 0), (0, 54), (246, 0), (246, 54)}


@pytest.mark.usefixtures("one_thread")
def test_the_solution_of_ones_own_is_trained(own: Path, tmp_path: Path) -> None:
    (text,) = blocks(EXTEND, "yaml")
    root = toy.fresh(tmp_path)
    for module in own.glob("*.py"):
        (root / module.name).write_text(module.read_text())
    phases = [Phase(epochs=1, width=64, batch=2, lr=0.01, samples=8)]
    models = {
        name: replace(model, phases=phases, encoder=toy.TINY, downscale=4, warmup_steps=0)
        for name, model in load(text, tmp_path).models.items()
    }
    for name in models:
        folder = toy.run(root, name, replace(toy.solution(models)))
        assert toy.weights(folder)
        (epoch,) = toy.log(folder)
        share = 0.01 if name == "unet" else 0.01 + 0.99 * 0.5 * (1 - 0.5**0.5)  # of the peak, at the last of 4 steps
        assert epoch["steps"] == 4 and np.isfinite(epoch["loss"]) and epoch["lr"] == pytest.approx(0.01 * share)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert all((page.parent / target).exists() for target in links), links
    named = {path.rstrip(".") for path in re.findall(rf"(?<![\w/.-])(?:{ROOMS})/[\w./-]*", text)}
    missing = {path for path in named if not (tiny.ROOT / path).exists()}
    assert not {path for path in missing if not re.search(r"[A-Z]{4}", path)}  # folds/NAME.csv is none


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("`net` of a segmenter", [*SEGMENTERS, *WITHOUT_ENCODER]),
        ("`net` of a classifier", ["every timm model", *CLASSIFIERS]),
        ("`loss`, mixed by weight", list(LOSSES)),
        ("`pos_weight`", list(WEIGHTS)),
        ("`optimizer`", list(OPTIMIZERS)),
        ("`schedule`", list(SCHEDULES)),
        ("`augment`", list(AUGMENTATIONS)),
    ],
)
def test_the_names_in_readme_are_those_of_the_tables(key: str, names: list[str]) -> None:
    cell = row(tiny.ROOT / "README.md", key)[1].replace("; of the study ", ", ")
    assert re.split(r";|, or ", cell)[0].split(", ") == names


@pytest.mark.parametrize("name", [path.name for path in (EXTEND, SETTINGS)])
def test_pages_are_short(name: str) -> None:
    lines = (tiny.ROOT / "docs" / name).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 220 and max(map(len, lines)) <= 120


def test_measured_figures_stand_where_they_are_said_to() -> None:
    text = " ".join(SETTINGS.read_text(encoding="utf-8").split())
    parts = re.split(r"\(\*\*k\*\*, `([\w./]+)`\)", text)
    assert len(parts) >= 7
    for said, source in zip(parts[0::2], parts[1::2], strict=False):
        claim = re.split(r"\*\*|\)\. |\): |## ", said)[-1]
        numbers = re.findall(r"\d*\.\d+|\d{3,}", claim)
        standing = (tiny.ROOT / source).read_text(encoding="utf-8")
        assert numbers and all(number in standing for number in numbers), (claim, source)


@pytest.mark.parametrize("balance", ["1", "0.5", "0"])
def test_how_often_a_strip_is_drawn(balance: str) -> None:
    """By the sampler itself, on as many strips of each class as four folds have; one class a strip."""
    n_shown = [round(0.8 * n) for n in N_SHOWN]
    has = np.zeros((IN_TRAINING[0], 4), np.bool_)
    has[np.arange(sum(n_shown)), np.repeat(range(4), n_shown)] = True
    rows = np.arange(len(has))
    sampling = Sampling(rows, 512, len(has), ModelConfig.defect_share, "none", 0, float(balance))
    drawn = [_draw_rows(has, sampling, np.random.default_rng(epoch))[1] for epoch in range(20)]
    per_epoch = np.bincount(np.concatenate(drawn) + 1, minlength=5)[1:] / 20 / n_shown
    said = [float(cell) for cell in row(SETTINGS, f"`class_balance: {balance}`")[1:]]
    assert said == pytest.approx(per_epoch, abs=0.12)


def test_weights_of_the_classes() -> None:
    for first, name, n in [
        ("`inverse` (at most 20)", "inverse", N_STRIPS),
        ("`inverse` under `rows: defects`", "inverse", N_DEFECTS),
        ("`effective` (mean 1)", "effective", N_STRIPS),
    ]:
        assert row(SETTINGS, first)[1:] == [f"{weight:.1f}" for weight in positive_weights(name, n, N_SHOWN)]


def test_shares_of_the_classes() -> None:
    text = " ".join(SETTINGS.read_text(encoding="utf-8").split())
    for shares in ([n / N_STRIPS for n in N_SHOWN], PUBLIC_SHARES):
        assert " / ".join(f"{100 * share:.1f}" for share in shares) + " %" in text


def test_numbers_of_steps(tmp_path: Path) -> None:
    baseline = cli.parse("status", "", [str(tiny.ROOT / "configs/baseline.yaml")])[0]
    (text,) = [text for text in blocks(SETTINGS, "yaml") if text.startswith("name: day\n")]
    day = load(text, tmp_path)
    for first, model, n in [
        ("`unet` of the baseline", baseline.models["unet"], IN_TRAINING[0]),
        ("`gate` of the baseline", baseline.models["gate"], IN_TRAINING[0]),
        ("a segmenter of `day`, on 4,800 strips with a defect", day.models["fpn"], int(0.9 * IN_TRAINING[1])),
    ]:
        steps = [(p.epochs, n // p.batch, p.batch) for p in model.phases]
        said = [f"{epochs} x {a} = {epochs * a:,} of {batch}" for epochs, a, batch in steps]
        assert [cell for cell in row(SETTINGS, first)[1:] if cell] == said
