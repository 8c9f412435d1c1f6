"""The jobs of the stages: what each makes, and what it refuses to go on without."""

from typing import get_args, get_type_hints

import pytest

from steel.errors import UserError
from steel.jobs import MAKERS, Job
from steel.paths import Paths
from steel.stage import look


@pytest.mark.parametrize("job", [Job("train", "fpn", (1,)), Job("oof", "gate", (2,)), Job("predict", "fpn", (0, 1, 2))])
def test_a_job_names_the_output_of_its_stage(paths: Paths, job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    fold = "" if job.stage == "predict" else f" fold {job.folds[0]}"
    assert job.spec(paths).name == f"{job.stage} {job.model}{fold}"
    assert str(look(job.spec(paths))) == "done"
    job.run(paths, force=False)
    assert capsys.readouterr().out == f"{job.stage} {job.model}{fold}: up to date\n"


def test_without_weights_nothing_is_predicted(changed: Paths) -> None:
    (changed.fold("fpn", 1) / "weights.safetensors").unlink()
    Job("oof", "fpn", (0,)).check(changed)
    Job("train", "fpn", (1,)).check(changed)
    for job in (Job("oof", "fpn", (1,)), Job("predict", "fpn", (0, 1, 2))):
        with pytest.raises(
            UserError, match=rf"^{job.stage} needs 'train fpn fold 1', which is stale \(.*\): run `steel"
        ):
            job.run(changed, force=False)


def test_every_stage_of_jobs_has_its_maker() -> None:
    assert set(get_args(get_type_hints(Job)["stage"])) == set(MAKERS)
