"""A solution as frozen dataclasses: what a YAML in `configs/` may say, with units, ranges and defaults."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from steel.competition import USUAL_MIN_AREA_PX, WIDTH

TTA_VIEWS = ("identity", "hflip", "vflip", "hvflip")


@dataclass(frozen=True)
class SynthConfig:
    """Synthetic data set, written by `synth`."""

    n_train: int = 160
    """Training strips to write (>= 10)."""
    n_test: int = 40
    """Test strips to write (>= 1)."""
    seed: int = 0
    """Seed of the data set (>= 0); the same seed gives the same bytes."""


@dataclass(frozen=True)
class DataConfig:
    """The images and labels."""

    name: str = "severstal"
    """Name of the data set: its cache lies in data/NAME/, its split in folds/NAME.csv."""
    raw: str | None = None
    """Folder in the competition's layout (train.csv, train_images, ...); null: data/NAME/raw."""
    synth: SynthConfig | None = None
    """Write a synthetic data set instead of reading a real one; null: real."""


@dataclass(frozen=True)
class SplitConfig:
    """The folds."""

    n_folds: int = 5
    """Number of folds (2..20)."""
    seed: int = 0
    """Seed of the split (>= 0)."""
    holdout: float | None = None
    """Hold out one random share of the strips (0.01..0.5) as fold 0 and train on the rest; null: n_folds folds."""
    known_duplicates: str | None = None
    """CSV (ImageId,DuplicateOf) of pairs to keep in one fold, beside those that are found; null: none."""


@dataclass(frozen=True)
class Phase:
    """A part of the training with a size, a batch and a learning-rate schedule of its own."""

    epochs: int = 10
    """Epochs of this phase (>= 1)."""
    width: int = WIDTH
    """Width of the crops, px (32..1600, a multiple of 32); 1600 trains on whole strips."""
    batch: int = 8
    """Crops per step (>= 1)."""
    lr: float = 1e-3
    """Peak learning rate (> 0): reached after the warm-up, then the model's schedule."""
    samples: int | None = None
    """Crops per epoch (>= 1); null: as many as there are training strips."""
    downscale: int | None = None
    """The model's downscale (1, 2 or 4) during this phase, to start at a small size; null: its own."""


