from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rag_service import config
from rag_service.config import Settings
from rag_service.errors import InvalidConfiguration

SECRET = "postgresql+psycopg://youju:hunter2@db/youju"


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "youju.toml"
    path.write_text(text, "utf-8")
    return path


def faults(**given: object) -> list[str]:
    with pytest.raises(InvalidConfiguration) as raised:
        config.load(**given)  # type: ignore[arg-type]
    found = raised.value.data["faults"]
    assert isinstance(found, list)
    return found


def test_without_anything_the_defaults_hold() -> None:
    settings = config.load()
    assert (settings.data, settings.workers, settings.generator) == (Path("./youju-data"), 1, "extractive")
    assert (settings.max_upload_bytes, settings.max_question_chars) == (100_000_000, 8_000)
    assert settings.url == f"sqlite:///{Path('youju-data').resolve() / 'youju.sqlite'}"


def test_the_command_line_beats_the_environment_beats_a_secret_file_beats_the_config_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "workers"
    secret.write_text("3\n")
    path = toml(tmp_path, "workers = 2")
    assert config.load(path).workers == 2
    monkeypatch.setenv("YOUJU_WORKERS_FILE", str(secret))
    assert config.load(path).workers == 3
    monkeypatch.setenv("YOUJU_WORKERS", "4")
    assert config.load(path).workers == 4
    assert config.load(path, workers=5).workers == 5
    assert config.load(path, workers=None).workers == 4


def test_names_in_the_config_file_may_carry_the_prefix(tmp_path: Path) -> None:
    assert config.load(toml(tmp_path, "YOUJU_WORKERS = 2\nlease_seconds = 5")).lease_seconds == 5.0


def test_an_empty_variable_is_one_that_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`compose.yaml` passes variables on that nobody set."""
    monkeypatch.setenv("YOUJU_WORKERS", "")
    assert config.load().workers == 1
    assert config.load(toml(tmp_path, "workers = 2")).workers == 2


def test_every_fault_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOUJU_WORKERS", "many")
    monkeypatch.setenv("YOUJU_WORKRES", "2")
    monkeypatch.setenv("YOUJU_GENERATOR", "oracle")
    monkeypatch.setenv("YOUJU_DATABASE_URL_FILE", str(tmp_path / "nowhere"))
    found = faults(config=toml(tmp_path, "no_such_name = 1\nmax_question_chars = 0"))
    for name in ("workers", "YOUJU_WORKRES", "generator", "YOUJU_DATABASE_URL_FILE", "no_such_name", "max_question"):
        assert sum(name in fault for fault in found) == 1, found
    assert len(found) == 6


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"generator": "openai"}, "generator_url"),
        ({"generator": "transformers", "window_tokens": 1_024, "reply_tokens": 900}, "reply_tokens"),
        ({"rewriting": "generator"}, "rewriting"),
        ({"generator_url": "127.0.0.1:8001"}, "generator_url"),
        ({"index": "faiss-tpu"}, "index"),
        ({"spacing": "wide"}, "spacing"),
        ({"generator_fallback": "oracle"}, "generator_fallback"),
        ({"generator_quantization": "3bit"}, "generator_quantization"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_together_are_a_fault(given: dict[str, object], told: str) -> None:
    assert told in " ".join(faults(**given))


def test_a_generators_key_is_a_secret_and_may_lie_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("sk-hunter2\n")
    monkeypatch.setenv("YOUJU_GENERATOR_API_KEY_FILE", str(tmp_path / "key"))
    settings = config.load()

    assert settings.generator_api_key is not None
    assert settings.generator_api_key.get_secret_value() == "sk-hunter2"
    assert "hunter2" not in repr(settings) + str(config.shown(settings))


@pytest.mark.parametrize("text", ["workers = ", "= 2", "workers = 2\nworkers = 3"])
def test_a_broken_config_file_is_a_fault(tmp_path: Path, text: str) -> None:
    [found] = faults(config=toml(tmp_path, text))
    assert "youju.toml" in found


def test_a_missing_or_undecodable_config_file_is_a_fault(tmp_path: Path) -> None:
    assert "nowhere" in faults(config=tmp_path / "nowhere")[0]
    path = tmp_path / "youju.toml"
    path.write_bytes(b"workers = \xff")
    assert "youju.toml" in faults(config=path)[0]


@pytest.mark.parametrize("source", ["environment", "file", "override"])
def test_secrets_are_never_printed(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    if source == "environment":
        monkeypatch.setenv("YOUJU_DATABASE_URL", SECRET)
    elif source == "file":
        (tmp_path / "url").write_text(SECRET + "\n")
        monkeypatch.setenv("YOUJU_DATABASE_URL_FILE", str(tmp_path / "url"))
    else:
        given["database_url"] = SECRET
    settings = config.load(**given)  # type: ignore[arg-type]
    assert settings.url == SECRET
    assert config.shown(settings)["database_url"] == "***"
    for printed in (str(settings), repr(settings), str(config.shown(settings)), settings.model_dump_json()):
        assert "hunter2" not in printed


def test_a_secret_is_not_in_the_report_of_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOUJU_DATABASE_URL", SECRET)
    monkeypatch.setenv("YOUJU_WORKERS", "many")
    assert "hunter2" not in " ".join(faults())


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        config.load().workers = 2  # type: ignore[misc]


def test_what_is_shown_is_every_setting_by_its_name() -> None:
    assert config.shown(config.load()).keys() == Settings.model_fields.keys()


NUMBERS = {
    name: next(m.ge if hasattr(m, "ge") else m.gt for m in field.metadata if hasattr(m, "ge") or hasattr(m, "gt"))
    for name, field in Settings.model_fields.items()
    if field.annotation in (int, float)
}


@given(st.sampled_from(sorted(NUMBERS)), st.integers(-(10**12), 10**12))
def test_no_number_below_its_least_is_ever_in_force(name: str, number: int) -> None:
    with suppress(InvalidConfiguration):
        assert getattr(config.load(**{name: number}), name) == number >= NUMBERS[name]
