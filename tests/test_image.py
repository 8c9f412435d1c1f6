"""Kaggle's image: what is shipped beside it is what is installed here, file for file."""

import base64
import hashlib
import io
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from steel.errors import UserError
from steel.kaggle.image import IMAGE, SHIPPED, wheel


@pytest.mark.parametrize("name", SHIPPED)
def test_a_wheel_is_what_is_installed(name: str, tmp_path: Path) -> None:
    file, data = wheel(name)
    assert wheel(name) == (file, data)
    zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path)
    (info,) = tmp_path.glob("*.dist-info")
    found = PathDistribution(info)
    assert file == f"{name}-{found.version}-py3-none-any.whl"
    assert found.files is not None and len(found.files) > 20
    for one in found.files:
        if one.hash is not None:
            digest = hashlib.new(one.hash.mode, (tmp_path / one).read_bytes()).digest()
            assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == one.hash.value
    present = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert present == {str(one) for one in found.files}


def test_compiled_packages_are_no_wheels_of_ours() -> None:
    with pytest.raises(UserError, match=r"numpy .* is no wheel of pure Python"):
        wheel("numpy")
    assert not set(SHIPPED) & set(IMAGE)
