"""One clear line for whatever is wrong in the YAML or on the command line."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from steel import cli
from steel.cli import Options, parse
from steel.config import Phase, RayConfig, Solution, SynthConfig
from steel.errors import UserError

YAML = """
name: x
data: {name: small, synth: {n_train: 20}}
split: {n_folds: 3}
models:
  unet: {encoder: resnet18, phases: [{epochs: 3, lr: 1e-3}, {width: 512}], weight_decay: 1e-2}
  gate: {kind: classifier, net: resnet18}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    path = Path("configs/x.yaml")
    path.write_text(YAML)
    return str(path)


def write(text: str) -> str:
    Path("configs/bad.yaml").write_text(text)
    return "configs/bad.yaml"


def message(stage: str, *args: str) -> str:
    """What the user is told; it must be one line."""
    with pytest.raises(UserError) as error:
        parse(stage, "", list(args))
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def solution(config: str, *args: str, stage: str = "status") -> Solution:
    return parse(stage, "", [config, *args])[0]


def test_a_yaml_and_its_defaults(config: str) -> None:
    found, options = parse("status", "", [config])
    assert options == Options()
    assert list(found.models) == ["unet", "gate"]
    assert found.models["unet"].phases == [Phase(epochs=3, lr=0.001), Phase(width=512)]
    assert (found.models["unet"].weight_decay, found.models["gate"].kind) == (0.01, "classifier")
    assert found.data.synth == SynthConfig(20, 40, 0)
    assert found.split.n_folds == 3


def test_overrides_reach_one_key_and_leave_the_rest(config: str) -> None:
    args = ["--models.unet.encoder", "resnet34", "--data.raw", "../some dir", "--name=y", "--data.synth.seed", "7"]
    found = solution(config, *args, "--machine.threads", "1", "--predict.tta", "[identity, vflip]")
    before = solution(config)
    assert (found.models["unet"].encoder, found.models["unet"].phases) == ("resnet34", before.models["unet"].phases)
    assert found.models["gate"] == before.models["gate"]
    assert (found.data.raw, found.data.name, found.name) == ("../some dir", "small", "y")
    assert found.data.synth == SynthConfig(20, 40, 7)
    assert (found.machine.threads, found.predict.tta) == (1, ["identity", "vflip"])


def test_the_executor_has_a_short_form_where_there_are_jobs(config: str) -> None:
    for stage in ("train", "oof", "predict"):
        for line in (["--executor", "ray"], ["--executor=ray"], ["--machine.executor", "ray"]):
            assert parse(stage, "", [config, *line])[0].machine.executor == "ray"
    found = solution(config, "--machine.executor", "ray", "--ray.address", "auto", "--ray.gpus_per_job", "0.5")
    assert (found.machine.executor, found.ray) == ("ray", RayConfig("auto", 0.5))
    assert solution(config).machine.executor == "serial"


def test_lists_and_mappings_on_the_line(config: str) -> None:
    found = solution(config, "--models.unet.phases", "[{epochs: 2}]", "--models.unet.loss", "{bce: 1, dice: 0.5}")
    assert found.models["unet"].phases == [Phase(epochs=2)]
    assert found.models["unet"].loss == {"bce": 1.0, "dice": 0.5}
    assert solution(config, "--models.unet.phases+", "{epochs: 2}").models["unet"].phases[2] == Phase(epochs=2)
    options = solution(config, "--models.unet.options", "{decoder_channels: [64, 32], x: null}").models["unet"].options
    assert options == {"decoder_channels": [64, 32], "x": None}
    assert solution(config, "--data.synth", "null").data.synth is None


def test_of_an_option_given_twice_the_last_counts(config: str) -> None:
    """So that a script may append its arguments to those of its caller."""
    assert solution(config, "--split.seed", "1", "--split.seed", "2").split.seed == 2


def test_a_stored_solution_reads_as_it_was(config: str) -> None:
    found = solution(config, "--models.unet.weight_decay", "1e-05", "--models.unet.options", "{a: 1e-07}")
    Path("solution.json").write_text(json.dumps(asdict(found)))
    assert solution("solution.json") == found


def test_synth_has_short_options(config: str) -> None:
    found = solution(config, "--n_train", "30", "--n_test=4", "--seed", "5", stage="synth")
    assert found.data.synth == SynthConfig(30, 4, 5)
    assert message("synth", config, "--n_train", "3") == "data.synth.n_train: 3 is out of range; allowed: >= 10"
    assert message("prepare", config, "--n_train", "30").startswith("unknown option --n_train")


def test_options_of_a_stage(config: str) -> None:
    assert parse("train", "", [config, "--model", "gate", "--fold", "2", "--force"])[1] == Options(True, (2,), "gate")
    assert parse("decide", "", [config, "--folds", "1,0"])[1].folds == (0, 1)
    found = parse("predict", "", [config, "--images", "a", "--out", "b.csv", "--overlay", "c"])[1]
    assert (found.images, found.out, found.overlay) == ("a", Path("b.csv"), Path("c"))


