"""Whose kernel it is: said, set, told by the token, or by the bundle that stands."""

import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from steel.errors import UserError
from steel.kaggle import client, parts
from steel.kaggle.owner import owner_name


@pytest.fixture
def no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the solution's YAML, and a home, without a token of Kaggle."""
    for name in ("KAGGLE_CONFIG_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client._api_class(), "config", str(tmp_path / ".kaggle" / "kaggle.json"))
    monkeypatch.chdir(tmp_path)
    tiny.write_config(tmp_path)


def test_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAGGLE_CONFIG_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("KAGGLE_USERNAME", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client._api_class(), "config", str(tmp_path / "kaggle.json"))
    with pytest.raises(UserError, match=r"^no Kaggle user name is known: give --owner NAME, set KAGGLE_USERNAME, or"):
        owner_name(None, tmp_path)
    (tmp_path / "kaggle.json").write_text('{"username": "anna", "key": "secret"}')
    assert owner_name(None, tmp_path) == "anna"
    monkeypatch.setenv("KAGGLE_USERNAME", "bert")
    assert owner_name(None, tmp_path) == "bert"
    assert owner_name("carl-9", tmp_path) == "carl-9"
    with pytest.raises(UserError, match="--owner: 'a/b' is no Kaggle user name; allowed: letters, digits and -"):
        owner_name("a/b", tmp_path)


@pytest.mark.usefixtures("no_token")
def test_without_a_user_name_it_says_what_to_do_before_all_else() -> None:
    """Even where nothing is prepared yet; and before the libraries are imported that pack a kernel."""
    code = """
import sys
from steel.__main__ import main
for line in (["bundle", "tiny.yaml"], ["train", "tiny.yaml", "--model", "gate"]):
    try:
        main(["kernel", *line])
    except SystemExit as leaving:
        print(leaving.code)
print(*(name for name in ("torch", "pandas", "cv2", "zarr", "sklearn") if name in sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = (
        "steel: no Kaggle user name is known: give --owner NAME, set KAGGLE_USERNAME, or let your token tell it "
        "(Kaggle login: no token is set: make one at https://www.kaggle.com/settings/api, save it in "
        "~/.kaggle/access_token and run `chmod 600 ~/.kaggle/access_token`)\n"
    )
    assert (run.stdout, run.stderr) == ("2\n2\n\n", told * 2)


@pytest.mark.usefixtures("no_token")
def test_the_owner_is_the_one_of_the_bundle_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Kaggle is asked whose the token is, but after all that says so here."""
    asked: list[str] = []
    monkeypatch.setattr(client, "open_api", lambda: asked.append("Kaggle"))
    monkeypatch.setattr(client, "user_of", lambda _api: "dora")
    folder = Path("kernels/tiny")
    assert owner_name(None, folder) == "dora" and asked == ["Kaggle"]
    parts.write(folder, {"kernel-metadata.json": parts.as_json(parts.kernel_metadata("anna/steel-tiny", "anna/data"))})
    assert owner_name(None, folder) == "anna" and asked == ["Kaggle"]
    tiny.write(Path("kaggle.json"), '{"username": "bert", "key": "secret"}')
    assert owner_name(None, folder) == "bert"
    monkeypatch.setenv("KAGGLE_USERNAME", "carl")
    assert owner_name(None, folder) == "carl"
    assert owner_name("emil", folder) == "emil"
