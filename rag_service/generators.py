"""The models that the settings name besides the embedder, opened: part of the composition root."""

from __future__ import annotations

from typing import Protocol

from rag_service.config import Settings
from rag_service.inference.extras import optional
from rag_service.inference.openai_generator import OpenAIGenerator
from rag_service.inference.reply_limits import Limits
from rag_service.ports import Entailment, Generator, Ready
from rag_service.prompting.tokenizer import PromptTokenizer


class OpenGenerator(Generator, Ready, Protocol):
    def close(self) -> None:
        """Ends what is under way, and its threads. May be called again."""
        ...


def open_generator(settings: Settings, tokenizer: PromptTokenizer) -> OpenGenerator | None:
    """None: answers are extracts. Raises InvalidConfiguration, for a model before its weights are loaded."""
    match settings.generator:
        case "extractive":
            return None
        case "openai":
            return _openai(settings, tokenizer)
        case "transformers":
            return _transformers(settings, tokenizer)


def open_entailment(settings: Settings) -> Entailment | None:
    """The cross-encoder that checks citations besides the rules, if one is named. Raises InvalidConfiguration."""
    if settings.nli_model is None:
        return None
    opened: Entailment = optional("rag_service.inference.nli", "sus-chat").CrossEncoder(settings.nli_model)
    return opened


def _openai(settings: Settings, tokenizer: PromptTokenizer) -> OpenAIGenerator:
    assert settings.generator_url is not None
    key = settings.generator_api_key
    return OpenAIGenerator(
        settings.generator_url,
        settings.generator_model,
        api_key=key.get_secret_value() if key else None,
        queue=settings.generator_queue,
        limits=Limits(
            connect_seconds=settings.generator_connect_seconds,
            first_token_seconds=settings.generator_first_token_seconds,
            between_tokens_seconds=settings.generator_between_tokens_seconds,
            total_seconds=settings.generator_total_seconds,
        ),
        send_text=settings.generator_send_text,
        decode=tokenizer.transcript,
        count=tokenizer.count,
    )


def _transformers(settings: Settings, tokenizer: PromptTokenizer) -> OpenGenerator:
    room = optional("rag_service.inference.transformers_generator", "sus-chat")
    limits = room.TimeLimits(
        first_token_seconds=settings.generator_first_token_seconds,
        between_tokens_seconds=settings.generator_between_tokens_seconds,
        total_seconds=settings.generator_total_seconds,
    )
    opened: OpenGenerator = room.open_generator(
        settings.generator_model,
        prompts=room.Prompts(encode=tokenizer.encode, decode=tokenizer.decode, highest_id=tokenizer.highest_id),
        mode=settings.generator_mode,
        dtype=settings.generator_dtype,
        quantization=settings.generator_quantization,
        window_tokens=settings.window_tokens,
        queue=settings.generator_queue,
        limits=limits,
    )
    return opened
