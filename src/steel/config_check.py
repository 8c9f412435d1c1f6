"""Refusals: values of a solution that are out of range, each in one line that says what is allowed."""

import math
import re

from steel.competition import HEIGHT, N_CLASSES, N_PIXELS, WIDTH
from steel.config import TTA_VIEWS, DecideConfig, MachineConfig, ModelConfig, Phase, Solution
from steel.errors import UserError


def check(solution: Solution) -> None:
    """Refuse values out of range; names in the tables are checked where the tables are."""
    check_name("name", solution.name)
    check_name("data.name", solution.data.name)
    if not solution.segmenters:
        raise UserError("models: a solution needs at least one model of kind segmenter")
    _within("split.n_folds", solution.split.n_folds, 2, 20)
    _within("split.seed", solution.split.seed, 0)
    _within("split.holdout", solution.split.holdout, 0.01, 0.5)
    _within("predict.batch", solution.predict.batch, 1)
    if not solution.predict.tta:
        raise UserError("predict.tta: at least one view is needed; identity is the strip as it is")
    for view in solution.predict.tta:
        if view not in TTA_VIEWS or solution.predict.tta.count(view) > 1:
            raise UserError(f"predict.tta: {view!r} is not allowed; allowed: {', '.join(TTA_VIEWS)}, each once")
    _check_decide(solution.decide)
    _within("kernel.time_limit_s", solution.kernel.time_limit_s, 60)
    _within("kernel.margin_s", solution.kernel.margin_s, 0, solution.kernel.time_limit_s - 30)
    _check_machine(solution.machine)
    _check_ray(solution)
    if solution.data.synth:
        _within("data.synth.n_train", solution.data.synth.n_train, 10)
        _within("data.synth.n_test", solution.data.synth.n_test, 1)
        _within("data.synth.seed", solution.data.synth.seed, 0)
    for name, model in solution.models.items():
        check_name("models", name)
        if name in ("decide", "report", "fallbacks"):  # folders beside those of the models
            raise UserError(f"models: {name!r} is taken by a stage; allowed: any other name")
        _check_model(f"models.{name}", model)


def check_name(key: str, value: object) -> None:
    """Refuse a name that cannot be the name of a folder."""
    if not isinstance(value, str) or not value.replace("-", "").replace("_", "").isalnum() or not value.isascii():
        raise UserError(f"{key}: {value!r} cannot name a folder; allowed: letters, digits, - and _")


def _check_machine(machine: MachineConfig) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", machine.device):
        raise UserError(f"machine.device: {machine.device!r} is not allowed; allowed: auto, cpu, cuda, cuda:N")
    for key in ("devices", "jobs", "threads"):
        _within(f"machine.{key}", getattr(machine, key), 1)
    _within("machine.workers", machine.workers, 0)
    if machine.devices > 1 and machine.device.startswith("cuda:"):
        raise UserError(f"machine.device: {machine.device!r} is one device, not {machine.devices}; allowed: auto, cuda")
    if machine.devices > 1 and (machine.jobs or 1) > 1:
        raise UserError(f"machine.jobs: {machine.jobs} trainings at once on {machine.devices} devices; allowed: 1")
    if machine.compile and machine.checkpoint_gradients:
        raise UserError("machine: compile and checkpoint_gradients are not for one training; allowed: one of them")


def _check_ray(solution: Solution) -> None:
    ray, machine = solution.ray, solution.machine
    if ray.address is not None and not re.fullmatch(r"auto|[^\s:/]+:\d+", ray.address):
        raise UserError(f"ray.address: {ray.address!r} is not allowed; allowed: auto, HOST:PORT, null")
    _within("ray.gpus_per_job", ray.gpus_per_job, 0)
    if ray.gpus_per_job is not None and ray.gpus_per_job > 1 and ray.gpus_per_job % 1:
        raise UserError(f"ray.gpus_per_job: {ray.gpus_per_job} is not allowed; allowed: parts of 1, or whole numbers")
    _within("ray.cpus_per_job", ray.cpus_per_job, 1)
    _within("ray.retries", ray.retries, 0)
    if ray.storage is not None and "://" not in ray.storage:
        raise UserError(f"ray.storage: {ray.storage!r} is no address; allowed: one of fsspec, as in s3://bucket/path")
    _within("ray.part_strips", ray.part_strips, 1)
    if machine.executor == "ray" and ":" in machine.device:
        raise UserError(f"machine.device: {machine.device!r} is Ray's to choose; allowed: auto, cpu, cuda")


