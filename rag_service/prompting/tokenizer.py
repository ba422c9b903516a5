"""The tokenizer of SUS-Chat-34B (Yi), shipped with the package: every token of a prompt or a reply is counted by it."""

from __future__ import annotations

import hashlib
from importlib import resources

from tokenizers import Tokenizer

from rag_service.errors import InvalidConfiguration

SHA256 = "18da9ff3421e5c878bd223ce42316058c0bdf688c114aa57e469ed5b91b4c3bc"


class SusChatTokenizer:
    """Implements `ports.TokenCounter`. Loaded from the file itself: `AutoTokenizer` of transformers 5.0–5.23 would
    rebuild it with a forced prefix space and give other ids."""

    name = "sus-chat-34b"

    def __init__(self) -> None:
        content = resources.files("rag_service.prompting").joinpath("sus_chat_tokenizer.json").read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != SHA256:
            raise InvalidConfiguration("the installed tokenizer file is damaged: reinstall youju", sha256=found)
        self._tokenizer = Tokenizer.from_buffer(content)

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)
