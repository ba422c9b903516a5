"""One model, several threads: one step at a time."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any


def take_turns(model: Any) -> Callable[[], None]:
    """From here on a call of the model waits for the one under way; what is returned ends that.

    transformers (5.23, `merge_with_config_defaults`) writes the `is_causal` of a call into the configuration that all
    calls share and restores it afterwards. Continuous batching passes False, since its masks are its own; a step of
    another thread meanwhile would attend to later tokens, and where the two end crosswise, so would every later one.
    Nothing fails then: the text is merely wrong.
    """
    forward, turn = model.forward, threading.Lock()

    @functools.wraps(forward)
    def in_turn(*given: Any, **named: Any) -> Any:
        with turn:
            return forward(*given, **named)

    def end() -> None:
        model.forward = forward

    model.forward = in_turn
    return end
