"""`steel kernel bundle`: a finished solution as a Kaggle kernel of one file, and the dataset that it reads."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from steel import files, specs, stage
from steel.competition import CLASSES, SLUG
from steel.config import DataConfig, MachineConfig, ModelConfig, RayConfig, ReportConfig, Solution, digest
from steel.decide import fallback_search
from steel.decide import run as rules
from steel.decide.decision import Decision
from steel.decide.fallback import load, scored, told
from steel.decide.families import family_of
from steel.decide.rule import NEVER_PX
from steel.errors import UserError
from steel.kaggle import parts, submit
from steel.kaggle.image import IMAGE, SHIPPED, wheel
from steel.kaggle.layout import FALLBACKS, RULES, SOLUTION, weights_name
from steel.kaggle.owner import of_bundle
from steel.kaggle.pack import needed_by
from steel.nets.study_segmenters import WITHOUT_ENCODER
from steel.paths import Paths
from steel.progress import say
from steel.report import run as report_run
from steel.report.uncertainty import within
from steel.stage import RECORD, Spec, recorded

CODE = (
    "kaggle/bundle",
    "kaggle/image",
    "kaggle/layout",
    "kaggle/pack",
    "kaggle/parts",
    "kaggle/template",
    "decide/families",
)
KERNEL = "steel.kaggle.kernel"  # what runs in it


def run(paths: Paths, folds: Sequence[int], owner: str, force: bool = False) -> None:
    """Write kernels/SOLUTION/ from the finished solution, unless it stands."""
    need_finished(paths, folds)
    fallback_search.ensure(paths, folds, force)
    stage.ensure(spec(paths, folds, owner), lambda: make(paths, folds, owner), force)
    is_tested = parts.passed(paths.kernel)
    tested = "its dry run has passed" if is_tested else "not to be pushed before `steel kernel test CONFIG` passes"
    say(f"kernel: {paths.kernel}; {tested}")


def need_finished(paths: Paths, folds: Sequence[int]) -> None:
    """Refuse to go on unless the submission stands, with all that it is made from."""
    for name in paths.solution.models:
        for k in folds:
            stage.need(specs.of_training(paths, name, k), "kernel")
        stage.need(specs.of_test(paths, name, folds), "kernel")
    stage.need(rules.spec(paths, folds), "kernel")
    stage.need(report_run.spec(paths, folds), "kernel")
    stage.need(submit.spec(paths, folds), "kernel")


def need(paths: Paths, folds: Sequence[int], reader: str) -> None:
    """Refuse to go on with a bundle that is not, or no longer, the solution's."""
    need_finished(paths, folds)
    state = stage.look(spec(paths, folds, of_bundle(paths.kernel)))
    if not state.usable:
        remedy = "wait for it" if state.kind == "running" else "run `steel kernel bundle CONFIG` first"
        raise UserError(f"{reader} needs {paths.kernel}, which is {state}: {remedy}")
    known = {Path(name) for name in files.read_json(paths.kernel / RECORD)["outputs"]}
    for path in sorted((paths.kernel / "dataset").rglob("*")):
        if path.is_file() and path not in known:
            raise UserError(f"{path} is no part of the bundle, and would be sent with it: move it away")


def spec(paths: Paths, folds: Sequence[int], owner: str) -> Spec:
    """What the bundle is made from."""
    inputs = {f"{name} fold {k}": recorded(paths.fold(name, k)) for name in paths.solution.models for k in folds}
    inputs["rules"] = files.sha256(paths.decide / rules.RULES)
    inputs["fallbacks"] = recorded(paths.fallbacks)
    inputs["submission"] = recorded(paths.submission, "submission.csv")
    inputs["packed code"] = digest({name: files.sha256(path) for name, path in packed(paths.solution).items()})
    config = {"owner": owner, "folds": list(folds), "solution": asdict(shipped(paths)), "image": IMAGE}
    return Spec("kernel", paths.kernel, config, inputs, CODE, {name: version(name) for name in SHIPPED})


