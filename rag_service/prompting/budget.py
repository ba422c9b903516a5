"""How a window is divided. The shares are those of SUS-Chat's window that the prompt was designed for: of 8,192 − 900
tokens, 4,300 for passages and 2,400 for history."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens. `prompt` is what a prompt may have at most."""

    window_tokens: int
    reply_tokens: int
    most_passages: int = 9
    passages_share: float = 0.59
    history_share: float = 0.33
    evidence_floor: float = 0.5
    """What is kept for evidence: of the room beside instructions and question, the last turn has to leave it; of the
    passages' own room, a passage is cut to sentences as long as less is filled, and left out whole after."""
    least_score: float = 0.25
    """Of the best passage's score: what is below is not evidence."""

    @property
    def prompt_tokens(self) -> int:
        return self.window_tokens - self.reply_tokens

    @property
    def passage_tokens(self) -> int:
        return int(self.prompt_tokens * self.passages_share)

    @property
    def history_tokens(self) -> int:
        return int(self.prompt_tokens * self.history_share)
