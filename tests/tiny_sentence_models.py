"""Real sentence-transformers models of no meaning: a BERT of sixteen dimensions with random weights."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

DIMENSIONS = 16
MOST_TOKENS = 48
WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", *string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase),
    *string.digits, ":", ".", "the", "pump", "runs", "dry", "query", "passage", "泵", "的", "保", "修", "期",
]  # fmt: skip


def sentence_model(folder: Path, prompts: dict[str, str] | None = None, pooling: Any = "mean") -> str:
    bert = _saved(folder / "bert", BertModel)
    transformer = Transformer(bert, max_seq_length=MOST_TOKENS)
    SentenceTransformer(modules=[transformer, Pooling(DIMENSIONS, pooling)], prompts=prompts).save(str(folder / "made"))
    return str(folder / "made")


def cross_encoder(folder: Path, labels: int = 1) -> str:
    CrossEncoder(_saved(folder / "bert", BertForSequenceClassification, num_labels=labels)).save(str(folder / "made"))
    return str(folder / "made")


def broken(model: str) -> str:
    """The same with a weight that is no number."""
    encoder = SentenceTransformer(model)
    with torch.no_grad():
        next(encoder.parameters()).fill_(float("nan"))
    encoder.save(model)
    return model


def _saved(folder: Path, kind: Any, **config: Any) -> str:
    folder.mkdir(parents=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS), "utf-8")
    torch.manual_seed(7)
    kind(
        BertConfig(
            vocab_size=len(WORDS), hidden_size=DIMENSIONS, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=64, initializer_range=1.0, **config,
        )
    ).save_pretrained(folder)  # fmt: skip
    BertTokenizer(vocab=str(vocabulary)).save_pretrained(folder)
    return str(folder)
