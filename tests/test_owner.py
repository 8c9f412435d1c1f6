"""Whose kernel it is: said, set, told by the token, or by the bundle that stands."""

from pathlib import Path

import pytest
import tiny

from steel.errors import UserError
from steel.kaggle import bundle, client, parts


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
        bundle.owner_name(None, tmp_path)
    (tmp_path / "kaggle.json").write_text('{"username": "anna", "key": "secret"}')
    assert bundle.owner_name(None, tmp_path) == "anna"
    monkeypatch.setenv("KAGGLE_USERNAME", "bert")
    assert bundle.owner_name(None, tmp_path) == "bert"
    assert bundle.owner_name("carl-9", tmp_path) == "carl-9"
    with pytest.raises(UserError, match="--owner: 'a/b' is no Kaggle user name; allowed: letters, digits and -"):
        bundle.owner_name("a/b", tmp_path)


@pytest.mark.usefixtures("no_token")
@pytest.mark.parametrize("line", [("train", tiny.CONFIG, "--model", "gate"), ("bundle", tiny.CONFIG)])
def test_without_a_user_name_it_says_what_to_do_before_all_else(
    line: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where nothing is prepared yet."""
    assert tiny.fault(capsys, "kernel", *line) == (
        "no Kaggle user name is known: give --owner NAME, set KAGGLE_USERNAME, or let your token tell it (Kaggle "
        "login: no token is set: make one at https://www.kaggle.com/settings/api, save it in ~/.kaggle/access_token "
        "and run `chmod 600 ~/.kaggle/access_token`)"
    )


@pytest.mark.usefixtures("no_token")
def test_the_owner_is_the_one_of_the_bundle_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Kaggle is asked whose the token is, but after all that says so here."""
    asked: list[str] = []
    monkeypatch.setattr(client, "open_api", lambda: asked.append("Kaggle"))
    monkeypatch.setattr(client, "user_of", lambda _api: "dora")
    folder = Path("kernels/tiny")
    assert bundle.owner_name(None, folder) == "dora" and asked == ["Kaggle"]
    parts.write(folder, {"kernel-metadata.json": parts.as_json(parts.kernel_metadata("anna/steel-tiny", "anna/data"))})
    assert bundle.owner_name(None, folder) == "anna" and asked == ["Kaggle"]
    tiny.write(Path("kaggle.json"), '{"username": "bert", "key": "secret"}')
    assert bundle.owner_name(None, folder) == "bert"
    monkeypatch.setenv("KAGGLE_USERNAME", "carl")
    assert bundle.owner_name(None, folder) == "carl"
    assert bundle.owner_name("emil", folder) == "emil"
