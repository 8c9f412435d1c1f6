"""A finished solution on any folder of strips: the same bytes as the submission, from its stored configuration."""

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tiny

from steel import rle
from steel.__main__ import main
from steel.data.images import read_strip
from steel.kaggle import apply as apply_room
from steel.paths import Paths
from steel.report.overlay import COLOURS

TEST = "data/tiny/raw/test_images"


@pytest.fixture
def here(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """The finished run as the working directory; its name for a folder to write to."""
    with tiny.within(finished):
        yield tmp_path


def apply(*args: str) -> None:
    main(["predict", tiny.CONFIG, *args])


@pytest.fixture(scope="module")
def applied(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with what is found on the test strips, x.csv and pictures, and what was said."""
    folder, said = tmp_path_factory.mktemp("applied"), io.StringIO()
    with tiny.within(finished), redirect_stdout(said):
        apply("--images", TEST, "--out", str(folder / "new/x.csv"), "--overlay", str(folder / "pictures"))
    return folder, said.getvalue()


@pytest.mark.usefixtures("here")
def test_the_test_strips_give_the_submission(applied: tuple[Path, str]) -> None:
    out, overlay = applied[0] / "new/x.csv", applied[0] / "pictures"
    submission = Path("submissions/tiny/submission.csv").read_bytes()
    order = pd.read_csv("data/tiny/raw/sample_submission.csv").ImageId.drop_duplicates()
    assert order.is_monotonic_increasing  # of a folder the strips come sorted
    assert out.read_bytes() == submission
    rows = pd.read_csv(out, keep_default_na=False)
    shown = {name.rsplit("_", 1)[0] for name in rows.ImageId_ClassId[rows.EncodedPixels != ""]}
    text = f"predict: 6 strips, {len(shown)} with a defect shown, written to {out}\n"
    assert text in applied[1]
    assert "as the run stored it" not in applied[1]
    assert sorted(path.name for path in overlay.iterdir()) == sorted(f"{Path(i).stem}.png" for i in order)
    for image_id in order:
        picture = cv2.imread(str(overlay / f"{Path(image_id).stem}.png"))
        assert picture is not None
        assert picture.shape == (256, 1600, 3)
        coloured = (picture.max(2) != picture.min(2)).any()
        assert coloured == (image_id in shown)
        strip = read_strip(Path(TEST) / image_id)
        plain = picture.max(2) == picture.min(2)
        assert (picture[..., 0][plain] == strip[plain]).all()


def test_an_outline_has_the_colour_of_its_class(applied: tuple[Path, str]) -> None:
    folder, _ = applied
    rows = pd.read_csv(folder / "new/x.csv", keep_default_na=False)
    for name, text in rows[rows.EncodedPixels != ""].itertuples(index=False, name=None):
        image_id, class_id = name.rsplit("_", 1)
        picture = cv2.imread(str(folder / "pictures" / f"{Path(image_id).stem}.png"))
        assert picture is not None
        inked = (picture == COLOURS[int(class_id) - 1][::-1]).all(2)
        edge = cv2.dilate(rle.decode(text).copy(), np.ones((5, 5), np.uint8))
        assert inked.any()
        assert not (inked & (edge == 0)).any()


def test_a_strip_does_not_depend_on_its_company(here: Path) -> None:
    names = sorted(path.name for path in Path(TEST).iterdir())
    (here / "some").mkdir()
    for name in (names[4], names[1]):
        tiny.link(Path(TEST, name), here / "some" / name)
    apply("--images", str(here / "some"), "--out", str(here / "x.csv"))
    whole = Path("submissions/tiny/submission.csv").read_text().splitlines()
    expected = [line for line in whole if line.startswith(("ImageId", names[1], names[4]))]
    assert (here / "x.csv").read_text().splitlines() == expected


def test_the_stored_configuration_counts(here: Path) -> None:
    """A YAML that has changed since, or overrides not repeated, make no difference."""
    tiny.write_config(here, tiny.YAML.replace("downscale: 4", "downscale: 2").replace("[identity, hflip]", "[vflip]"))
    out = str(here / "x.csv")
    main(["predict", str(here / tiny.CONFIG), "--images", TEST, "--out", out])
    assert (here / "x.csv").read_bytes() == Path("submissions/tiny/submission.csv").read_bytes()


@pytest.mark.usefixtures("here")
def test_the_machine_is_that_of_the_command() -> None:
    stored = tiny.solution()
    found, _ = apply_room.finished(Paths(tiny.solution("--machine.workers", "3", "--predict.batch", "1")))
    assert (found.machine.workers, stored.machine.workers) == (3, 0)
    assert replace(found, machine=stored.machine) == stored


def test_strips_of_one_name_and_two_suffixes_get_a_picture_each(here: Path) -> None:
    (here / "in").mkdir()
    image = np.full((256, 1600), 80, np.uint8)
    tiny.write_strip(here / "in/a.jpg", image)
    (here / "in/a.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    apply("--images", str(here / "in"), "--out", str(here / "x.csv"), "--overlay", str(here / "out"))
    assert len(list((here / "out").iterdir())) == 2


def test_a_bad_strip_leaves_the_old_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "in").mkdir()
    tiny.write_strip(here / "in/a.jpg", np.full((256, 1600), 80, np.uint8))
    tiny.write_strip(here / "in/b.jpg", np.full((128, 800), 80, np.uint8))
    (here / "x.csv").write_text("old")
    message = tiny.fault(capsys, "predict", tiny.CONFIG, "--images", str(here / "in"), "--out", str(here / "x.csv"))
    assert message == f"{here / 'in/b.jpg'}: 128x800 px: expected 256x1600 (height x width)"
    assert (here / "x.csv").read_text() == "old"
    assert sorted(path.name for path in here.iterdir()) == ["in", "x.csv"]


def test_all_bad_strips_are_named_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "in").mkdir()
    tiny.write_strip(here / "in/a.jpg", np.full((256, 1600), 80, np.uint8))
    for i in range(10):
        tiny.write_strip(here / f"in/b{i}.jpg", np.full((128, 800), 80, np.uint8))
    message = tiny.fault(capsys, "predict", tiny.CONFIG, "--images", str(here / "in"), "--out", str(here / "x.csv"))
    told = "; ".join(f"{here}/in/b{i}.jpg: 128x800 px: expected 256x1600 (height x width)" for i in range(8))
    assert message == f"{told}; and 2 more; --executor ray lists such files and goes on"


@pytest.mark.parametrize("name", ["a,b.jpg", 'a"b.jpg', "a\nb.jpg"])
def test_names_that_the_form_cannot_hold(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "in").mkdir()
    tiny.write_strip(here / "in" / name, np.full((256, 1600), 80, np.uint8))
    message = tiny.fault(capsys, "predict", tiny.CONFIG, "--images", str(here / "in"), "--out", str(here / "x.csv"))
    assert message.startswith(f"{here}/in: the name {name!r} has a comma, a quote or a line break")


@pytest.mark.parametrize("option", ["--out", "--overlay"])
def test_where_nothing_can_be_written_nothing_is_predicted(
    option: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply_room, "finished", tiny)  # which cannot be called
    (here / "file").touch()
    places = {"--out": here / "x.csv", "--overlay": here / "pictures"} | {option: here / "file/x"}
    given = [str(word) for pair in places.items() for word in pair]
    message = tiny.fault(capsys, "predict", tiny.CONFIG, "--images", TEST, *given)
    assert re.fullmatch(rf"{option} {here}/file/x.*: cannot be written there \(a file stands where .*\)", message)


def test_out_must_be_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        apply("--images", TEST, "--out", str(here))
    wanted = "a file such as found.csv is wanted (a folder with --executor ray)"
    assert capsys.readouterr().err == f"steel: --out {here} is a folder; {wanted}\n"
    assert here.is_dir()


def test_pictures_never_replace_the_strips(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tiny.contents(Path(TEST))
    with pytest.raises(SystemExit):
        apply("--images", TEST, "--out", str(here / "x.csv"), "--overlay", TEST)
    assert "is the folder of the strips" in capsys.readouterr().err
    assert tiny.contents(Path(TEST)) == before


def test_parts_of_a_solution_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        apply("--images", TEST, "--out", str(here / "x.csv"), "--folds", "0")
    assert "leave out --model and --folds" in capsys.readouterr().err


def test_weights_newer_than_the_rules_are_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.copy(finished, tmp_path)
    with tiny.within(tmp_path):
        record = Path("runs/tiny/fpn/fold1/stage.json")
        record.write_text(re.sub(r'("outputs": \{\s*"[^"]+": )"[^"]+"', r'\1"other"', record.read_text()))
        with pytest.raises(SystemExit):
            apply("--images", TEST, "--out", "x.csv")
        assert "runs/tiny/fpn/fold1 was trained anew since the rules were tuned" in capsys.readouterr().err
        assert not Path("x.csv").exists()


def test_an_override_of_what_the_run_stored_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = here / "x.csv"
    apply("--images", TEST, "--out", str(out), "--predict.tta", "[identity]", "--data.name", "other")
    told = "predict: predict as the run stored it in runs/tiny/decide/solution.json, not as given\n"
    assert told in capsys.readouterr().out
    assert out.read_bytes() == Path("submissions/tiny/submission.csv").read_bytes()
