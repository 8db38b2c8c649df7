import subprocess
import sys

import pytest

from tasks.core.store.provenance import collect_provenance, git_state, hardware
from tasks.core.store.redact import redact, redact_argv


def _git(directory, *command):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", directory, *identity, *command], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_git_state_clean_dirty_and_inside_another_checkout(tmp_path):
    assert git_state(tmp_path) == (None, None)
    _git(tmp_path, "init", "-q")
    assert git_state(tmp_path) == (None, None)
    (tmp_path / "a.py").write_text("1")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "one")
    assert git_state(tmp_path) == (_git(tmp_path, "rev-parse", "HEAD"), False)
    (tmp_path / "a.py").write_text("2")
    assert git_state(tmp_path)[1] is True
    inside = tmp_path / "site-packages"
    inside.mkdir()
    assert git_state(inside) == (None, None)


def test_provenance_without_git_and_gpu_tools_still_tells_the_rest(monkeypatch):
    monkeypatch.setenv("PATH", "")
    found = collect_provenance(["r1", "run"])
    assert (found["git_commit"], found["git_dirty"], found["argv"]) == (None, None, ["r1", "run"])
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "pydantic" in found["packages"]


def test_hardware_lists_each_gpu_that_nvidia_smi_shows(tmp_path, monkeypatch):
    from tasks.core.store import provenance

    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771 MiB, 570.1'\necho 'NVIDIA H200, 143771 MiB, 570.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    provenance._gpus.cache_clear()
    try:
        assert hardware()["gpus"] == ["NVIDIA H200, 143771 MiB, 570.1"] * 2
    finally:
        provenance._gpus.cache_clear()
    assert hardware()["num_cpus"] >= 1 and hardware()["mem_gb"] > 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("--hub_token=abcdef123", "--hub_token=[redacted]"),
        ("teacher.api-key: abcdef123", "teacher.api-key: [redacted]"),
        ("Authorization: Bearer abcdef123", "Authorization: Bearer [redacted]"),
        ("postgresql://user:pw@host/db", "postgresql://user:[redacted]@host/db"),
        ("key ghp_abcdefghijklmnop1234", "key [redacted]"),
        ("api_key_env: OPENAI_API_KEY", "api_key_env: OPENAI_API_KEY"),
        ("api_key: $OPENAI_API_KEY", "api_key: $OPENAI_API_KEY"),
        ("max_new_tokens=1024", "max_new_tokens=1024"),
        ("sft.pad_token=<|endoftext|>", "sft.pad_token=<|endoftext|>"),
    ],
)
def test_redact_hides_secrets_and_nothing_else(given, kept):
    assert redact({"text": [given]}) == {"text": [kept]}


def test_redact_argv_hides_the_word_after_a_secret_option():
    assert redact_argv(["--token", "x", "--set", "a=b"]) == ["--token", "[redacted]", "--set", "a=b"]
    assert redact_argv(["--token"]) == ["--token"]


def test_redact_short_or_path_like_variables_do_not_blot_out_text(monkeypatch):
    monkeypatch.setenv("SSH_KEY", "/home/me/.ssh/id_rsa")
    monkeypatch.setenv("MY_TOKEN", "train")
    monkeypatch.setenv("REAL_TOKEN", "0123456789ab")
    assert redact("train /home/me/.ssh/id_rsa 0123456789ab") == "train /home/me/.ssh/id_rsa [redacted]"
