from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_llama import VOCABULARY, save_tiny_llama, tiny_llama, torch, transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing

from rag_service.errors import InvalidConfiguration
from rag_service.inference import model_directory, model_loading
from rag_service.inference.model_directory import (
    PROBES,
    ModelDirectory,
    Shape,
    check_memory,
    check_quantization,
    check_tokenizer,
    inspect,
    tokenizer_trap,
    write_tokenizer,
)
from rag_service.inference.model_loading import FreeMemory, free_memory, load
from rag_service.inference.model_location import locate
from rag_service.inference.transformers_generator import Prompts, open_generator
from rag_service.inference.transformers_reply import TimeLimits
from rag_service.prompting import tokenizer

TOKENS = tokenizer.load("sus-chat-34b")
SHIPPED = resources.files("rag_service.prompting").joinpath("sus_chat_tokenizer.json").read_bytes()
# A 7-word vocabulary, at its root wrong for every probe.
OTHER = Tokenizer(WordLevel({"<unk>": 0, "你": 1}, unk_token="<unk>")).to_str().encode()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A model directory that a test may damage."""
    return Path(shutil.copytree(saved, tmp_path / "tiny", copy_function=lambda a, b: Path(b).hardlink_to(a)))


def rewrite(path: Path, **members: Any) -> None:
    content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    # Unlinked first: the fixture's files are shared.
    path.unlink(missing_ok=True)
    path.write_text(json.dumps({n: v for n, v in (content | members).items() if v is not None}), "utf-8")


def refused(call: Callable[[], object]) -> InvalidConfiguration:
    with pytest.raises(InvalidConfiguration) as caught:
        call()
    return caught.value


def test_a_model_directory_says_what_it_holds(model: Path) -> None:
    found = inspect(model, 8_192)
    assert (found.architecture, found.safetensors, found.quantised) == ("LlamaForCausalLM", True, None)
    parameters = sum(p.numel() for p in tiny_llama().parameters())
    assert found.weights_bytes == pytest.approx(parameters * 4, rel=0.001)
    assert found.loaded_bytes("auto", "none") == found.weights_bytes
    assert found.loaded_bytes("bfloat16", "none") == found.weights_bytes // 2
    assert found.shape == Shape(2, 8, 2, 8, 64, VOCABULARY, 8_192, 4)


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "model", "a/b/c"])
def test_a_directory_that_does_not_exist_is_named(name: str) -> None:
    error = refused(lambda: locate(name))
    assert error.data == {"model": name, "reason": "missing"}
    assert name in error.detail


def test_a_hub_name_is_taken_from_the_cache_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    error = refused(lambda: locate("SUSTech/SUS-Chat-34B"))
    assert error.data["reason"] == "not-downloaded"
    assert "hf download SUSTech/SUS-Chat-34B" in error.detail
    cached = tmp_path / "models--SUSTech--SUS-Chat-34B"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots" / ("0" * 40)).mkdir(parents=True)
    assert locate("SUSTech/SUS-Chat-34B") == cached / "snapshots" / ("0" * 40)


def test_a_directory_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    assert refused(lambda: inspect(tmp_path, 512)).data["reason"] == "no-config"


@pytest.mark.parametrize("content", ["{", "[]", '{"architectures": ["LlamaForCausalLM"]}', "\x00"])
def test_a_broken_configuration_is_refused(model: Path, content: str) -> None:
    (model / "config.json").unlink()
    (model / "config.json").write_text(content)
    assert refused(lambda: inspect(model, 512)).data["reason"] == "unreadable"


@pytest.mark.parametrize("architectures", [["BertModel"], ["T5ForConditionalGeneration"], [], None])
def test_another_architecture_is_refused_with_those_that_work(model: Path, architectures: list[str] | None) -> None:
    rewrite(model / "config.json", architectures=architectures)
    error = refused(lambda: inspect(model, 512))
    assert error.data["reason"] == "architecture"
    assert "LlamaForCausalLM" in error.detail


def test_a_window_beyond_the_models_positions_is_refused(model: Path) -> None:
    error = refused(lambda: inspect(model, 8_193))
    assert error.data == {"reason": "window", "positions": 8_192, "window_tokens": 8_193}


def test_pickled_weights_are_taken_where_there_are_no_others(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    found = inspect(model, 512)
    assert not found.safetensors
    assert found.weights_bytes > 0


def test_missing_weights_are_named(model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert refused(lambda: inspect(model, 512)).data["reason"] == "no-weights"
    rewrite(model / "model.safetensors.index.json", weight_map={"a": "one.safetensors", "b": "two.safetensors"})
    (model / "one.safetensors").write_bytes(b"1234")
    error = refused(lambda: inspect(model, 512))
    assert error.data == {"reason": "incomplete", "missing": ["two.safetensors"]}
    (model / "two.safetensors").write_bytes(b"12")
    assert inspect(model, 512).weights_bytes == 6


SUS_CHAT = ModelDirectory(
    Path("SUS-Chat-34B"),
    "LlamaForCausalLM",
    Shape(60, 56, 8, 128, 7_168, 64_000, 8_192, 2),
    68_777_834_496,
    False,
    None,
)


def test_too_little_memory_is_said_with_the_numbers() -> None:
    error = refused(lambda: check_memory(SUS_CHAT, 8_192, "auto", "none", 60 * 2**30))
    assert error.data == {
        "reason": "memory",
        "weights_bytes": 68_777_834_496,
        "cache_bytes": 2_013_265_920,
        "free_bytes": 60 * 2**30,
    }
    assert "64.1 GiB" in error.detail
    assert "1.9 GiB" in error.detail
    assert "60.0 GiB" in error.detail


@pytest.mark.parametrize(
    ("dtype", "quantization", "gib"),
    [("auto", "none", 64.1), ("float32", "none", 128.1), ("auto", "8bit", 32.9), ("auto", "4bit", 19.3)],
)
def test_the_memory_asked_for_follows_from_how_the_weights_are_loaded(
    dtype: str, quantization: model_directory.Quantization, gib: float
) -> None:
    assert SUS_CHAT.loaded_bytes(dtype, quantization) / 2**30 == pytest.approx(gib, abs=0.1)


@given(st.integers(0, 200 * 2**30), st.integers(512, 8_192))
def test_memory_is_refused_exactly_below_weights_and_window(free: int, window: int) -> None:
    needed = SUS_CHAT.weights_bytes + window * SUS_CHAT.shape.cache_bytes
    if free < needed:
        refused(lambda: check_memory(SUS_CHAT, window, "auto", "none", free))
    else:
        check_memory(SUS_CHAT, window, "auto", "none", free)


def test_a_model_that_is_quantised_is_not_quantised_again(model: Path) -> None:
    rewrite(model / "config.json", quantization_config={"quant_method": "awq", "bits": 4})
    found = inspect(model, 512)
    assert found.quantised == "awq"
    assert found.loaded_bytes("float16", "none") == found.weights_bytes
    check_quantization(found, "none")
    assert refused(lambda: check_quantization(found, "4bit")).data["quantised"] == "awq"


def test_the_shipped_tokenizer_passes(model: Path) -> None:
    check_tokenizer(model, TOKENS.encode, TOKENS.highest_id, VOCABULARY)


def put_tokenizer(model: Path, content: bytes) -> None:
    (model / "tokenizer.json").unlink()
    (model / "tokenizer.json").write_bytes(content)


def with_prefix_blank(shipped: bytes) -> bytes:
    """What transformers' LlamaTokenizer makes of it."""
    content = json.loads(shipped)
    content["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "Prepend", "prepend": "▁"}, content["normalizer"]],
    }
    return json.dumps(content).encode()


