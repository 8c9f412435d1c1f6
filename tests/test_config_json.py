"""A solution read back from JSON is the same, without the parser of the command line."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import tiny

from steel import cli
from steel.config import Phase, Solution
from steel.config_json import from_json

CONFIGS = sorted((tiny.ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_solution_comes_back(path: Path) -> None:
    solution = cli.parse("status", "", [str(path)])[0]
    found = from_json(Solution, json.loads(json.dumps(asdict(solution))))
    assert found == solution
    assert all(isinstance(phase, Phase) for model in found.models.values() for phase in model.phases)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(TypeError, match="nmae"):
        from_json(Solution, {"nmae": "x", "models": {}})


def test_it_needs_no_library() -> None:
    code = "import sys, steel.config_json, steel.config; print({'yaml', 'jsonargparse', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
