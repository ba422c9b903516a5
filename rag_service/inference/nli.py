"""An NLI cross-encoder that checks citations besides the rules: any sequence classifier with an entailment label."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rag_service.errors import InvalidConfiguration

MOST_TOKENS = 512
"""Of a pair; the premise is cut."""


class CrossEncoder:
    """Implements `ports.Entailment`; safe to share between threads. Raises InvalidConfiguration.

    `model` is a directory or in the hub's cache on this machine: nothing is fetched.
    """

    def __init__(self, model: str) -> None:
        self.name = f"nli:{model}"
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(model, local_files_only=True)
            self._model: Any = AutoModelForSequenceClassification.from_pretrained(model, local_files_only=True).eval()
        except (OSError, ValueError) as error:
            raise InvalidConfiguration(f"nli_model {model!r} cannot be loaded: {error}") from error
        labels = {int(at): str(label).lower() for at, label in self._model.config.id2label.items()}
        self._entailed = _labelled("entail", labels, model)
        self._contradicted = _labelled("contradict", labels, model) if len(labels) > 2 else None

    def judge(self, premise: str, hypothesis: str) -> tuple[float, float]:
        """Probabilities that `premise` entails `hypothesis`, and that it contradicts it (0 where the model has only
        "entailment" and "not entailment")."""
        pair = self._tokenizer(
            premise, hypothesis, truncation="only_first", max_length=MOST_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            chances = torch.softmax(self._model(**pair).logits[0].float(), dim=-1)
        contradicted = 0.0 if self._contradicted is None else float(chances[self._contradicted])
        return float(chances[self._entailed]), contradicted


def _labelled(beginning: str, labels: dict[int, str], model: str) -> int:
    found = [at for at, label in labels.items() if label.startswith(beginning)]
    if len(found) != 1:
        told = ", ".join(labels.values())
        raise InvalidConfiguration(f"nli_model {model!r} has no label {beginning}…, only {told}")
    return found[0]
