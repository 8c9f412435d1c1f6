"""Skip, redo and say why; nothing lost on a failure."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from steel import stage
from steel.errors import UserError
from steel.stage import Spec, ensure, look, need, recorded, source_digest


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return Spec("train unet fold 0", tmp_path / "out", {"a": {"b": 1}, "c": [1]}, {"cache": "x"}, ("rle",), {"t": "2"})


def maker(spec: Spec, text: str, made: list[str]) -> Callable[[], dict[Path, str]]:
    """A stage that writes one file and notes that it ran."""

    def make() -> dict[Path, str]:
        made.append(text)
        path = spec.folder / "file"
        path.write_text(text)
        return {path: text}

    return make


def run(spec: Spec, text: str = "one", force: bool = False) -> bool:
    """Whether the stage had anything to do."""
    made: list[str] = []
    ensure(spec, maker(spec, text, made), force)
    return bool(made)


def test_made_once_and_skipped_when_equal(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(look(spec)) == "missing"
    assert run(spec)
    assert str(look(spec)) == "done"
    assert not run(replace(spec))
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "train unet fold 0: new"
    assert second.startswith("train unet fold 0: done in ")
    assert third == "train unet fold 0: up to date"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"config": {"a": {"b": 2}, "c": [1]}}, "config changed: a.b: 1 -> 2"),
        ({"config": {"a": {"b": 1}, "c": [1, 2]}}, "config changed: c: [1] -> [1, 2]"),
        ({"config": {"a": {}, "c": [1]}}, "config changed: a.b: 1 -> None"),
        ({"config": {"a": {"b": 1}, "c": [1], "d": 0}}, "config changed: d: None -> 0"),
        ({"inputs": {"cache": "y"}}, "input changed: cache"),
        ({"code": ("metrics",)}, "the code changed"),
        ({"env": {"t": "3"}}, "the environment changed: t: 2 -> 3"),
    ],
)
def test_a_change_is_named_and_redone(spec: Spec, change: dict, why: str) -> None:
    run(spec)
    changed = replace(spec, **change)
    assert str(look(changed)) == f"stale ({why})"
    assert run(changed, "two")
    assert str(look(changed)) == "done"


def test_a_key_that_came_since_and_is_null_changes_nothing(spec: Spec) -> None:
    run(spec)
    assert str(look(replace(spec, config={**spec.config, "d": None}))) == "done"


@pytest.mark.parametrize(
    ("change", "why"), [({"code": ()}, "the code changed"), ({"env": {}}, "the environment changed: t: 2 -> None")]
)
def test_what_is_dear_is_kept_with_a_warning(
    spec: Spec, change: dict, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = replace(spec, keep=True)
    run(spec)
    changed = replace(spec, **change)
    assert str(look(changed)) == f"kept ({why})"
    assert look(changed).usable
    need(changed, "oof")
    assert not run(changed)
    assert f"up to date; kept, though {why} (--force redoes it)" in capsys.readouterr().out
    assert look(replace(changed, inputs={})).kind == "stale"  # what it is made from does count


def test_a_tuple_is_the_list_that_json_makes_of_it(spec: Spec) -> None:
    spec = replace(spec, config={"folds": (0, 1)})
    run(spec)
    assert look(spec).kind == "done"


def test_force_redoes(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    run(spec)
    assert run(spec, "two", force=True)
    assert "train unet fold 0: forced\n" in capsys.readouterr().out


def test_an_output_that_is_gone_or_of_another_size_is_stale(spec: Spec) -> None:
    run(spec)
    file = spec.folder / "file"
    file.write_text("longer than before")
    assert str(look(spec)) == f"stale ({file} is gone or was changed)"
    file.unlink()
    assert str(look(spec)) == f"stale ({file} is gone or was changed)"
    assert run(spec)


def test_a_partial_file_is_an_interrupted_run(spec: Spec) -> None:
    spec = replace(spec, partial=spec.folder / "last.pt")
    assert look(spec).kind == "missing"
    spec.folder.mkdir()
    (spec.folder / "last.pt").touch()
    assert str(look(spec)) == "interrupted (continues where it stopped)"
    assert not look(spec).usable


def test_a_forced_run_starts_from_the_beginning_and_continues_where_it_was_interrupted(spec: Spec) -> None:
    spec = replace(spec, partial=spec.folder / "last.pt")
    found = []

    def interrupted() -> dict[Path, str]:
        found.append((spec.folder / "last.pt").exists())
        (spec.folder / "last.pt").touch()
        raise KeyboardInterrupt

    for made_before in (False, True):
        if made_before:
            run(spec)
            (spec.folder / "last.pt").touch()  # left over: the run was killed after its record was written
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                ensure(spec, interrupted, force=True)
    assert found == [False, False, False, True]
    assert str(look(spec)) == "interrupted (continues where it stopped)"
    assert look(replace(spec, config={})).kind == "stale"  # another configuration has begun nothing


def test_an_interrupted_run_of_another_configuration_leaves_the_old_one_standing(spec: Spec) -> None:
    spec = replace(spec, partial=spec.folder / "last.pt")
    run(spec)

    def interrupted() -> dict[Path, str]:
        (spec.folder / "last.pt").touch()
        raise KeyboardInterrupt

    other = replace(spec, config={})
    with pytest.raises(KeyboardInterrupt):
        ensure(other, interrupted)
    assert look(spec).kind == "done"
    assert look(other).kind == "interrupted"


def test_a_failure_leaves_record_and_files(spec: Spec) -> None:
    run(spec)
    before = {path: path.read_bytes() for path in spec.folder.iterdir()}

    def fail() -> dict[Path, str]:
        raise UserError("bad label")

    changed = replace(spec, config={})
    with pytest.raises(UserError, match="bad label"):
        ensure(changed, fail)
    assert {path: path.read_bytes() for path in before} == before
    assert look(spec).kind == "done"  # with the old configuration, it still stands
    assert look(changed).kind == "stale"


def test_a_failure_after_a_replacement_does_not_pass_for_the_old_output(spec: Spec) -> None:
    run(spec)

    def half() -> dict[Path, str]:
        (spec.folder / "file").write_text("two")  # of the same size as "one"
        raise KeyboardInterrupt

    def none() -> dict[Path, str]:
        raise KeyboardInterrupt

    for make in (half, none):  # the second failure must not make the replaced file look old
        with pytest.raises(KeyboardInterrupt):
            ensure(replace(spec, config={}), make)
        time.sleep(0.02)
    assert str(look(spec)) == f"stale ({spec.folder / 'file'} was replaced by a run that did not finish)"
    assert run(spec)
    assert look(spec).kind == "done"


def test_need_names_the_stage_to_run(spec: Spec) -> None:
    with pytest.raises(UserError) as error:
        need(spec, "oof")
    assert str(error.value) == "oof needs 'train unet fold 0', which is missing: run `steel train CONFIG` first"
    run(spec)
    need(spec, "oof")


def test_recorded_follows_the_content(spec: Spec) -> None:
    assert recorded(spec.folder) == "missing"
    run(spec)
    first = recorded(spec.folder)
    assert recorded(spec.folder, "file") == first
    assert recorded(spec.folder, "other") != first
    run(replace(spec, config={}), "one")
    assert recorded(spec.folder) == first  # made anew, but alike
    run(spec, "two")
    assert recorded(spec.folder) != first


def test_key_depends_on_config_and_inputs_only(spec: Spec) -> None:
    assert replace(spec, code=(), env={}).key == spec.key
    assert replace(spec, config={}).key != spec.key
    assert replace(spec, inputs={}).key != spec.key


def test_source_digest_of_modules_and_rooms() -> None:
    assert source_digest(("rle", "metrics")) == source_digest(("metrics", "rle"))
    assert source_digest(("rle",)) != source_digest(("metrics",))
    assert source_digest(("decide",)) != source_digest(("decide/rules",))
    with pytest.raises(FileNotFoundError):
        source_digest(("no_such_module",))


def test_a_look_of_another_process_is_no_obstacle(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    spec.folder.mkdir()
    (spec.folder / stage.LOCK).touch()
    taken, refused = stage._taken, iter([True, True, False])
    monkeypatch.setattr(stage, "_taken", lambda lock: not next(refused) and taken(lock))
    assert run(spec)


def test_the_record_can_be_read_by_a_person(spec: Spec) -> None:
    run(spec)
    record = json.loads((spec.folder / "stage.json").read_text())
    file = str(spec.folder / "file")
    assert record["stage"] == "train unet fold 0"
    assert record["config"] == {"a": {"b": 1}, "c": [1]}
    assert (record["sizes"], record["outputs"]) == ({file: 3}, {file: "one"})


def test_a_kill_after_the_record_was_written_undoes_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out.txt"

    def make() -> dict[Path, str]:
        output.write_text("x")
        return {output: "x"}

    spec = stage.Spec("train a fold 0", tmp_path, {}, {}, ())
    stage.ensure(spec, make)
    begun, record = tmp_path / stage.BEGUN, tmp_path / stage.RECORD
    begun.touch()
    moment = output.stat().st_mtime_ns
    os.utime(begun, ns=(moment - 1, moment - 1))
    os.utime(record, ns=(moment + 1, moment + 1))
    assert stage.look(spec).kind == "done"


def test_keep_env_forgives_another_machine_but_not_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out.txt"
    output.write_text("x")

    def spec(threads: str) -> stage.Spec:
        return stage.Spec("oof a fold 0", tmp_path, {}, {}, ("rle",), {"threads": threads}, keep_env=True)

    stage.ensure(spec("1"), lambda: {output: "x"})
    assert stage.look(spec("2")).kind == "kept"
    monkeypatch.setattr(stage, "source_digest", lambda _rooms: "other")
    assert stage.look(spec("1")).kind == "stale"


def test_progress_goes_once_the_record_stands(tmp_path: Path) -> None:
    partial = tmp_path / "last.pt"

    def make() -> dict[Path, str]:
        partial.write_text("half")
        return {}

    stage.ensure(stage.Spec("train a fold 0", tmp_path, {}, {}, (), partial=partial), make)
    assert not partial.exists()
    assert (tmp_path / stage.RECORD).exists()
