"""The sentence-transformers embedder and reranker over tiny real models: what is put in front, cut off and refused."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs the extra [sentence-transformers]")

from sentence_transformers import CrossEncoder, SentenceTransformer
from tiny_sentence_models import DIMENSIONS, MOST_TOKENS, broken, cross_encoder, sentence_model
from tokenizers import Tokenizer

from ingest.bootstrap import open_ingestion
from ingest.embedding import EmbeddingProcess
from rag_service import config
from rag_service.bootstrap import open_service, open_storage
from rag_service.embedders import open_embedder, open_reranker
from rag_service.errors import EmbeddingFailed, InvalidConfiguration, RerankingFailed
from rag_service.inference.cross_encoder import CrossEncoderReranker
from rag_service.inference.in_process import open_tokens
from rag_service.inference.sentence_embedder import SentenceEmbedder
from rag_service.intake import Incoming
from rag_service.ports import Embedder
from rag_service.types import PassageFilter

TEXTS = ["the pump runs dry", "泵的保修期", "x", "the " * 30]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return sentence_model(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> str:
    return cross_encoder(tmp_path_factory.mktemp("reranker"))


def plain(model: str, text: str) -> np.ndarray:
    """What the library itself makes of the text, with nothing before it."""
    vector = SentenceTransformer(model).encode([text], prompt="")[0]
    return np.asarray(vector / np.linalg.norm(vector))


def opened(model: str, tmp_path: Path) -> Embedder:
    return open_embedder(f"sentence-transformers:{model}", config.load(data=tmp_path))


def test_vectors_are_those_of_the_model_at_unit_length(model: str, tmp_path: Path) -> None:
    embedder = opened(model, tmp_path)
    vectors = embedder.embed(TEXTS)
    assert (embedder.dimensions, vectors.shape, vectors.dtype) == (DIMENSIONS, (4, DIMENSIONS), np.float32)
    for vector, text in zip(vectors, TEXTS, strict=True):
        np.testing.assert_allclose(vector, plain(model, text), atol=1e-5)
    assert embedder.embed([]).shape == (0, DIMENSIONS)


def test_the_batch_does_not_change_a_vector(model: str) -> None:
    embedder = SentenceEmbedder(model)
    alone = np.stack([embedder.embed([text])[0] for text in TEXTS * 9])
    np.testing.assert_allclose(embedder.embed(TEXTS * 9), alone, atol=1e-5)


def test_pooling_is_the_models_own(tmp_path: Path) -> None:
    model = sentence_model(tmp_path, pooling=["cls", "max"])
    embedder = SentenceEmbedder(model)
    assert embedder.dimensions == 2 * DIMENSIONS
    np.testing.assert_allclose(embedder.embed(["the pump"])[0], plain(model, "the pump"), atol=1e-5)


@pytest.mark.parametrize("kind", ["document", "passage", "corpus"])
def test_a_model_with_prompts_gets_them(tmp_path: Path, kind: str) -> None:
    model = sentence_model(tmp_path, prompts={"query": "query: ", kind: "passage: "})
    embedder = SentenceEmbedder(model)
    np.testing.assert_allclose(embedder.embed(["the pump"])[0], plain(model, "passage: the pump"), atol=1e-5)
    np.testing.assert_allclose(embedder.embed_query("the pump"), plain(model, "query: the pump"), atol=1e-5)
    assert not np.allclose(embedder.embed(["the pump"])[0], embedder.embed_query("the pump"), atol=1e-3)


def test_a_model_of_a_known_family_gets_the_familys_prefixes(model: str, tmp_path: Path) -> None:
    named = tmp_path / "multilingual-e5-tiny"
    named.symlink_to(model)
    embedder = SentenceEmbedder(str(named))
    np.testing.assert_allclose(embedder.embed(["the pump"])[0], plain(model, "passage: the pump"), atol=1e-5)
    np.testing.assert_allclose(embedder.embed_query("the pump"), plain(model, "query: the pump"), atol=1e-5)


def test_texts_are_counted_in_the_models_own_tokens(model: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    # As many models' files have it.
    tokenizer.enable_truncation(MOST_TOKENS)
    tokenizer.enable_padding(length=MOST_TOKENS)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokens = open_tokens(f"sentence-transformers:{tmp_path}")
    assert tokens.count("the pump runs dry") == 4
    assert tokens.count("abc") == 3
    # Not cut where the model would cut.
    assert tokens.count("the " * 500) == 500


def test_what_a_model_reads_of_a_text_leaves_room_for_its_prefix(model: str, tmp_path: Path) -> None:
    embedder = SentenceEmbedder(model)
    assert embedder.most_tokens == MOST_TOKENS - 2
    to_the_end = "the " * (MOST_TOKENS - 3)
    assert not np.allclose(embedder.embed([to_the_end + "pump"]), embedder.embed([to_the_end + "dry"]), atol=1e-6)
    beyond = to_the_end + "the "
    np.testing.assert_array_equal(embedder.embed([beyond + "pump"]), embedder.embed([beyond + "dry"]))

    prompted = SentenceEmbedder(sentence_model(tmp_path, prompts={"query": "query: ", "document": "passage: "}))
    assert prompted.most_tokens == MOST_TOKENS - 4


def test_threads_share_an_embedder(model: str) -> None:
    embedder = SentenceEmbedder(model)
    wanted = embedder.embed(TEXTS)
    with ThreadPoolExecutor(8) as threads:
        for made in threads.map(lambda _: embedder.embed(TEXTS), range(40)):
            np.testing.assert_allclose(made, wanted, atol=1e-6)


def test_a_model_that_makes_no_numbers_is_named(tmp_path: Path) -> None:
    embedder = SentenceEmbedder(broken(sentence_model(tmp_path)))
    with pytest.raises(EmbeddingFailed, match="NaN") as raised:
        embedder.embed(["the pump"])
    assert raised.value.data["reason"] == "not-finite"
    assert raised.value.data["embedder"] == embedder.name


@pytest.mark.parametrize("content", [None, {"config.json": "{"}, {"config.json": "{}"}, {}])
def test_a_directory_that_is_no_model_is_refused_by_name(tmp_path: Path, content: dict[str, str] | None) -> None:
    folder = tmp_path / "model"
    if content is not None:
        folder.mkdir()
        for name, text in content.items():
            (folder / name).write_text(text, "utf-8")
    for kind in (SentenceEmbedder, CrossEncoderReranker):
        with pytest.raises(InvalidConfiguration, match=str(folder)):
            kind(str(folder))


def test_a_model_that_was_never_downloaded_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InvalidConfiguration, match="hf download nobody/nothing-of-that-name"):
        opened("nobody/nothing-of-that-name", tmp_path)


# In a process of its own, and in the whole service.


def test_the_embedding_process_has_the_model_too(model: str) -> None:
    with closing(EmbeddingProcess(f"sentence-transformers:{model}")) as process:
        assert (process.dimensions, process.most_tokens) == (DIMENSIONS, MOST_TOKENS - 2)
        np.testing.assert_allclose(process.embed(TEXTS), SentenceEmbedder(model).embed(TEXTS), atol=1e-6)
        assert process.embed([]).shape == (0, DIMENSIONS)


def test_the_embedding_process_says_what_its_model_says(tmp_path: Path) -> None:
    model = tmp_path / "made"
    with closing(EmbeddingProcess(f"sentence-transformers:{model}")) as process:
        with pytest.raises(InvalidConfiguration, match=f"{model} does not exist"):
            process.embed(TEXTS)
        # The same process: what is missing may be brought.
        broken(sentence_model(tmp_path))
        with pytest.raises(EmbeddingFailed, match="NaN") as raised:
            process.embed(TEXTS)
    assert raised.value.data["reason"] == "not-finite"


def test_a_model_that_is_another_after_a_restart_is_noticed(model: str, tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.symlink_to(model)
    with closing(EmbeddingProcess(f"sentence-transformers:{place}")) as process:
        process.embed(TEXTS)
        place.unlink()
        place.symlink_to(sentence_model(tmp_path, pooling=["cls", "max"]))
        assert process._process is not None
        process._process.kill()
        with pytest.raises(EmbeddingFailed, match="another model"):
            process.embed(TEXTS)


def test_chunks_are_cut_so_that_the_model_reads_them_to_their_end(model: str, tmp_path: Path) -> None:
    name = f"sentence-transformers:{model}"
    settings = config.load(data=tmp_path / "data", embedder=name)
    with closing(open_storage(settings)) as storage, closing(open_ingestion(settings)) as ingestion:
        kb = storage.knowledge_bases.create("default", "pumps").id
        text = ("The pump runs dry. " * 3 + "泵的保修期。" * 3 + "\n\n") * 20
        job, _ = storage.intake.accept("default", kb, [Incoming("pumps.txt", None, io.BytesIO(text.encode()))])
        ingestion.worker.run(job)
        with storage.feed.snapshot(kb) as snapshot:
            # Indexed by words under the document's title, embedded without it.
            chunks = [row.text.removeprefix("pumps\n") for row in snapshot.added(0)]
        service = open_service(storage)
        found = service.retriever.retrieve("default", [kb], "the pump", 3, PassageFilter())
    tokens = open_tokens(name)
    assert len(chunks) > 10
    assert max(tokens.count(chunk) for chunk in chunks) <= (MOST_TOKENS - 2) * 3 // 4
    assert len(found.passages) > 0


# Rerankers.


def test_scores_are_the_models_in_the_order_of_the_texts(reranker: str, tmp_path: Path) -> None:
    opened = open_reranker(config.load(data=tmp_path, reranker=f"cross-encoder:{reranker}"))
    assert opened is not None
    texts = [f"the pump {letter * (n % 5)}" for n, letter in enumerate("abcdefghijklmnopqrstuvwxyz" * 2)]
    scores = opened.rerank("the 泵", texts)
    model = CrossEncoder(reranker)
    logits = [float(model.predict([("the 泵", text)], activation_fn=lambda x: x)[0]) for text in texts]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array(logits))), atol=1e-5)
    assert len(set(scores)) > 10
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert opened.rerank("the pump", []) == []


def test_a_long_text_is_cut_and_still_scored(reranker: str) -> None:
    [score] = CrossEncoderReranker(reranker).rerank("the pump", ["runs dry " * 2_000])
    assert 0.0 <= score <= 1.0


def test_threads_share_a_reranker(reranker: str) -> None:
    shared = CrossEncoderReranker(reranker)
    wanted = shared.rerank("the pump", TEXTS)
    with ThreadPoolExecutor(8) as threads:
        for made in threads.map(lambda _: shared.rerank("the pump", TEXTS), range(40)):
            np.testing.assert_allclose(made, wanted, atol=1e-6)


def test_a_classifier_of_several_labels_is_no_reranker(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="3 outputs"):
        CrossEncoderReranker(cross_encoder(tmp_path, labels=3))


def test_a_score_that_is_no_number_is_an_error(reranker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = CrossEncoderReranker(reranker)
    weight = shared._model.model.classifier.weight
    monkeypatch.setattr(weight, "data", weight.data * float("nan"))
    with pytest.raises(RerankingFailed):
        shared.rerank("the pump", TEXTS)


def test_without_a_reranker_nothing_is_opened(tmp_path: Path) -> None:
    assert open_reranker(config.load(data=tmp_path)) is None


def test_the_reranker_that_is_set_ranks_what_is_found(reranker: str, tmp_path: Path) -> None:
    settings = config.load(data=tmp_path / "data", reranker=f"cross-encoder:{reranker}")
    with closing(open_storage(settings)) as storage, closing(open_ingestion(settings)) as ingestion:
        kb = storage.knowledge_bases.create("default", "pumps").id
        texts = ("The pump runs dry.", "泵的保修期是两年。", "The pump is guaranteed for two years.")
        files = [Incoming(f"{n}.txt", None, io.BytesIO(text.encode())) for n, text in enumerate(texts)]
        job, _ = storage.intake.accept("default", kb, files)
        ingestion.worker.run(job)
        found = open_service(storage).retriever.retrieve("default", [kb], "the pump", 3, PassageFilter()).passages
    wanted = CrossEncoderReranker(reranker).rerank("the pump", [one.passage.text for one in found])
    np.testing.assert_allclose([one.score for one in found], wanted, atol=1e-5)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert len(found) == 3
