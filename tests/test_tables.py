"""Names in tables, and code from outside."""

from pathlib import Path

import pytest

from steel.errors import UserError
from steel.tables import choose

TABLE = {"Unet": 1, "FPN": 2}


def test_a_name_of_the_table() -> None:
    assert choose(TABLE, "FPN", "net") == 2


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(UserError) as error:
        choose(TABLE, "Unett", "models.a.net")
    assert str(error.value) == "models.a.net: unknown name 'Unett'; allowed: Unet, FPN, or package.module:function"


def test_a_function_of_another_package() -> None:
    import math

    assert choose(TABLE, "math:sqrt", "net") is math.sqrt


def test_a_module_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_nets.py").write_text("def tiny():\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    assert choose({}, "my_own_nets:tiny", "net")() == 7


@pytest.mark.parametrize("name", ["no_such_module:f", "math:no_such", ":f", ".x:f", "math:", ":"])
def test_what_cannot_be_imported(name: str) -> None:
    with pytest.raises(UserError, match=rf"^net: cannot import '{name}': "):
        choose(TABLE, name, "net")
