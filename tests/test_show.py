"""`steel show`: a picture, or one line."""

from pathlib import Path

import cv2
import pytest
import tiny

from steel.__main__ import main


@pytest.mark.usefixtures("copied")
def test_a_sheet_of_an_augmentation(capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "augment", tiny.CONFIG, "--recipe", "heavy", "--versions", "2", "--out", "sheet.png"])
    assert "show: sheet.png: each row a crop as it is, then 2 versions of it under heavy" in capsys.readouterr().out
    picture = cv2.imread("sheet.png")
    assert picture is not None
    assert picture.shape == (5 * 256 + 4 * 4, 3 * 448 + 2 * 4, 3)  # four classes and a clean strip, gaps of 4 px
    before = Path("sheet.png").read_bytes()
    main(["show", "augment", tiny.CONFIG, "--recipe", "heavy", "--versions", "2", "--out", "sheet.png"])
    assert Path("sheet.png").read_bytes() == before


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("augment tiny.yaml --recipe strong", "augment: unknown name 'strong'; allowed: none, flips, light, "),
        ("augment tiny.yaml --out sheet.jpg", "--out: sheet.jpg is not a PNG; allowed: a name that ends in .png"),
        ("augment tiny.yaml --data.name other", "show needs the cache data/other/cache, which is missing: run `st"),
        ("augment tiny.yaml --versions 0", "sheet: 5 strips and 0 versions; allowed: at least one of each"),
        ("augment tiny.yaml --seed -4", "--seed: -4 is out of range; allowed: >= 0"),
        ("nets tiny.yaml", "argument what: invalid choice: 'nets'"),
        ("augment tiny.yaml --recipee x", "unknown option --recipee"),
    ],
)
def test_one_line_on_what_is_wrong(args: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tiny.fault(capsys, "show", *args.split()).startswith(message)
