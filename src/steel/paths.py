"""The only place that knows where an artifact lies; everything is relative to the working directory."""

from dataclasses import dataclass, replace
from pathlib import Path

from steel.config import Solution

FOLDS = Path("folds")
RUNS = Path("runs")


@dataclass(frozen=True)
class Paths:
    """Where the artifacts of one solution lie.

    Attributes:
        solution: whose they are.
        held_out: name of the folders of its held-out probabilities.
    """

    solution: Solution
    held_out: str = "oof"

    @property
    def data(self) -> Path:
        """Folder of the data set."""
        return Path("data") / self.solution.data.name

    @property
    def raw(self) -> Path:
        """Folder in the competition's layout."""
        raw = self.solution.data.raw
        return Path(raw) if raw else self.data / "raw"

    @property
    def cache(self) -> Path:
        """Folder of the memory-mapped arrays and their index."""
        return self.data / "cache"

    @property
    def eda(self) -> Path:
        """Folder of what the prepared data look like."""
        return self.data / "eda"

    @property
    def folds_record(self) -> Path:
        """Folder of the record of the split."""
        return self.data / "folds"

    @property
    def folds(self) -> Path:
        """The split: a CSV that may be committed."""
        return FOLDS / f"{self.solution.data.name}.csv"

    @property
    def run(self) -> Path:
        """Folder of all that is learned."""
        return RUNS / self.solution.name

    def fold(self, model: str, fold: int) -> Path:
        """Folder of one training."""
        return self.run / model / f"fold{fold}"

    def oof(self, model: str, fold: int) -> Path:
        """Folder of the held-out probabilities of one fold."""
        return self.fold(model, fold) / self.held_out

    def test(self, model: str) -> Path:
        """Folder of the test probabilities, mean over the folds."""
        return self.run / model / "test"

    def with_views(self, n: int) -> "Paths":
        """The same run with held-out probabilities of the first `n` views alone, which lie beside the others."""
        predict = replace(self.solution.predict, tta=self.solution.predict.tta[:n])
        return Paths(replace(self.solution, predict=predict), f"oof-views{n}")

    @property
    def fallbacks(self) -> Path:
        """Folder of what the kernel falls back to when time is short."""
        return self.run / "fallbacks"

    @property
    def decide(self) -> Path:
        """Folder of the table and the rules."""
        return self.run / "decide"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.run / "report"

    @property
    def submission(self) -> Path:
        """Folder of the submission and its manifest."""
        return Path("submissions") / self.solution.name

    @property
    def kernel(self) -> Path:
        """Folder of the Kaggle kernel and its dataset."""
        return Path("kernels") / self.solution.name
