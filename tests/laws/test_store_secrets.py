"""Law: no token gets into a record or a run file, whether it came by environment, command line, recipe or metrics."""

import pytest
from store_toy import ToyConfig, build, toy_identity, toy_process, toy_run

from tasks.core.errors import UserError
from tasks.core.stage import Stage, StageConfig
from tasks.core.store import Store, identity_of

TOKEN = "hf_" + "AbCdEfGh" * 4
PLAIN = "correct-horse-battery-staple"


class TeacherConfig(StageConfig):
    teacher: dict[str, str]


def test_record_token_in_the_environment_is_nowhere_in_the_store(tmp_path):
    process = toy_process(tmp_path, ToyConfig(seed=0), HF_TOKEN=TOKEN, MY_SERVICE_PASSWORD=PLAIN, COLOUR="mauve-env")
    assert process.wait(timeout=20) == 0
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(texts) == 4
    assert not any(secret.encode() in text for secret in (TOKEN, PLAIN, "mauve-env") for text in texts)


def test_record_token_on_the_command_line_is_redacted(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["r1", "run", f"--token={TOKEN}", "--api-key", PLAIN, "--set", "sft.seed=1"])
    hit, _ = build(Store(tmp_path), ToyConfig(seed=0))
    expected = ["r1", "run", "--token=[redacted]", "--api-key", "[redacted]", "--set", "sft.seed=1"]
    assert hit.record.provenance.argv == expected


def test_record_token_in_the_metrics_is_redacted(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "store_toy.walk", lambda config, out: (out / "metrics.json").write_text(f'{{"url": "{TOKEN}"}}')
    )
    assert build(Store(tmp_path), ToyConfig(seed=0))[0].record.metrics == {"url": "[redacted]"}


def test_identity_token_in_the_config_is_refused_by_key():
    stage = Stage("toy", 1, TeacherConfig, lambda: None)
    with pytest.raises(UserError, match=r"config\.teacher\.url holds what looks like a secret.*HF_TOKEN"):
        identity_of(stage, TeacherConfig(teacher={"url": f"https://{TOKEN}@hub"}), {})


def test_identity_value_of_a_secret_variable_is_refused(monkeypatch):
    monkeypatch.setenv("TEACHER_API_KEY", PLAIN)
    stage = Stage("toy", 1, TeacherConfig, lambda: None)
    with pytest.raises(UserError, match=r"config\.teacher\.key holds what looks like a secret"):
        identity_of(stage, TeacherConfig(teacher={"key": PLAIN}), {})
    assert toy_identity(ToyConfig(seed=0))["config"]["seed"] == 0


def test_run_file_secrets_are_redacted_and_the_rest_is_kept(tmp_path):
    store = Store(tmp_path)
    overrides = [f"teacher.api_key={PLAIN}", "grpo.max_steps=4", "sft.eos_token=<|im_end|>"]
    recipe = f"url: https://me:{PLAIN}@host/v1  # one token: each integer\n"
    toy_run(store, "run-1", {}, argv=["r1", "--token", PLAIN], overrides=overrides, recipe_text=recipe)
    read = store.read_run("run-1")
    assert read.argv == ["r1", "--token", "[redacted]"]
    assert read.overrides == ["teacher.api_key=[redacted]", "grpo.max_steps=4", "sft.eos_token=<|im_end|>"]
    assert read.recipe_text == "url: https://me:[redacted]@host/v1  # one token: each integer\n"
