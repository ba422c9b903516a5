"""The tokenizer of a sentence-transformers model alone, for counting: neither torch nor the weights are loaded."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from rag_service.inference.model_location import locate

_PLACES = (".", "0_Transformer")


class SentenceTokens:
    """Implements `ports.TokenCounter`; safe to share between threads."""

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(tokenizer))
        # A file may have its model's own limit in it: a longer text would be counted short.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def tokens_of(model: str) -> SentenceTokens | None:
    """None for a model whose tokenizer is no `tokenizer.json`. Raises InvalidConfiguration."""
    files = (locate(model) / place / "tokenizer.json" for place in _PLACES)
    return next((SentenceTokens(file) for file in files if file.is_file()), None)