FOLD = "is not a fold; allowed: 0..2, as in"
ON_THE_LINE = [
    ("status --nam y", "unknown option --nam (did you mean --name?); --help lists all"),
    ("status --frobnicate", "unknown option --frobnicate; --help lists all"),
    (
        "status --models.unet.encoderr=x",
        "unknown option --models.unet.encoderr (did you mean --models.unet.encoder?); --help lists all",
    ),
    (
        "status --models.foo.encoder x",
        "unknown option --models.foo.encoder: the solution has no model 'foo'; allowed: unet, gate",
    ),
    ("status --CONFIGS x", "unknown option --CONFIGS; --help lists all"),
    ("status stray", "unexpected 'stray'; after CONFIG come only options, as in --key value"),
    ("status --split.n_folds", "argument --split.n_folds: expected one argument"),
    ("status --split.n_folds x", "split.n_folds: x is not allowed; allowed: a whole number"),
    ("status --split.n_folds 2.5", "split.n_folds: 2.5 is not allowed; allowed: a whole number"),
    ("status --split.n_folds 99", "split.n_folds: 99 is out of range; allowed: 2..20"),
    ("status --data.synth.n_train x", "data.synth.n_train: x is not allowed; allowed: a whole number or null"),
    ("status --models.unet.kind foo", "models.unet.kind: foo is not allowed; allowed: segmenter, classifier"),
    (
        "status --models.unet.weights_partial si",
        "models.unet.weights_partial: si is not allowed; allowed: true or false",
    ),
    ("status --models.unet.loss {bce:x}", "models.unet.loss: {bce:x} is not allowed; allowed: a mapping"),
    ("status --models.unet.phases {epochs: 2}", None),
    ("status --models.unet.phases [3]", "models.unet.phases: 3 is not allowed; allowed: a list of {key: value}"),
    (
        "status --models.unet.phases [{epoks:2}]",
        "unknown key epoks:2 in models.unet.phases; allowed keys: epochs, width, batch, lr, samples, downscale",
    ),
    ("status --data x", "--data alone is no option; its keys are, as in --data.KEY VALUE"),
    ("train --folds 3", f"--folds: '3' {FOLD} --folds 1"),
    ("train --folds 0,x", f"--folds: 'x' {FOLD} --folds 1"),
    ("train --folds 0,", f"--folds: '' {FOLD} --folds 1"),
    ("train --fold -1", None),
    ("train --fold 3", f"--fold: '3' {FOLD} --fold 1"),
    ("train --fold=-1", f"--fold: '-1' {FOLD} --fold 1"),
    ("train --fold ²", f"--fold: '²' {FOLD} --fold 1"),
    ("train --fold 0 --folds 1", "give --fold 0 or --folds 1, not both"),
    ("train --model foo", "--model: the solution has no model 'foo'; allowed: unet, gate"),
    ("train --executor slurm", "machine.executor: slurm is not allowed; allowed: serial, ray"),
    ("decide --executor ray", None),
    ("decide --model unet", None),
    ("predict --images a", "--images DIR and --out FILE.csv go together (--out DIR with --executor ray)"),
    ("predict --out a", "--images DIR and --out FILE.csv go together (--out DIR with --executor ray)"),
    (
        "predict --images a --out b --overlay c --executor ray",
        "--overlay DIR goes with a folder that this program reads: leave it out, or --executor ray",
    ),
    (
        "predict --images a --out b.csv --executor ray",
        "--out b.csv: with --executor ray a folder of this machine is wanted, such as found/",
    ),
    (
        "predict --images s3://a --out b.csv",
        "--images s3://a is an address, which needs --executor ray and --out DIR",
    ),
    ("status --ray.part_strips 0", "ray.part_strips: 0 is out of range; allowed: >= 1"),
    ("predict --overlay a", "--overlay DIR needs --images DIR and --out FILE.csv"),
]


@pytest.mark.parametrize(("line", "expected"), ON_THE_LINE, ids=[line for line, _ in ON_THE_LINE])
def test_a_fault_on_the_line(config: str, line: str, expected: str | None) -> None:
    stage, *args = line.split(" ")
    found = message(stage, config, *args)
    assert expected in (found, None)
    assert "jsonargparse" not in found
    assert "class" not in found.replace("classifier", "").replace("per class", "")