@dataclass(frozen=True)
class ModelConfig:
    """One model: a net and how it is trained; trained once per fold."""

    kind: Literal["segmenter", "classifier"] = "segmenter"
    """Segmenters give four probability maps; the mean of the classifiers' four probabilities gates the masks."""
    net: str = "Unet"
    """Architecture (segmenter: a name of the table SEGMENTERS; classifier: a timm name), or package.module:function."""
    encoder: str = "resnet18"
    """Encoder of a segmenter, by its smp name; a classifier ignores it."""
    weights: str | None = None
    """Pretrained encoder: imagenet (downloaded), a .safetensors or .pt file, or null for random."""
    weights_partial: bool = False
    """Accept a weights file in which tensors of the encoder are missing or do not fit."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the architecture, such as encoder_depth or decoder_channels."""
    dropout: float = 0.0
    """Share of the features before the last layer that are dropped while training (0 <= dropout < 1)."""
    gate_weight: float = 0.0
    """Weight of the cross-entropy of a classification head trained jointly with a segmenter of smp (>= 0; 0: none)."""
    downscale: int = 1
    """The net sees strips reduced by this factor (1, 2 or 4), and learns from masks so reduced; maps have full size."""
    loss: dict[str, float] = field(default_factory=lambda: {"bce": 1.0})
    """Weight (> 0) of each loss, by its name in the table LOSSES."""
    pos_weight: str | list[float] | None = None
    """Weights of the classes where present, in the cross-entropies: inverse, effective, or four numbers > 0."""
    phases: list[Phase] = field(default_factory=lambda: [Phase()])
    """Phases of the training, in order."""
    augment: str | dict[str, str] = "light"
    """Augmentation recipe, by its name in the table AUGMENTATIONS, or a table: default and the recipes of classes."""
    rows: Literal["all", "defects"] = "all"
    """Train on all strips of the training folds, or on those with a defect only (for segmenters behind a gate)."""
    defect_share: float = 0.7
    """Share of the crops drawn around a defect (0..1); the rest fall anywhere."""
    class_balance: float = 1.0
    """Of these, how alike the classes are in number (0..1): 1 all alike, 0 as in the data, else n ** (1 - balance)."""
    paste: float = 0.0
    """Share of the crops (0..1) that get a defect of another strip pasted in."""
    mix: Literal["none", "mixup", "cutmix"] = "none"
    """Mix the images of a batch and their labels (classifiers only)."""
    optimizer: str = "adamw"
    """Optimizer, by its name in the table OPTIMIZERS."""
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the optimizer, such as momentum."""
    encoder_lr: float = 1.0
    """Learning rate of the encoder as a share of that of the rest (>= 0); 0 freezes it."""
    schedule: str = "cosine"
    """Course of the learning rate in each phase after the warm-up, by its name in the table SCHEDULES."""
    weight_decay: float = 0.01
    """Weight decay (>= 0); of biases and norms none."""
    warmup_steps: int = 20
    """Steps of linear warm-up at the start of each phase (>= 0)."""
    ema: float = 0.99
    """Decay of the moving average of the weights, which is what ships (0 <= ema < 1; 0: the last weights)."""
    average_epochs: int = 0
    """Ship the mean of the weights after so many last epochs (SWA) instead of the moving average (>= 0; 0: do not)."""
    best_epochs: int = 0
    """Ship the mean of the weights after so many best epochs, judged on strips kept from training (>= 0; 0: do not)."""
    inner_share: float = 0.1
    """Share of the training strips (0.01..0.5) that best_epochs keeps from training to judge the epochs on."""
    accumulate: int = 1
    """Batches whose gradients are added up before a step (>= 1)."""
    clip: float = 1.0
    """Largest norm of the gradient (> 0)."""
    amp: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the forward pass; auto: bf16 where the device computes it natively, else fp32."""
    validate_every: int = 1
    """Epochs between two looks at held-out and inner strips (>= 1); the last epoch is always looked at."""
    seed: int = 0
    """Seed of initial weights, crops and augmentation (>= 0), with the fold number."""


@dataclass(frozen=True)
class PredictConfig:
    """Inference on held-out and test strips."""

    tta: list[str] = field(default_factory=lambda: ["identity", "hflip"])
    """Views averaged over: identity, hflip, vflip, hvflip; each at most once."""
    batch: int = 8
    """Strips per forward pass (>= 1); the last batch is padded to it, so that every strip meets the same arithmetic."""


@dataclass(frozen=True)
class DecideConfig:
    """The search for the rules, and for the models' votes."""

    n_area: int = 64
    """Values of the minimum area that are tried (3..256)."""
    n_gate: int = 64
    """Values of the classifier gate that are tried (2..256)."""
    fixed_threshold: float = 0.5
    """Pixel threshold of the fixed rule, which the tuned one is compared with (0.004..1)."""
    fixed_min_area_px: list[int] = field(default_factory=lambda: list(USUAL_MIN_AREA_PX))
    """Minimum areas of the fixed rule for the four classes, px (0..409600)."""
    fixed_gate: float = 0.5
    """Classifier gate of the fixed rule (0..1)."""
    ensemble: Literal["equal", "search"] = "equal"
    """Votes of the models: all alike, or by class as often as surely gains on strips that did not choose it."""


@dataclass(frozen=True)
class KernelConfig:
    """The Kaggle kernel."""

    time_limit_s: int = 3600
    """Time that the competition gives a submission's kernel, s (>= 60)."""
    margin_s: int = 300
    """Part of it that is kept free for what comes before and after, s (0 .. time_limit_s - 30)."""


