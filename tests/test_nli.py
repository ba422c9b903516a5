"""The optional entailment model, as a tiny random one: labels, order, faults. What it thinks means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag_service.errors import InvalidConfiguration

pytest.importorskip("torch", reason="the entailment model needs the sus-chat extra")
transformers = pytest.importorskip("transformers", reason="the entailment model needs the sus-chat extra")

from rag_service.inference.nli import CrossEncoder  # noqa: E402

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "pump", "runs", "dry", "不", "泵"]


def make(folder: Path, labels: list[str]) -> str:
    (folder / "vocab.txt").write_text("\n".join(WORDS), "utf-8")
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label=dict(enumerate(labels)), label2id={label: at for at, label in enumerate(labels)},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


def test_probabilities_follow_the_labels_not_their_order(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    model = CrossEncoder(make(one, ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"]))
    entailed, contradicted = model.judge("the pump runs dry " * 400, "the pump runs")
    assert 0.0 < entailed < 1.0
    assert 0.0 < contradicted < 1.0
    assert entailed + contradicted < 1.0
    other.mkdir()
    for file in one.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = (other / "config.json").read_text("utf-8")
    swapped = config.replace("CONTRADICTION", "x").replace("ENTAILMENT", "CONTRADICTION").replace('"x"', '"ENTAILMENT"')
    (other / "config.json").write_text(swapped, "utf-8")
    assert CrossEncoder(str(other)).judge("the pump runs dry " * 400, "the pump runs") == (contradicted, entailed)


def test_a_model_of_two_labels_never_contradicts(tmp_path: Path) -> None:
    model = CrossEncoder(make(tmp_path, ["entailment", "not_entailment"]))
    assert model.judge("the pump", "runs")[1] == 0.0


def test_a_classifier_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path, ["positive", "negative"])
    with pytest.raises(InvalidConfiguration, match="no label entail"):
        CrossEncoder(folder)


def test_a_model_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="nli_model"):
        CrossEncoder(str(tmp_path / "nowhere"))
