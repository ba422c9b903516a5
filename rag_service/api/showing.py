"""What a client is shown of a reply while it is being written."""

from __future__ import annotations

from typing import Protocol

from anyio import to_thread

from rag_service.answering.ask import Asker, Prepared
from rag_service.answering.reply import Reply
from rag_service.errors import GenerationFailed
from rag_service.text import may_end_a_sentence
from rag_service.types import Answer


class Showing(Protocol):
    @property
    def begun(self) -> bool:
        """Whether anything was shown: what failed after that cannot be answered otherwise any more."""
        ...

    async def more(self, prepared: Prepared, reply: Reply, piece: str) -> str:
        """What to show now that `piece` has come; may be empty."""
        ...

    def rest(self, answer: Answer) -> str:
        """What to show of the finished answer."""
        ...


class Nothing:
    """For requests that are answered at once."""

    begun = False

    async def more(self, prepared: Prepared, reply: Reply, piece: str) -> str:
        return ""

    def rest(self, answer: Answer) -> str:
        return ""


class Provisional:
    """The reply as it comes; the answer in Done is the checked one."""

    def __init__(self) -> None:
        self.begun = False

    async def more(self, prepared: Prepared, reply: Reply, piece: str) -> str:
        self.begun = True
        return piece

    def rest(self, answer: Answer) -> str:
        """The text of an answer that no model wrote comes at once."""
        return answer.text if answer.prompt_sha256 is None else ""


class Checked:
    """The checked answer: a sentence is shown once the next has begun, and together they are the text of Done."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._shown = ""
        self._ending = False

    @property
    def begun(self) -> bool:
        return bool(self._shown)

    async def more(self, prepared: Prepared, reply: Reply, piece: str) -> str:
        # A look at the whole reply: not for pieces that neither end a sentence nor begin the next.
        ended, self._ending = self._ending, may_end_a_sentence(piece)
        if not (ended or self._ending):
            return ""
        return self._new(await to_thread.run_sync(self._asker.checked_so_far, prepared, reply))

    def rest(self, answer: Answer) -> str:
        return self._new(answer.text)

    def _new(self, text: str) -> str:
        """Raises GenerationFailed where what was shown can no longer be said, as when its document was deleted."""
        if not text.startswith(self._shown):
            raise GenerationFailed("what was shown of the answer does not hold any more: ask again")
        new = text[len(self._shown) :]
        self._shown = text
        return new