def with_bos(shipped: bytes) -> bytes:
    theirs = Tokenizer.from_buffer(shipped)
    theirs.post_processor = TemplateProcessing("<|startoftext|> $A", None, [("<|startoftext|>", 1)])
    return bytes(theirs.to_str(), "utf-8")


@pytest.mark.parametrize("wrong", [lambda _: OTHER, with_prefix_blank, with_bos], ids=["other", "blank", "bos"])
def test_a_tokenizer_that_gives_other_ids_is_refused_with_the_way_to_mend_it(
    model: Path, wrong: Callable[[bytes], bytes]
) -> None:
    put_tokenizer(model, wrong(SHIPPED))
    error = refused(lambda: check_tokenizer(model, TOKENS.encode, TOKENS.highest_id, VOCABULARY))
    assert error.data["reason"] == "tokenizer"
    assert error.data["probe"] in PROBES
    assert "tokenizer_class: PreTrainedTokenizerFast" in error.detail
    write_tokenizer(model, SHIPPED)
    check_tokenizer(model, TOKENS.encode, TOKENS.highest_id, VOCABULARY)


def test_a_missing_or_broken_tokenizer_is_refused(model: Path) -> None:
    put_tokenizer(model, b"{}")
    assert refused(lambda: check_tokenizer(model, TOKENS.encode, 1, 2)).data["reason"] == "unreadable"
    (model / "tokenizer.json").unlink()
    assert refused(lambda: check_tokenizer(model, TOKENS.encode, 1, 2)).data["reason"] == "no-tokenizer"


def test_a_vocabulary_that_lacks_ids_of_the_prompts_is_refused(model: Path) -> None:
    error = refused(lambda: check_tokenizer(model, TOKENS.encode, TOKENS.highest_id, TOKENS.highest_id))
    assert error.data == {"reason": "vocabulary", "vocabulary": 63_999, "highest_id": 63_999}