def make(paths: Paths, folds: Sequence[int], owner: str) -> dict[Path, str]:
    """Write what differs from what is there, delete what is no part of it; digests of all files."""
    kernel, dataset = (f"{owner}/{slug}" for slug in slugs(paths.solution))
    content: dict[str, bytes | Path] = {
        "kernel.py": parts.kernel_text(_header(paths, dataset), dataset, KERNEL, packed(paths.solution)).encode(),
        parts.KERNEL: parts.as_json(parts.kernel_metadata(kernel, dataset)),
        f"dataset/{parts.DATASET}": parts.as_json(parts.dataset_metadata(dataset)),
        f"dataset/{SOLUTION}": parts.as_json(asdict(shipped(paths))),
        f"dataset/{RULES}": paths.decide / rules.RULES,
        f"dataset/{FALLBACKS}": paths.fallbacks / fallback_search.FILE,
    }
    for name in paths.solution.models:
        for k in folds:
            content[f"dataset/{weights_name(name, k)}"] = paths.fold(name, k) / "weights.safetensors"
    for package in SHIPPED:
        file, data = wheel(package)
        content[f"dataset/wheels/{file}"] = data
    return parts.write(paths.kernel, content)


def packed(solution: Solution) -> dict[str, Path]:
    """Modules that the kernel takes along: those that predict, and of a user's own those that nets come from."""
    own = [model.net.partition(":")[0] for model in solution.models.values() if ":" in model.net]
    return needed_by([KERNEL, *own])


def shipped(paths: Paths) -> Solution:
    """The solution without what is of this machine: its paths, its device; with the threads that predicted."""
    solution = paths.solution
    return replace(
        solution,
        models={name: replace(model, weights=None) for name, model in solution.models.items()},
        data=DataConfig(solution.data.name),
        split=replace(solution.split, known_duplicates=None),
        report=ReportConfig(),
        machine=MachineConfig(threads=_threads(paths)),
        ray=RayConfig(),
    )


def slugs(solution: Solution) -> tuple[str, str]:
    """What Kaggle calls the owner's kernel and dataset: steel-NAME and steel-NAME-weights."""
    return parts.slugs(solution.name, "weights")


def _threads(paths: Paths) -> int:
    """Threads that the test strips were predicted with: on a CPU the bytes depend on them."""
    found = {files.read_json(paths.test(name) / RECORD)["env"]["threads"] for name in paths.solution.models}
    if len(found) > 1:
        several = " and ".join(sorted(found))
        raise UserError(f"test strips predicted on {several} threads: run `steel predict CONFIG --force`")
    return int(found.pop())


def _header(paths: Paths, dataset: str) -> str:
    """What a reader of the kernel wants to know first."""
    solution, manifest = paths.solution, files.read_json(paths.submission / "manifest.json")
    decision, head = Decision.load(paths.decide / rules.RULES), manifest["cv"]
    fallbacks = load(paths.fallbacks / fallback_search.FILE)
    interval = within(head["mean_interval"], 5)
    models = [f"{name} ({_net(model)})" for name, model in solution.models.items()]
    rows = [
        ("Code", f"steel {manifest['version']}, commit {manifest['commit'] or 'unknown'}"),
        ("Score", f"mean Dice {head['mean']:.5f}{f' ({interval})' if interval else ''} on held-out strips"),
        ("Expected LB", f"{head['public_mean']:.4f}"),
        ("Models", ", ".join(models)),
        ("Folds", ", ".join(map(str, decision.folds))),
        ("Views", ", ".join(solution.predict.tta)),
        *((f"Class {c}", _asks(rule)) for c, rule in zip(CLASSES, decision.tuned.classes, strict=True)),
        *((f"Fallback {i}", f"{told(one)}; {scored(one)}") for i, one in enumerate(fallbacks, 1)),
        ("Attach", f"competition {SLUG}, dataset {dataset}"),
        ("Machine", "GPU T4, internet off"),
    ]
    first = f"Kaggle kernel of the solution {solution.name}, made by `steel kernel bundle`: do not edit, make it anew."
    return "\n".join([first, "", *(f"{key:<13}{value}" for key, value in rows), ""])


def _net(model: ModelConfig) -> str:
    has_encoder = model.kind == "segmenter" and model.net not in WITHOUT_ENCODER
    return f"{model.net} on {model.encoder}" if has_encoder else model.net


def _asks(rule: Any) -> str:
    """Family and numbers of a rule, without what is off and without the calibration."""
    if rule.min_area_px >= NEVER_PX:
        return "never shown"
    values = [(f.name, getattr(rule, f.name)) for f in fields(rule) if getattr(rule, f.name) != f.default]
    told = [f"{name} {_in_words(name, value)}" for name, value in values if name != "calibration"]
    return ", ".join([family_of(rule), *told])


def _in_words(name: str, value: Any) -> str:
    """A number of a rule: levels of uint8 as probabilities."""
    if name in ("threshold", "trigger"):
        return f"{value / 255:.3f}" if value else "each strip's own"
    return f"{value:.3f}" if name == "min_gate" else f"{value:g}"
