"""`--help` of the stages: every key, its default and what is allowed, at any width."""

import re
from pathlib import Path

import pytest

from steel.cli import parse
from steel.stages import STAGES


def test_help_is_the_same_with_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config, pages = str(tmp_path / "x.yaml"), []
    Path(config).write_text("name: x\nmodels: {unet: {}}\n")
    for args in (["--help"], [config, "-h"], [config, "--force", "--help"]):
        with pytest.raises(SystemExit):
            parse("train", "About it.", args)
        pages.append(capsys.readouterr().out)
    assert pages[0] == pages[1] == pages[2]


@pytest.mark.parametrize("stage", STAGES)
def test_help_shows_every_key(stage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as leaving:
        parse(stage, "About it.", ["--help"])
    assert leaving.value.code in (0, None)
    text = capsys.readouterr().out
    assert text.startswith(f"usage: steel {stage} CONFIG [--option value ...]\n\nAbout it.\n")
    assert max(map(len, text.splitlines())) <= 100
    assert "SUPPRESS" not in text
    assert "--CONFIG" not in text
    words = " ".join(text.split())
    assert not re.search(r"\w {2,}\w", "\n".join(line[30:] for line in text.splitlines()))  # as a docstring's indent
    for part in (
        "--force redo what is up to date",
        "--split.n_folds INT Number of folds (2..20). [5]",
        "--predict.tta LIST Views averaged over: identity, hflip, vflip, hvflip; each at most once. [identity, hflip]",
        "--data.synth.n_train INT Training strips to write (>= 10). [160]",
        "--models.NAME.kind segmenter|classifier Segmenters give four",
        "--models.NAME.ema NUMBER Decay of the moving average of the weights, which is what ships "
        "(0 <= ema < 1; 0: the last weights). [0.99]",
        "models.NAME.phases[i].width INT Width of the crops, px (32..1600, a multiple of 32); 1600 trains on whole "
        "strips. [1600]",
    ):
        assert part in words
    for option in ("--fold K", "--model NAME", "--images DIR", "--n_train INT"):
        stages = {"--fold K": ["train"], "--model NAME": ["train", "oof", "predict"], "--images DIR": ["predict"]}
        assert (option in text) == (stage in stages.get(option, ["synth"])), option


def test_help_fits_a_narrow_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(SystemExit):
        parse("train", "About it.", ["--help"])
    assert "--models.NAME.seed" in capsys.readouterr().out