CONFIGURATIONS = [
    {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": None},
    {"tokenizer_class": "LlamaTokenizerFast", "add_prefix_space": None},
    {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": True},
    {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": None, "legacy": True, "use_fast": False},
    {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False},
    {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": None},
    {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False},
]


def read_by_transformers(path: Path) -> list[list[int]]:
    read = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    return [read(probe, add_special_tokens=False)["input_ids"] for probe in PROBES]


@pytest.mark.parametrize("said", CONFIGURATIONS, ids=lambda said: "-".join(str(value) for value in said.values()))
def test_the_trap_is_foreseen_exactly_where_the_installed_transformers_falls_into_it(
    model: Path, said: dict[str, Any]
) -> None:
    rewrite(model / "tokenizer_config.json", **said)
    right = read_by_transformers(model) == [TOKENS.encode(probe) for probe in PROBES]
    assert (tokenizer_trap(model) is None) == right


@pytest.mark.parametrize("said", CONFIGURATIONS[:4], ids=["slow", "fast", "blank", "legacy"])
def test_a_mended_tokenizer_is_read_right_by_transformers(model: Path, said: dict[str, Any]) -> None:
    rewrite(model / "tokenizer_config.json", **said)
    put_tokenizer(model, with_prefix_blank(SHIPPED))
    before = (model / "tokenizer.json").read_bytes()
    for _ in range(2):
        write_tokenizer(model, SHIPPED)
    assert read_by_transformers(model) == [TOKENS.encode(probe) for probe in PROBES]
    assert tokenizer_trap(model) is None
    assert (model / "tokenizer.json.before").read_bytes() == before


def test_a_tokenizer_is_not_written_where_there_is_no_model(tmp_path: Path) -> None:
    assert refused(lambda: write_tokenizer(tmp_path, SHIPPED)).data["reason"] == "no-config"
    assert list(tmp_path.iterdir()) == []


PROMPTS = Prompts(TOKENS.encode, TOKENS.decode, TOKENS.highest_id)


def opened(path: Path, **other: Any) -> Any:
    settings: dict[str, Any] = {
        "prompts": PROMPTS,
        "mode": "auto",
        "dtype": "auto",
        "quantization": "none",
        "window_tokens": 1_024,
        "queue": 4,
        "limits": TimeLimits(60, 60, 60),
    }
    return open_generator(str(path), **(settings | other))


@pytest.mark.parametrize(("dtype", "loaded"), [("auto", "float32"), ("bfloat16", "bfloat16")])
def test_a_directory_opens_as_a_generator_named_after_it(
    model: Path, dtype: str, loaded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[Any] = []
    monkeypatch.setattr(model_loading, "load", lambda *given: models.append(load(*given)) or models[0])
    generator = opened(model, dtype=dtype)
    try:
        assert generator.name == "transformers:tiny"
        assert models[0].dtype == getattr(torch, loaded)
        assert models[0].generation_config.max_new_tokens is None
    finally:
        generator.close()


def test_pickled_weights_load(tmp_path: Path) -> None:
    model = tiny_llama()
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    loaded = load(inspect(tmp_path, 512), "auto", "none", 0)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)


def test_nothing_is_loaded_of_a_directory_that_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_loading, "load", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr(model_loading, "free_memory", lambda: FreeMemory((), 10 * 2**20))
    assert refused(lambda: opened(model)).data["reason"] == "memory"
    put_tokenizer(model, OTHER)
    assert refused(lambda: opened(model)).data["reason"] == "tokenizer"
    rewrite(model / "config.json", architectures=["BertModel"])
    assert refused(lambda: opened(model)).data["reason"] == "architecture"


def test_weights_that_lack_a_part_are_refused_and_not_made_up(tmp_path: Path) -> None:
    model = tiny_llama()
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.save_pretrained(tmp_path)
    lacking = {name: weight for name, weight in model.state_dict().items() if name != "lm_head.weight"}
    torch.save(lacking, tmp_path / "pytorch_model.bin")
    error = refused(lambda: load(inspect(tmp_path, 512), "auto", "none", 0))
    assert error.data == {"reason": "incomplete", "missing": ["lm_head.weight"]}


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_damaged_weights_are_a_fault_of_the_configuration(model: Path, suffix: str) -> None:
    (model / "model.safetensors").unlink()
    name = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}[suffix]
    (model / name).write_bytes(b"no tensors here")
    assert refused(lambda: opened(model)).data["reason"] == "loading"


def test_quantising_without_bitsandbytes_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = refused(lambda: load(inspect(model, 512), "auto", "4bit", 0))
    assert "pip install" in error.detail


def test_a_containers_limit_counts_as_the_memory_there_is(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500000\nactive_file 7\n")
    assert free_memory(tmp_path).ram_bytes == 2_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(tmp_path).ram_bytes > 5_000_000
    assert free_memory(tmp_path / "none").ram_bytes > 5_000_000
