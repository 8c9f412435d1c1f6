"""Wrong names, numbers and order, through the program: one line that names the value, code 2, all else untouched."""

from pathlib import Path

import pytest
import tiny
from tiny import RAW


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("train --modle gate", "unknown option --modle (did you mean --model?); --help lists all"),
        ("train --fold 3", "--fold: '3' is not a fold; allowed: 0..2, as in --fold 1"),
        ("decide --folds 0,7", "--folds: '7' is not a fold; allowed: 0..2, as in --folds 1"),
        ("train --models.fpn.net Unett", "models.fpn: net: unknown name 'Unett'; allowed: Unet, UnetPlusPlus, FPN"),
        ("train --models.fpn.encoder resnet19", "models.fpn: encoder: unknown name 'resnet19'; allowed: tu-NAME for"),
        ("train --models.gate.net resnet19", "models.gate: "),
        ("train --models.gate.loss {dise: 1}", "models.gate: loss: unknown name 'dise'; allowed: bce, "),
        ("train --models.fpn.augment none_", "models.fpn: augment: unknown name 'none_'; allowed: none, flips, "),
        (
            "train --models.fpn.options {x: 1}",
            "models.fpn: net FPN on encoder tu-test_resnet: refused: ResNet.__init__",
        ),
        ("train --models.gate.weights w.pt", "models.gate: weights: no file w.pt"),
        ("folds --split.n_folds 2", "folds/tiny.csv has 3 folds, split.n_folds is 2; `steel folds CONFIG --force` ov"),
        ("folds --split.seed 5", "folds/tiny.csv was made with seed 0, split.seed is 5; `steel folds CONFIG --force"),
        ("folds --split.known_duplicates d.csv", "folds/tiny.csv was made with known_duplicates None, split.known_d"),
        (
            "synth --force --data.raw elsewhere",
            "data.raw: elsewhere would be overwritten by the synthetic data; set one of",
        ),
        ("predict --images nowhere --out x.csv", "nowhere: no such folder: expected a folder of images"),
        ("predict --images runs --out x.csv", "runs: no images: expected files that end in .jpg, .jpeg, .png"),
    ],
)
@pytest.mark.usefixtures("copied")
def test_a_wrong_name_or_number(args: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = tiny.refused(capsys, *(args.split(" ", 2) if "{" in args else args.split(" ")))
    assert message.startswith(expected), message


@pytest.mark.usefixtures("copied")
def test_a_typo_in_the_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_config(Path(), tiny.YAML.replace("downscale: 4", "downscail: 4", 1))
    expected = "tiny.yaml: unknown key models.fpn.downscail; allowed keys: kind, net, encoder, "
    assert tiny.refused(capsys, "train").startswith(expected)
    tiny.write_config(Path(), tiny.YAML.replace("kind: segmenter", "kind: segmentor"))
    assert "segmentor is not allowed; allowed: segmenter, classifier" in tiny.refused(capsys, "train")
    tiny.write_config(Path(), tiny.YAML.replace("n_folds: 3", "n_folds: 1"))
    assert tiny.refused(capsys, "train") == "split.n_folds: 1 is out of range; allowed: 2..20"


@pytest.mark.parametrize(
    ("args", "missing", "first"),
    [
        ("prepare", "synth", "synth"),
        ("folds", "prepare", "prepare"),
        ("train", "prepare", "prepare"),
        ("oof", "train fpn fold 0", "train"),
        ("oof --model gate --folds 2", "train gate fold 2", "train"),
        ("decide", "oof fpn fold 0", "oof"),
        ("report", "decide", "decide"),
        ("predict", "train fpn fold 0", "train"),
        ("submit", "decide", "decide"),
    ],
)
def test_a_stage_before_its_input(
    args: str, missing: str, first: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_config(tmp_path)
    stage, *options = args.split()
    with tiny.within(tmp_path):
        message = tiny.refused(capsys, stage, *options)
    assert message == f"{stage} needs '{missing}', which is missing: run `steel {first} CONFIG` first"


def test_strips_before_there_is_a_solution(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_config(tmp_path)
    tiny.write_raw(tmp_path / RAW)
    with tiny.within(tmp_path):
        message = tiny.refused(capsys, "predict", "--images", "raw/test_images", "--out", "x.csv")
    assert message == "runs/tiny holds no finished solution: run `./run_all.sh CONFIG`, or the stages up to decide"
