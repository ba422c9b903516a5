"""The text of a reply whose tokens come one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

UNDECODABLE = "\N{REPLACEMENT CHARACTER}"


class TokenText:
    """Gives out text as soon as no further token can change it: never half a character whose bytes are still coming.

    Bytes that can never become a character read as the tokenizer reads them, U+FFFD, once the next character shows it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        # The piece given out last and what came since. Decoding starts at a piece that is out, not at the first token
        # that is not: some tokenizers read the first token of a text differently.
        self._tokens: list[int] = []
        self._out = 0

    def feed(self, token: int) -> str:
        self._tokens.append(token)
        piece = self._new()
        if piece and not piece.endswith(UNDECODABLE):
            self._tokens, self._out = self._tokens[self._out :], len(self._tokens) - self._out
            return piece
        return ""

    def rest(self) -> str:
        """What was still kept back, once the last token is in; a character that stayed half is left out."""
        return self._new().rstrip(UNDECODABLE)

    def _new(self) -> str:
        return self._decode(self._tokens)[len(self._decode(self._tokens[: self._out])) :]
