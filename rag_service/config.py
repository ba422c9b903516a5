"""`Settings`: read once, frozen, every fault reported together, secrets print as `***`.

Sources, strongest first: what the command line says, environment variables `YOUJU_*`, `YOUJU_*_FILE` (a path whose
content is the value), the file named by `--config`, the defaults.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from rag_service.errors import InvalidConfiguration

PREFIX = "YOUJU_"
LEAST_PROMPT_TOKENS = 400
_LONGEST_EMBEDDER = 200
_EMBEDDERS = (
    r"^(use-multilingual|use-multilingual-onnx|sentence-transformers:\S(.*\S)?|openai:https?://[^\s#]+#\S+"
    r"|langchain:[\w.]+:[\w.]+)$"
)


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    data: Path = Field(Path("./youju-data"), description="Folder of the database, the uploads and the index.")
    database_url: SecretStr | None = Field(None, description="SQLite inside the data folder when not given.")
    generator: Literal["extractive", "transformers", "openai"] = Field(
        "extractive", description="Who writes the answer."
    )
    generator_model: str = Field(
        "SUSTech/SUS-Chat-34B", min_length=1, description="Model directory, hub name, or the server's model name."
    )
    generator_url: str | None = Field(
        None, pattern=r"^https?://[^\s]+$", description="OpenAI-compatible server, with its /v1."
    )
    generator_api_key: SecretStr | None = Field(None, description="Sent to that server as a bearer token.")
    generator_fallback: Literal["none", "extractive"] = Field(
        "none", description="Who answers while the generator is down."
    )
    generator_mode: Literal["auto", "solo", "batched"] = Field(
        "auto", description="transformers: one reply with prompt lookup, many at once, or by load."
    )
    generator_dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="transformers: what weights are loaded as."
    )
    generator_quantization: Literal["none", "8bit", "4bit"] = Field(
        "none", description="transformers: bitsandbytes at loading; AWQ and GPTQ models are recognised by themselves."
    )
    generator_queue: int = Field(64, ge=1, description="Replies under way or waiting; one more: 503.")
    generator_send_text: bool = Field(False, description="openai: send the prompt as text, not as token ids.")
    generator_connect_seconds: float = Field(5.0, gt=0, description="openai: until connected.")
    generator_first_token_seconds: float = Field(60.0, gt=0, description="Until the first piece of a reply.")
    generator_between_tokens_seconds: float = Field(20.0, gt=0, description="Between two pieces of a reply.")
    generator_total_seconds: float = Field(300.0, gt=0, description="A whole reply.")
    tokenizer: str = Field("sus-chat-34b", min_length=1, description="The shipped one, or a tokenizer.json.")
    template: str = Field("sus-chat", min_length=1, description="A shipped chat template, or a TOML file.")
    spacing: Literal["card", "healed"] = Field("card", description="How the prompt ends, see the README.")
    window_tokens: int = Field(8_192, ge=512, description="The generator's context window.")
    reply_tokens: int = Field(900, ge=16, description="Kept free of it for the reply.")
    unsupported: Literal["remove", "mark"] = Field("remove", description="What is done to unsupported sentences.")
    rewriting: Literal["rules", "generator", "off"] = Field("rules", description="Who rewrites follow-ups.")
    nli_model: str | None = Field(None, description="A cross-encoder that checks citations, besides the rules.")
    embedder: str = Field(
        "use-multilingual", pattern=_EMBEDDERS, max_length=_LONGEST_EMBEDDER,
        description="Who embeds texts: use-multilingual, use-multilingual-onnx, sentence-transformers:NAME,"
        " openai:URL#MODEL, langchain:MODULE:NAME.",
    )  # fmt: skip
    embedders_offered: str = Field(
        "", description="Further embedders, with blanks between, that callers of the API may choose."
    )
    embedder_api_key: SecretStr | None = Field(None, description="openai: sent to that server as a bearer token.")
    embedder_dimensions: int | None = Field(
        None, ge=1, le=65_536, description="openai: of its vectors; not given, the server is asked at the start."
    )
    embedder_batch_texts: int = Field(32, ge=1, le=2_048, description="openai: most texts of one request.")
    embedder_connect_seconds: float = Field(5.0, gt=0, description="openai: until connected.")
    embedder_seconds: float = Field(30.0, gt=0, description="openai: one request, with its tries.")
    reranker: str = Field(
        "none",
        pattern=r"^(none|cross-encoder:\S(.*\S)?)$",
        description="Who ranks once more: none, cross-encoder:NAME.",
    )
    models: Path | None = Field(None, description="Folder of fetched models; `models` in the data folder if not given.")
    index: Literal["faiss", "faiss-gpu"] = Field("faiss", description="Where vectors are searched.")
    workers: int = Field(1, ge=0, le=64, description="Ingestion workers that `serve` starts.")
    max_upload_bytes: int = Field(100_000_000, ge=1, description="Largest request body.")
    max_question_chars: int = Field(8_000, ge=1, description="Longest question, in characters.")
    max_concurrent_questions: int = Field(256, ge=1, description="Questions under way at once; one more: 503.")
    lease_seconds: float = Field(60.0, gt=0, description="How long a silent worker keeps a document.")
    parse_seconds: float = Field(120.0, gt=0, description="Wall time one document may take to parse.")
    scan_seconds: float = Field(3_600.0, gt=0, description="Wall time one document of pictures may take to read.")
    parse_memory_bytes: int = Field(2_000_000_000, ge=200_000_000, description="Address space of a parse.")
    parse_at_once: int = Field(4, ge=1, le=64, description="Documents of one worker being parsed at once.")
    ocr: Literal["auto", "off"] = Field("auto", description="Read images and scanned pages where [ocr] is installed.")
    archive_entries: int = Field(10_000, ge=1, description="Most files in the ZIP archives of one upload.")
    archive_bytes: int = Field(2_000_000_000, ge=1, description="Most bytes the ZIP archives of one upload inflate to.")
    compact_after_chunks: int = Field(2_000, ge=1, description="Smallest tail that is folded into a new base.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = []
        if self.generator == "openai" and self.generator_url is None:
            faults.append("generator openai needs generator_url, such as http://127.0.0.1:8001/v1")
        if self.generator != "extractive" and self.window_tokens - self.reply_tokens < LEAST_PROMPT_TOKENS:
            faults.append(
                f"window_tokens {self.window_tokens} - reply_tokens {self.reply_tokens} leaves less than"
                f" {LEAST_PROMPT_TOKENS} for instructions, question and passages"
            )
        if self.rewriting == "generator" and self.generator == "extractive":
            faults.append("rewriting by the generator needs one: generator is extractive")
        faults += [
            f"embedders_offered: there is no {n!r}" for n in self.embedders_offered.split() if not is_embedder(n)
        ]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings)

    @property
    def model_folder(self) -> Path:
        """Where fetched models are."""
        return self.models or self.data / "models"

    @property
    def offered(self) -> frozenset[str]:
        """The embedders that callers of the API may choose: other names would have this machine fetch models, ask
        servers or import modules of the caller's choice."""
        return frozenset({"use-multilingual", "use-multilingual-onnx", self.embedder, *self.embedders_offered.split()})

    @property
    def url(self) -> str:
        """The database URL in force."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data.resolve() / 'youju.sqlite'}"


def is_embedder(name: str) -> bool:
    """Whether the setting `embedder` may have this value."""
    return len(name) <= _LONGEST_EMBEDDER and re.fullmatch(_EMBEDDERS, name) is not None


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """The settings in force; raises InvalidConfiguration naming every fault at once."""
    faults: list[str] = []
    lower: dict[str, Any] = {}
    if config is not None:
        lower |= _from_toml(config, faults)
    lower |= _from_secret_files(faults)
    given = {name: value for name, value in overrides.items() if value is not None}
    environment = {name.lower() for name, value in os.environ.items() if value}
    fallback = {n: v for n, v in lower.items() if f"{PREFIX}{n}".lower() not in environment and n not in given}
    faults += [f"{name}: unknown variable" for name in sorted(_unknown_variables())]
    try:
        settings = Settings(**(fallback | given))
    except ValidationError as error:
        faults += [f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors()]
        raise InvalidConfiguration("; ".join(faults), faults=faults) from error
    if faults:
        raise InvalidConfiguration("; ".join(faults), faults=faults)
    return settings


def shown(settings: Settings) -> dict[str, str]:
    """Name to value as text, as `youju config` prints it."""
    rows = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {n: "***" if isinstance(v, SecretStr) else "" if v is None else str(v) for n, v in rows.items()}


def _from_toml(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        faults.append(f"{path}: {error}")
        return {}
    names = {name.lower().removeprefix(PREFIX.lower()): value for name, value in table.items()}
    faults += [f"{path}: unknown name {n!r}" for n in names if n not in Settings.model_fields]
    return {n: v for n, v in names.items() if n in Settings.model_fields}


def _from_secret_files(faults: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for variable, path in os.environ.items():
        name = variable.lower().removeprefix(PREFIX.lower()).removesuffix("_file")
        if not variable.upper().startswith(PREFIX) or not variable.upper().endswith("_FILE"):
            continue
        if name not in Settings.model_fields:
            continue
        try:
            values[name] = Path(path).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{variable}: {error}")
    return values


def _unknown_variables() -> set[str]:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    known |= {f"{name}_FILE" for name in known}
    return {name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known}
