"""Every value out of range is refused with its key, itself and what is allowed."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from steel import cli
from steel.config import (
    DataConfig,
    DecideConfig,
    KernelConfig,
    MachineConfig,
    ModelConfig,
    Phase,
    PredictConfig,
    ReportConfig,
    Solution,
    SplitConfig,
    SynthConfig,
    digest,
)
from steel.config_check import check
from steel.errors import UserError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
GOOD = Solution("demo", {"unet": ModelConfig()})
NAN = float("nan")


def with_model(**change: Any) -> Solution:
    return replace(GOOD, models={"unet": ModelConfig(**change)})


def with_phase(**change: Any) -> Solution:
    return with_model(phases=[Phase(), Phase(**change)])


def with_part(part: str, **change: Any) -> Solution:
    return replace(GOOD, **{part: replace(getattr(GOOD, part), **change)})


def with_synth(**change: Any) -> Solution:
    return replace(GOOD, data=DataConfig(synth=SynthConfig(**change)))


NAME = "cannot name a folder; allowed: letters, digits, - and _"
VIEWS = "is not allowed; allowed: identity, hflip, vflip, hvflip, each once"
DEVICES = "is not allowed; allowed: auto, cpu, cuda, cuda:N"
BAD = [
    (replace(GOOD, name="../x"), f"name: '../x' {NAME}"),
    (replace(GOOD, name=""), f"name: '' {NAME}"),
    (replace(GOOD, name="é"), f"name: 'é' {NAME}"),
    (replace(GOOD, data=DataConfig(name="a/b")), f"data.name: 'a/b' {NAME}"),
    (replace(GOOD, models={"a b": ModelConfig()}), f"models: 'a b' {NAME}"),
    (replace(GOOD, models={"report": ModelConfig()}), "models: 'report' is taken by a stage; allowed: any other name"),
    (with_model(kind="classifier"), "models: a solution needs at least one model of kind segmenter"),
    (replace(GOOD, models={}), "models: a solution needs at least one model of kind segmenter"),
    (with_synth(n_train=9), "data.synth.n_train: 9 is out of range; allowed: >= 10"),
    (with_synth(n_test=0), "data.synth.n_test: 0 is out of range; allowed: >= 1"),
    (with_synth(seed=-1), "data.synth.seed: -1 is out of range; allowed: >= 0"),
    (with_part("split", n_folds=1), "split.n_folds: 1 is out of range; allowed: 2..20"),
    (with_part("split", n_folds=21), "split.n_folds: 21 is out of range; allowed: 2..20"),
    (with_part("split", seed=-1), "split.seed: -1 is out of range; allowed: >= 0"),
    (with_part("predict", tta=[]), "predict.tta: at least one view is needed; identity is the strip as it is"),
    (with_part("predict", tta=["rot90"]), f"predict.tta: 'rot90' {VIEWS}"),
    (with_part("predict", tta=["hflip", "hflip"]), f"predict.tta: 'hflip' {VIEWS}"),
    (with_part("predict", batch=0), "predict.batch: 0 is out of range; allowed: >= 1"),
    (with_part("decide", n_area=1), "decide.n_area: 1 is out of range; allowed: 3..256"),
    (with_part("decide", n_gate=257), "decide.n_gate: 257 is out of range; allowed: 2..256"),
    (with_part("decide", fixed_threshold=1.5), "decide.fixed_threshold: 1.5 is out of range; allowed: 0.004..1"),
    (with_part("decide", fixed_gate=-0.1), "decide.fixed_gate: -0.1 is out of range; allowed: 0..1"),
    (with_part("decide", fixed_gate=NAN), "decide.fixed_gate: nan is out of range; allowed: 0..1"),
    (
        with_part("decide", fixed_min_area_px=[1, 2]),
        "decide.fixed_min_area_px: [1, 2] has 2 values; allowed: 4, one per class",
    ),
    (
        with_part("decide", fixed_min_area_px=[0, 0, -1, 0]),
        "decide.fixed_min_area_px[2]: -1 is out of range; allowed: 0..409600",
    ),
    (with_part("machine", threads=0), "machine.threads: 0 is out of range; allowed: >= 1"),
    (with_part("machine", jobs=0), "machine.jobs: 0 is out of range; allowed: >= 1"),
    (with_part("machine", workers=-1), "machine.workers: -1 is out of range; allowed: >= 0"),
    (with_part("machine", device="gpu"), f"machine.device: 'gpu' {DEVICES}"),
    (with_part("machine", device="meta"), f"machine.device: 'meta' {DEVICES}"),
    (
        with_part("machine", executor="ray", device="cuda:1"),
        "machine.device: 'cuda:1' is Ray's to choose; allowed: auto, cpu, cuda",
    ),
    (with_part("ray", address="head"), "ray.address: 'head' is not allowed; allowed: auto, HOST:PORT, null"),
    (
        with_part("ray", address="ray://head:1"),
        "ray.address: 'ray://head:1' is not allowed; allowed: auto, HOST:PORT, null",
    ),
    (with_part("ray", gpus_per_job=-0.5), "ray.gpus_per_job: -0.5 is out of range; allowed: >= 0"),
    (
        with_part("ray", gpus_per_job=1.5),
        "ray.gpus_per_job: 1.5 is not allowed; allowed: parts of 1, or whole numbers",
    ),
    (with_part("ray", cpus_per_job=0), "ray.cpus_per_job: 0 is out of range; allowed: >= 1"),
    (with_part("ray", retries=-1), "ray.retries: -1 is out of range; allowed: >= 0"),
    (
        with_part("ray", storage="/mnt/x"),
        "ray.storage: '/mnt/x' is no address; allowed: one of fsspec, as in s3://bucket/path",
    ),
    (with_model(defect_share=1.1), "models.unet.defect_share: 1.1 is out of range; allowed: 0..1"),
    (with_model(weight_decay=-0.1), "models.unet.weight_decay: -0.1 is out of range; allowed: >= 0"),
    (with_model(weight_decay=NAN), "models.unet.weight_decay: nan is out of range; allowed: >= 0"),
    (with_model(weight_decay=float("inf")), "models.unet.weight_decay: inf is out of range; allowed: >= 0"),
    (with_model(warmup_steps=-1), "models.unet.warmup_steps: -1 is out of range; allowed: >= 0"),
    (with_model(accumulate=0), "models.unet.accumulate: 0 is out of range; allowed: >= 1"),
    (with_model(validate_every=0), "models.unet.validate_every: 0 is out of range; allowed: >= 1"),
    (with_model(seed=-1), "models.unet.seed: -1 is out of range; allowed: >= 0"),
    (with_model(ema=1.0), "models.unet.ema: 1.0 is out of range; allowed: 0 <= ema < 1"),
    (with_model(clip=0.0), "models.unet.clip: 0.0 is out of range; allowed: > 0"),
    (with_model(downscale=3), "models.unet.downscale: 3 is not allowed; allowed: 1, 2, 4"),
    (with_model(phases=[Phase(downscale=3)]), "models.unet.phases[0].downscale: 3 is not allowed; allowed: 1, 2, 4"),
    (with_model(class_balance=1.5), "models.unet.class_balance: 1.5 is out of range; allowed: 0..1"),
    (with_model(paste=-0.1), "models.unet.paste: -0.1 is out of range; allowed: 0..1"),
    (with_model(encoder_lr=-1), "models.unet.encoder_lr: -1 is out of range; allowed: >= 0"),
    (with_model(average_epochs=11), "models.unet.average_epochs: 11 is out of range; allowed: 0..10"),
    (
        with_model(best_epochs=6, validate_every=2),
        "models.unet.best_epochs: 6 is out of range; allowed: 0..5, the looks at 10 epochs (validate_every 2)",
    ),
    (
        with_model(best_epochs=1, average_epochs=1),
        "models.unet: average_epochs and best_epochs both say what ships; allowed: one of them",
    ),
    (with_model(inner_share=0.0), "models.unet.inner_share: 0.0 is out of range; allowed: 0.01..0.5"),
    (
        with_model(gate_weight=0.5, rows="defects"),
        "models.unet.gate_weight: a gate must learn from clean strips too; allowed: 0, or rows: all",
    ),
    (
        replace(GOOD, models={"unet": ModelConfig(), "gate": ModelConfig(kind="classifier", gate_weight=0.5)}),
        "models.gate.gate_weight: 0.5 gives a head to a segmenter; allowed: 0",
    ),
    (with_model(dropout=1.0), "models.unet.dropout: 1.0 is out of range; allowed: 0 <= dropout < 1"),
    (with_model(mix="mixup"), "models.unet.mix: 'mixup' mixes labels, which a segmenter has not; allowed: none"),
    (with_model(loss={}), "models.unet.loss: at least one loss is needed, as in {bce: 1.0}"),
    (with_model(loss={"bce": 0.0}), "models.unet.loss.bce: 0.0 is out of range; allowed: > 0"),
    (with_model(phases=[]), "models.unet.phases: at least one phase is needed, as in [{epochs: 10}]"),
    (with_phase(epochs=0), "models.unet.phases[1].epochs: 0 is out of range; allowed: >= 1"),
    (with_phase(width=16), "models.unet.phases[1].width: 16 is out of range; allowed: 32..1600"),
    (with_phase(width=1632), "models.unet.phases[1].width: 1632 is out of range; allowed: 32..1600"),
    (with_phase(width=100), "models.unet.phases[1].width: 100 is not a multiple of 32; allowed: 32, 64, ... 1600"),
    (with_phase(batch=0), "models.unet.phases[1].batch: 0 is out of range; allowed: >= 1"),
    (with_phase(lr=0.0), "models.unet.phases[1].lr: 0.0 is out of range; allowed: > 0"),
    (with_phase(lr=NAN), "models.unet.phases[1].lr: nan is out of range; allowed: > 0"),
    (with_phase(lr=float("inf")), "models.unet.phases[1].lr: inf is out of range; allowed: > 0"),
    (with_phase(samples=0), "models.unet.phases[1].samples: 0 is out of range; allowed: >= 1"),
]


@pytest.mark.parametrize(("solution", "message"), BAD, ids=[message.split(" ")[0] for _, message in BAD])
def test_out_of_range(solution: Solution, message: str) -> None:
    with pytest.raises(UserError) as error:
        check(solution)
    assert str(error.value) == message


def test_the_edges_of_the_ranges_are_allowed() -> None:
    check(GOOD)
    edge = Phase(epochs=1, width=32, batch=1, lr=1e-9, samples=1)
    model = ModelConfig(defect_share=0, weight_decay=0, warmup_steps=0, ema=0, downscale=4, phases=[edge, Phase()])
    check(
        Solution(
            "A-b_1",
            {"x": model, "y": ModelConfig(kind="classifier")},
            DataConfig(synth=SynthConfig(10, 1)),
            SplitConfig(20),
            PredictConfig(["hvflip"], 1),
            DecideConfig(3, 256, 0.004, [0, 0, 0, 409600], 1.0),
            KernelConfig(60, 30),
            ReportConfig("runs/other"),
            MachineConfig("cuda:1", jobs=1, threads=1, workers=0),
        )
    )


def test_every_number_has_a_range_in_its_help() -> None:
    """Each numeric key's description names its range: what `check` refuses, the help tells before."""
    from steel.help_page import _leaves

    for key, kind in cli.HELP_PARTS.items():
        for action in _leaves(kind, key):
            if any(word in str(getattr(action, "_typehint", "")) for word in ("int", "float")):
                assert any(sign in (action.help or "") for sign in (">", "..", "<", "or 4)")), action.dest


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_solution_of_the_kit_loads(path: Path) -> None:
    solution, options = cli.parse("status", "", [str(path)])
    assert solution.name == path.stem
    assert options == cli.Options()


def test_what_models_give_in_the_order_of_the_yaml() -> None:
    both, gate, maps = ModelConfig(gate_weight=0.3), ModelConfig(kind="classifier"), ModelConfig()
    solution = Solution("x", {"b": both, "c": gate, "a": maps})
    assert (solution.segmenters, solution.gates) == (["b", "a"], ["b", "c"])


def test_the_folds_that_are_held_out() -> None:
    assert GOOD.folds == (0, 1, 2, 3, 4)
    assert replace(GOOD, split=SplitConfig(holdout=0.15)).folds == (0,)


def test_digest_names_content_and_not_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest(SplitConfig()) == digest({"n_folds": 5, "seed": 0, "holdout": None, "known_duplicates": None})
    # the first 16 digits of `printf null | sha256sum`
    assert digest(None) == "74234e98afe7498f"


def test_every_dataclass_is_frozen() -> None:
    for kind in cli.HELP_PARTS.values():
        assert is_dataclass(kind)
        with pytest.raises(AttributeError):
            setattr(kind(), fields(kind)[0].name, None)