@dataclass(frozen=True)
class ReportConfig:
    """What the report tells beside the run itself: not part of the solution's identity."""

    against: str | None = None
    """Folder of another run, such as runs/demo, with which the report compares this one; null: only the run before."""


@dataclass(frozen=True)
class MachineConfig:
    """Where it runs: not part of the solution's identity."""

    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda or cuda:N."""
    devices: int = 1
    """Devices that train one model together, each on its share of every batch (>= 1): GPUs, or cores without one."""
    sync_batch_norm: bool = False
    """Let batch norms take the statistics of the whole batch, not of each device's share of it (GPUs only)."""
    checkpoint_gradients: bool = False
    """Save memory in training: compute an encoder's blocks twice, and keep what is inside them for neither pass."""
    compile: bool = False
    """Train through torch.compile: slow first steps, meant for a GPU; its sums round otherwise."""
    sampling: Literal["workers", "device"] = "workers"
    """Who makes training samples: workers, or the device, which holds all strips (augment none, flips or light)."""
    jobs: int | None = None
    """Trainings at once, each in a process of its own (>= 1); null: one on a GPU; on a CPU as many as it has cores."""
    threads: int | None = None
    """CPU threads of torch (>= 1); null: one per core, shared out among the trainings that run at once."""
    workers: int | None = None
    """Processes that prepare batches or decode images (>= 0); null: chosen from the cores and the device."""
    executor: Literal["serial", "ray"] = "serial"
    """Who runs the jobs of train, oof and predict: this program, or a Ray cluster (see ray)."""


@dataclass(frozen=True)
class RayConfig:
    """The cluster that works under --executor ray: not part of the solution's identity."""

    address: str | None = None
    """auto (the cluster that this machine belongs to), HOST:PORT of its head, or null: a Ray of this machine alone."""
    gpus_per_job: float | None = None
    """GPUs of a job (>= 0; with 0.5 two jobs share one); null: 1 where the cluster has any (a training takes
    machine.devices), but 0 for device: cpu."""
    cpus_per_job: int | None = None
    """CPUs of a job (>= 1), and its threads if machine.threads is null; null: the threads it has without Ray, beside a
    GPU that GPU's share of its node."""
    retries: int = 3
    """How often a job goes on elsewhere after its process or its node was lost (>= 0); a refusal is final."""
    storage: str | None = None
    """Where inputs and outputs travel, any address of fsspec such as s3://bucket/path; null: all nodes share this
    working directory, under one path."""
    part_strips: int = 512
    """Strips whose results share a file, of those of predict --images (>= 1)."""


@dataclass(frozen=True)
class Solution:
    """Everything that a YAML in configs/ may say."""

    name: str
    """Name of the solution: its results lie in runs/NAME and submissions/NAME."""
    models: dict[str, ModelConfig]
    """The models by name."""
    data: DataConfig = field(default_factory=DataConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    decide: DecideConfig = field(default_factory=DecideConfig)
    kernel: KernelConfig = field(default_factory=KernelConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    @property
    def segmenters(self) -> list[str]:
        """Names of the models that give probability maps, in the order of the YAML."""
        return [name for name, model in self.models.items() if model.kind == "segmenter"]

    @property
    def gates(self) -> list[str]:
        """Names of the models that give class probabilities: classifiers, and segmenters with a joint head."""
        return [name for name, model in self.models.items() if model.kind == "classifier" or model.gate_weight]

    @property
    def folds(self) -> tuple[int, ...]:
        """The folds that are held out in turn."""
        return (0,) if self.split.holdout else tuple(range(self.split.n_folds))


def digest(value: Any) -> str:
    """A short stable name (16 hex digits of sha256) for a dataclass or anything JSON can say."""
    plain = asdict(value) if hasattr(value, "__dataclass_fields__") else value
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