MODEL = "models: {unet: {}}"
TOP = "name, models, data, split, predict, decide, kernel, report, machine, ray"
IN_THE_YAML = {
    "": f"the file must be `key: value` lines, got None; allowed keys: {TOP}",
    "- a\n- b": f"the file must be `key: value` lines, got ['a', 'b']; allowed keys: {TOP}",
    "name: [": "not valid YAML: while parsing a flow node expected the node content, but found '<stream end>' "
    "at line 1, column 8: name: [ ^",
    f"name: !!python/object:os.system x\n{MODEL}": None,
    "name: x": "models: at least one model is needed, as in `models: {unet: {net: Unet}}`",
    "name: x\nmodels: {}": "models: at least one model is needed, as in `models: {unet: {net: Unet}}`",
    "name: x\nmodels: [unet]": "models must be `name: {key: value}` lines, got ['unet']",
    "name: x\nmodels: {1: {}}": "models: 1 cannot name a folder; allowed: letters, digits, - and _",
    "name: x\nmodels: {a.b: {}}": "models: 'a.b' cannot name a folder; allowed: letters, digits, - and _",
    "name: x\nmodels: {unet: {}, unet: {}}": "not valid YAML: key 'unet' appears twice at line 2, column 20: "
    "models: {unet: {}, unet: {}} ^",
    "name: x\nmodels: {a_b: {}, a-b: {}}": "models: 'a-b' and 'a_b' are too alike; rename one",
    f"name: x\nmodles: {{}}\n{MODEL}": f"unknown key modles; allowed keys: {TOP}",
    f"name: x\nforce: true\n{MODEL}": f"unknown key force; allowed keys: {TOP}",
    f"name: x\nsplit: {{n_fold: 3}}\n{MODEL}": "unknown key split.n_fold; allowed keys: n_folds, seed, holdout, "
    "known_duplicates",
    f"name: x\ndata: {{synth: {{n_trian: 3}}}}\n{MODEL}": "unknown key data.synth.n_trian; allowed keys: n_train, "
    "n_test, seed",
    "name: x\nmodels: {unet: {nett: Unet}}": None,
    "name: x\nmodels: {unet: {phases: [{epoks: 3}]}}": "unknown key models.unet.phases[0].epoks; allowed keys: "
    "epochs, width, batch, lr, samples, downscale",
    "name: x\nmodels: {unet: {phases: {epochs: 3}}}": "models.unet.phases must be a list, as in `[{key: value}]`, "
    "got {'epochs': 3}",
    "name: x\nmodels: {unet: {phases: [3]}}": "models.unet.phases[0] must be `key: value` lines, got 3; "
    "allowed keys: epochs, width, batch, lr, samples, downscale",
    f"name: x\ndata:\n{MODEL}": "data must be `key: value` lines, got None; allowed keys: name, raw, synth",
    MODEL: "the key name is missing",
    f"name: 5\n{MODEL}": "name: 5 is not allowed; allowed: text",
    "name: x\nmodels: {unet: {seed: 1.5}}": "models.unet.seed: 1.5 is not allowed; allowed: a whole number",
    "name: x\nmodels: {unet: {seed: true}}": "models.unet.seed: True is not allowed; allowed: a whole number",
    "name: x\nmodels: {unet: {weights: 3}}": "models.unet.weights: 3 is not allowed; allowed: text or null",
    "name: x\nmodels: {unet: {loss: {bce: much}}}": "models.unet.loss: much is not allowed; allowed: a number",
    f"name: x\npredict: {{tta: hflip}}\n{MODEL}": "predict.tta: hflip is not allowed; allowed: a list",
}


@pytest.mark.parametrize("text", IN_THE_YAML)
@pytest.mark.usefixtures("config")
def test_a_fault_in_the_yaml(text: str) -> None:
    found = message("status", write(text))
    expected = IN_THE_YAML[text]
    assert found.startswith("configs/bad.yaml: ")
    assert expected in (found.removeprefix("configs/bad.yaml: "), None)


@pytest.mark.usefixtures("config")
def test_bytes_that_are_no_text() -> None:
    Path("configs/bad.yaml").write_bytes(b"name: \xff\xfe\n")
    assert message("status", "configs/bad.yaml").startswith("configs/bad.yaml: not valid YAML: 'utf-8' codec can't")


def test_no_config(config: str) -> None:
    assert message("status", "configs/y.yaml") == f"no config file configs/y.yaml; there are: {config}"
    assert message("status", "configs") == f"no config file configs; there are: {config}"
    missing = "CONFIG is missing: it comes first, as in `steel oof configs/demo.yaml`"
    assert message("oof") == missing
    assert message("oof", "--force", config) == missing


@pytest.mark.parametrize("name", ["items", "get", "unet-b0", "unet_b0", "keys", "config", "model", "help"])
@pytest.mark.usefixtures("config")
def test_any_model_name_serves(name: str) -> None:
    path = write(f"name: x\nmodels: {{{name}: {{seed: 3}}, other: {{}}}}")
    found = solution(path, f"--models.{name}.encoder", "resnet34", stage="train")
    assert list(found.models) == [name, "other"]
    assert (found.models[name].seed, found.models[name].encoder) == (3, "resnet34")


@pytest.mark.usefixtures("config")
def test_anchors_and_merges() -> None:
    path = write("name: x\nmodels: {a: &a {seed: 1, ema: 0.5}, b: {<<: *a, seed: 2}, c: *a}")
    assert [(m.seed, m.ema) for m in solution(path).models.values()] == [(1, 0.5), (2, 0.5), (1, 0.5)]


def test_the_table_of_parts_is_complete() -> None:
    assert set(cli.PARTS) == set(Solution.__dataclass_fields__) - {"name", "models"}