def _check_decide(decide: DecideConfig) -> None:
    _within("decide.n_area", decide.n_area, 3, 256)
    _within("decide.n_gate", decide.n_gate, 2, 256)
    _within("decide.fixed_threshold", decide.fixed_threshold, 0.004, 1)
    _within("decide.fixed_gate", decide.fixed_gate, 0, 1)
    areas = decide.fixed_min_area_px
    if len(areas) != N_CLASSES:
        raise UserError(
            f"decide.fixed_min_area_px: {areas} has {len(areas)} values; allowed: {N_CLASSES}, one per class"
        )
    for i, area in enumerate(areas):
        _within(f"decide.fixed_min_area_px[{i}]", area, 0, N_PIXELS)


def _check_model(where: str, model: ModelConfig) -> None:
    for key in ("defect_share", "class_balance", "paste"):
        _within(f"{where}.{key}", getattr(model, key), 0, 1)
    for key in ("weight_decay", "warmup_steps", "encoder_lr", "gate_weight", "seed"):
        _within(f"{where}.{key}", getattr(model, key), 0)
    for key in ("accumulate", "validate_every"):
        _within(f"{where}.{key}", getattr(model, key), 1)
    for key in ("ema", "dropout"):
        if not 0 <= getattr(model, key) < 1:
            raise UserError(f"{where}.{key}: {getattr(model, key)} is out of range; allowed: 0 <= {key} < 1")
    if model.mix != "none" and model.kind != "classifier":
        raise UserError(f"{where}.mix: {model.mix!r} mixes labels, which a segmenter has not; allowed: none")
    if model.gate_weight and model.kind != "segmenter":
        raise UserError(f"{where}.gate_weight: {model.gate_weight} gives a head to a segmenter; allowed: 0")
    if model.gate_weight and model.rows != "all":
        raise UserError(f"{where}.gate_weight: a gate must learn from clean strips too; allowed: 0, or rows: all")
    _check_averages(where, model)
    _positive(f"{where}.clip", model.clip)
    _check_downscale(where, model.downscale)
    if not model.loss:
        raise UserError(f"{where}.loss: at least one loss is needed, as in {{bce: 1.0}}")
    for name, weight in model.loss.items():
        _positive(f"{where}.loss.{name}", weight)
    if not model.phases:
        raise UserError(f"{where}.phases: at least one phase is needed, as in [{{epochs: 10}}]")
    for i, phase in enumerate(model.phases):
        _check_phase(f"{where}.phases[{i}]", phase)


def _check_averages(where: str, model: ModelConfig) -> None:
    n_epochs = sum(phase.epochs for phase in model.phases)
    _within(f"{where}.average_epochs", model.average_epochs, 0, n_epochs)
    n_looks = -(-n_epochs // model.validate_every)
    if not 0 <= model.best_epochs <= n_looks:
        raise UserError(
            f"{where}.best_epochs: {model.best_epochs} is out of range; allowed: 0..{n_looks}, the looks at "
            f"{n_epochs} epochs (validate_every {model.validate_every})"
        )
    _within(f"{where}.inner_share", model.inner_share, 0.01, 0.5)
    if model.average_epochs and model.best_epochs:
        raise UserError(f"{where}: average_epochs and best_epochs both say what ships; allowed: one of them")


def _check_phase(where: str, phase: Phase) -> None:
    _within(f"{where}.epochs", phase.epochs, 1)
    _within(f"{where}.batch", phase.batch, 1)
    _within(f"{where}.width", phase.width, 32, WIDTH)
    if phase.width % 32:
        raise UserError(f"{where}.width: {phase.width} is not a multiple of 32; allowed: 32, 64, ... {WIDTH}")
    _positive(f"{where}.lr", phase.lr)
    _within(f"{where}.samples", phase.samples, 1)
    _check_downscale(where, phase.downscale)


def _check_downscale(where: str, value: int | None) -> None:
    if value not in (None, 1, 2, 4):
        raise UserError(f"{where}.downscale: {value} is not allowed; allowed: 1, 2, 4")


def _within(key: str, value: float | None, low: float, high: float = math.inf) -> None:
    if value is not None and not (low <= value <= high and value < math.inf):  # nan is in no range
        allowed = f"{low}..{high}" if high < math.inf else f">= {low}"
        raise UserError(f"{key}: {value} is out of range; allowed: {allowed}")


def _positive(key: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise UserError(f"{key}: {value} is out of range; allowed: > 0")


assert HEIGHT % 32 == 0  # full-height crops need no padding in any encoder
