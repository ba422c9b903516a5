"""The tokenizer prompts are made with: SUS-Chat-34B's (Yi), shipped with the package, or another model's file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from tokenizers import Tokenizer

from rag_service.errors import InvalidConfiguration

SHIPPED = "sus-chat-34b"
SHA256 = "18da9ff3421e5c878bd223ce42316058c0bdf688c114aa57e469ed5b91b4c3bc"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a text, and for each the character of the text that it begins at."""

    ids: list[int]
    starts: list[int]


class PromptTokenizer:
    """Implements `ports.TokenCounter`. Loaded from the file itself: `AutoTokenizer` of transformers 5.0–5.23 would
    rebuild SUS-Chat's with a forced prefix space and give other ids.

    Text is only ever text: a special token's name in it (`<|endoftext|>`) becomes ordinary pieces, so that no id of a
    special token comes from anything but `special`.
    """

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        self._tokenizer = Tokenizer.from_buffer(content)
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()

    @property
    def highest_id(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True)) - 1

    def count(self, text: str) -> int:
        return len(self.encode(text))

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def encode_with_starts(self, text: str) -> Encoded:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return Encoded(encoding.ids, [start for start, _ in encoding.offsets])

    def special(self, token: str) -> int:
        """The id of a special token; raises InvalidConfiguration where the tokenizer has none of that name."""
        found: int | None = self._tokenizer.token_to_id(token)
        if found is None:
            raise InvalidConfiguration(f"the tokenizer {self.name} has no token {token}", tokenizer=self.name)
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a reply: special tokens say nothing."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def transcript(self, ids: Sequence[int]) -> str:
        """The text of a whole prompt, special tokens written out."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


def load(tokenizer: str) -> PromptTokenizer:
    """`sus-chat-34b`, or the path of a `tokenizer.json`. Raises InvalidConfiguration."""
    read = content(tokenizer)
    if tokenizer == SHIPPED:
        return PromptTokenizer(SHIPPED, read)
    name = f"{Path(tokenizer).resolve().parent.name}:{hashlib.sha256(read).hexdigest()[:12]}"
    try:
        return PromptTokenizer(name, read)
    except ValueError as error:
        raise InvalidConfiguration(f"{tokenizer} is no tokenizer.json: {error}", path=tokenizer) from error


def content(tokenizer: str) -> bytes:
    """The file itself. Raises InvalidConfiguration."""
    if tokenizer == SHIPPED:
        return _shipped()
    try:
        return Path(tokenizer).read_bytes()
    except OSError as error:
        raise InvalidConfiguration(f"the tokenizer {tokenizer} cannot be read: {error}", path=tokenizer) from error


def _shipped() -> bytes:
    read = resources.files("rag_service.prompting").joinpath("sus_chat_tokenizer.json").read_bytes()
    found = hashlib.sha256(read).hexdigest()
    if found != SHA256:
        raise InvalidConfiguration("the installed tokenizer file is damaged: reinstall youju", sha256=found)
    return read
