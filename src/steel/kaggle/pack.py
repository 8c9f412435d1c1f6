"""Code to take along: the modules that some modules need, and archives whose bytes depend on their content alone."""

import ast
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import steel

DAY_ONE = (1980, 1, 1, 0, 0, 0)  # the first that a zip knows: archives must not depend on the hour


def needed_by(names: Iterable[str]) -> dict[str, Path]:
    """Source files of some modules and of all that they import, also inside functions: name in an archive to file.

    Followed are this package and modules of the working directory, where nets of a user's own lie; libraries are not.
    """
    found: dict[str, Path] = {}
    waiting = list(names)
    while waiting:
        for name, path in _files_of(waiting.pop()).items():
            if name not in found:
                found[name] = path
                waiting.extend(_imported(path))
    return dict(sorted(found.items()))


def zipped(content: Mapping[str, bytes]) -> bytes:
    """A zip archive of some files by name."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, value in content.items():
            entry = zipfile.ZipInfo(name, DAY_ONE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, value, zipfile.ZIP_DEFLATED)
    return data.getvalue()


def _files_of(module: str) -> dict[str, Path]:
    """Files of a module and of the packages that it lies in; none of a library's."""
    parts = module.split(".")
    root = Path(steel.__file__).parents[1] if parts[0] == steel.__name__ else Path.cwd()
    names = ["/".join([*parts[:n], "__init__.py"]) for n in range(1, len(parts) + 1)]
    names.append("/".join(parts) + ".py")
    return {name: root / name for name in names if (root / name).is_file()}


def _imported(path: Path) -> Iterator[str]:
    """Modules that a file imports, and names that may be modules: ``from steel import rle``."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
