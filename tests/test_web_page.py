"""The web page, driven in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from ingest.bootstrap import open_ingestion
from rag_service import config
from rag_service.api.app import create_app
from rag_service.bootstrap import open_service, open_storage

playwright = pytest.importorskip("playwright.sync_api", reason="needs the playwright package (pip install playwright)")
expect = playwright.expect

WEB = Path(__file__).parents[1] / "rag_service" / "api" / "web"
CHROMIUM = shutil.which("chromium")
CHROMIUM_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 20_000

WARRANTY = "😀 星河路由器的保修期为两年，自交付之日起计算。"
ATTACK = '<img src=x onerror="window.attacked = true"> 的星河路由器序列号写在底部的标签上。'
PREFACE = "😀 前言没有内容。" * 120
MANUAL = f"星河路由器使用手册\n\n{PREFACE}\n\n{WARRANTY}\n\n{ATTACK}\n\n电源适配器的输出为十二伏。\n"
ASK_WARRANTY = "星河路由器的保修期为两年，自哪天起计算？"
ASK_SERIAL = "星河路由器序列号写在底部的标签上吗？"
ASK_FOREIGN = "How deep is the Mariana Trench in the Pacific?"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium (apt-get install chromium)")


@pytest.fixture(scope="module")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of the real service with a worker; it needs no key."""
    settings = config.load(data=tmp_path_factory.mktemp("page") / "data")
    with closing(open_storage(settings)) as storage, closing(open_ingestion(settings)) as ingestion:
        server = uvicorn.Server(uvicorn.Config(create_app(open_service(storage), auth=False), log_level="warning"))
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            working = threading.Thread(target=ingestion.run, daemon=True)
            serving.start()
            working.start()
            wait_until_started(server)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            server.should_exit = True
            ingestion.worker.stop()
            serving.join(timeout=10)
            working.join(timeout=10)


def wait_until_started(server: uvicorn.Server) -> None:
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline, "the page server did not start"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        yield started
        started.close()


class Desk:
    """What a person does on the page, and what the browser saw meanwhile."""

    def __init__(self, browser: Any, base_url: str, **options: Any) -> None:
        self.base_url = base_url
        self.context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 860}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.console_errors: list[str] = []
        self.addresses: list[str] = []
        self.page.on("console", lambda said: self.console_errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.console_errors.append(str(error)))
        self.page.on("request", lambda request: self.addresses.append(request.url))

    def open(self) -> None:
        self.page.goto(self.base_url)
        expect(self.page.locator("#desk")).to_be_visible()

    def create_knowledge_base(self, name: str) -> None:
        if self.page.locator("#create-form").is_hidden():
            self.page.get_by_role("button", name="New", exact=True).click()
        self.page.get_by_label("Name of the new knowledge base").fill(name)
        self.page.get_by_role("button", name="Create").click()
        expect(self.page.locator("#knowledge-base option:checked")).to_have_text(name)

    def upload(self, *files: tuple[str, bytes]) -> None:
        payloads = [{"name": name, "mimeType": "text/plain", "buffer": content} for name, content in files]
        self.page.get_by_label("Add documents").set_input_files(payloads)

    def document(self, name: str) -> Any:
        return self.page.locator("#documents > li").filter(has_text=name)

    def upload_row(self, name: str) -> Any:
        return self.page.locator("#uploads > li").filter(has_text=name)

    def upload_until_ready(self, name: str, text: str) -> None:
        self.upload((name, text.encode()))
        expect(self.document(name)).to_contain_text("Ready", timeout=PATIENCE_MS)

    def ask(self, question: str) -> Any:
        self.page.get_by_label("Your question").fill(question)
        self.page.get_by_role("button", name="Ask", exact=True).click()
        return self.page.locator("#log > li").last

    def ask_until_answered(self, question: str) -> Any:
        turn = self.ask(question)
        expect(turn).to_have_attribute("data-outcome", re.compile("answered|partial"), timeout=PATIENCE_MS)
        return turn


@pytest.fixture
def desk(browser: Any, page_server: str, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """The page, open on a fresh knowledge base of its own."""
    desk = Desk(browser, page_server)
    desk.open()
    desk.create_knowledge_base(request.node.name)
    yield desk
    desk.context.close()


# Without a browser: what the files themselves promise.


class Loaded(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def loaded_page() -> list[tuple[str, dict[str, str | None]]]:
    parser = Loaded()
    parser.feed((WEB / "index.html").read_text("utf-8"))
    return parser.tags


def test_the_page_has_no_inline_script_and_no_inline_style() -> None:
    for tag, attributes in loaded_page():
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]


def test_every_file_the_page_loads_is_there() -> None:
    names = [value for _, given in loaded_page() for name, value in given.items() if name in ("src", "href")]
    local = [name for name in names if name and not name.startswith("#")]
    assert local
    assert all(name.startswith("static/") and (WEB / name.removeprefix("static/")).is_file() for name in local)


@pytest.mark.parametrize("source", sorted(WEB.glob("*.js")), ids=lambda path: path.name)
def test_no_script_parses_text_as_html(source: Path) -> None:
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", source.read_text("utf-8"))


def test_both_languages_say_the_same_things() -> None:
    words = (WEB / "words.js").read_text("utf-8")
    chinese, english = words.split("  en: {\n")
    keys = re.compile(r"^    (\w+):", re.MULTILINE)
    assert keys.findall(chinese) == keys.findall(english.split("};")[0])


def test_every_word_the_page_asks_for_exists() -> None:
    known = set(re.findall(r"^    (\w+):", (WEB / "words.js").read_text("utf-8"), re.MULTILINE))
    asked = {
        value
        for _, given in loaded_page()
        for name, value in given.items()
        if name in ("data-word", "data-label", "data-placeholder")
    }
    assert asked <= known


# In a browser.


@needs_chromium
def test_an_uploaded_document_becomes_ready_and_answers_with_a_citation_that_shows_its_quote(desk: Desk) -> None:
    desk.upload_until_ready("手册.txt", MANUAL)
    turn = desk.ask_until_answered(ASK_WARRANTY)
    expect(turn.locator(".text")).to_contain_text("两年")
    turn.locator(".mark").first.click()
    slip = turn.get_by_label("Citation 1")
    expect(slip).to_contain_text("手册.txt")
    expect(slip.locator("blockquote")).to_contain_text("星河路由器的保修期为两年，自交付之日起计算。")
    expect(slip.locator(".verdict")).to_have_text(re.compile("supported"))


@needs_chromium
def test_a_citation_opens_the_surrounding_text_with_the_quote_marked(desk: Desk) -> None:
    desk.upload_until_ready("手册.txt", MANUAL)
    turn = desk.ask_until_answered(ASK_WARRANTY)
    turn.locator(".mark").first.click()
    quote = turn.locator("blockquote").text_content()
    turn.get_by_role("button", name="Read in context").click()
    reader = desk.page.get_by_role("dialog")
    expect(reader.locator("mark")).to_have_text(quote)
    expect(reader).to_contain_text("电源适配器的输出为十二伏。")
    expect(reader).not_to_contain_text("星河路由器使用手册")
    reader.get_by_role("button", name="Earlier text").click()
    expect(reader).to_contain_text("星河路由器使用手册")
    expect(reader.locator("mark")).to_have_text(quote)
    desk.page.keyboard.press("Escape")
    expect(reader).to_be_hidden()


@needs_chromium
def test_a_document_that_changed_since_is_shown_without_a_mark_and_says_so(desk: Desk) -> None:
    serve_answer(desk, sse(("done", answer_with("One. [1]", [citation(1, 0, 8, quote="old words")]))))
    newer = {"text": "New words entirely.", "char_start": 0, "char_end": 19, "total_chars": 19, "version": 2}
    desk.page.route("**/v1/documents/*/text?*", lambda route: route.fulfill(json=newer))
    turn = desk.ask_until_answered("One?")
    turn.locator(".mark").click()
    turn.get_by_role("button", name="Read in context").click()
    reader = desk.page.get_by_role("dialog")
    expect(reader).to_contain_text("The document has changed since this answer")
    expect(reader).to_contain_text("New words entirely.")
    expect(reader.locator("mark")).to_have_count(0)


@needs_chromium
def test_offsets_count_characters_and_not_utf16_units(desk: Desk) -> None:
    answer = answer_with(
        "😀😀甲是一。[1]乙是二。[2]",
        [citation(1, 0, 9, quote="甲是一。"), citation(2, 9, 16, quote="乙是二。")],
    )
    serve_answer(desk, sse(("done", answer)))
    turn = desk.ask_until_answered("甲和乙是几？")
    assert turn.locator(".sentence").all_text_contents() == ["😀😀甲是一。[1]", "乙是二。[2]"]


@needs_chromium
def test_a_mark_that_returns_under_another_sentence_opens_that_sentence_s_quote(desk: Desk) -> None:
    answer = answer_with(
        "One.[1] Two.[1]", [citation(1, 0, 7, quote="first quote"), citation(1, 8, 15, quote="second quote")]
    )
    serve_answer(desk, sse(("done", answer)))
    turn = desk.ask_until_answered("One or two?")
    turn.locator(".mark").nth(1).click()
    expect(turn.locator("blockquote")).to_have_text("second quote")


@needs_chromium
def test_a_number_in_brackets_that_no_citation_has_stays_text(desk: Desk) -> None:
    serve_answer(desk, sse(("done", answer_with("See figure [7]. [1]", [citation(1, 0, 19)]))))
    turn = desk.ask_until_answered("Which figure?")
    assert turn.locator(".mark").all_text_contents() == ["[1]"]
    expect(turn.locator(".text")).to_have_text("See figure [7]. [1]")


@needs_chromium
def test_the_keyboard_alone_asks_opens_a_citation_and_closes_it(desk: Desk) -> None:
    desk.upload_until_ready("手册.txt", MANUAL)
    question = desk.page.get_by_label("Your question")
    question.fill(ASK_WARRANTY)
    question.press("Enter")
    mark = desk.page.locator(".mark").first
    expect(mark).to_be_visible(timeout=PATIENCE_MS)
    mark.focus()
    desk.page.keyboard.press("Enter")
    expect(mark).to_have_attribute("aria-expanded", "true")
    desk.page.get_by_label("Citation 1").get_by_role("button", name="Close").press("Enter")
    expect(mark).to_have_attribute("aria-expanded", "false")
    expect(mark).to_be_focused()


@needs_chromium
def test_a_refusal_is_shown_as_such_with_its_reason(desk: Desk) -> None:
    desk.upload_until_ready("手册.txt", MANUAL)
    turn = desk.ask(ASK_FOREIGN)
    expect(turn).to_have_attribute("data-outcome", "refused", timeout=PATIENCE_MS)
    expect(turn.locator(".refusal")).to_have_text("Not answered")
    expect(turn).to_contain_text(re.compile("Nothing in this knowledge base|do not suffice|did not stand up"))
    expect(turn.locator(".mark")).to_have_count(0)


@needs_chromium
def test_a_question_the_service_rejects_shows_title_and_detail_of_the_problem(desk: Desk) -> None:
    turn = desk.ask("长" * 8_001)
    expect(turn).to_have_attribute("data-outcome", "error")
    expect(turn.locator(".problem strong")).not_to_be_empty()
    expect(turn.locator(".problem p").first).not_to_be_empty()


@needs_chromium
def test_an_error_in_the_stream_replaces_the_draft_with_the_problem(desk: Desk) -> None:
    problem = {"title": "Generator too slow", "detail": "It said nothing for 60 seconds.", "status": 504}
    serve_answer(desk, sse(("delta", {"text": "A draft nobody checked"}), ("error", problem)))
    turn = desk.ask("Anything?")
    expect(turn.locator(".problem")).to_contain_text("Generator too slow")
    expect(turn.locator(".problem")).to_contain_text("It said nothing for 60 seconds.")
    expect(turn).not_to_contain_text("A draft nobody checked")


@needs_chromium
def test_a_stream_that_breaks_off_before_the_check_is_an_error_and_no_answer(desk: Desk) -> None:
    serve_answer(desk, sse(("delta", {"text": "A draft nobody checked"})))
    turn = desk.ask("Anything?")
    expect(turn).to_have_attribute("data-outcome", "error")
    expect(turn).not_to_contain_text("A draft nobody checked")


@needs_chromium
def test_a_question_can_be_stopped(desk: Desk) -> None:
    desk.page.route("**/v1/answers", lambda route: None)  # a service that never answers
    turn = desk.ask("Anything?")
    desk.page.get_by_role("button", name="Stop").click()
    expect(turn).to_have_attribute("data-outcome", "stopped")
    expect(desk.page.get_by_role("button", name="Ask", exact=True)).to_be_visible()


@needs_chromium
def test_the_conversation_goes_on_until_a_new_one_is_begun(desk: Desk) -> None:
    desk.upload_until_ready("手册.txt", MANUAL)
    bodies: list[dict[str, Any]] = []
    desk.page.on("request", lambda one: bodies.append(one.post_data_json) if "/v1/answers" in one.url else None)
    desk.ask_until_answered(ASK_WARRANTY)
    desk.ask_until_answered(ASK_SERIAL)
    desk.page.get_by_role("button", name="New conversation").click()
    expect(desk.page.locator("#log > li")).to_have_count(0)
    desk.ask_until_answered(ASK_WARRANTY)
    assert [bool(body.get("conversation_id")) for body in bodies] == [False, True, False]


@needs_chromium
def test_document_text_with_markup_is_shown_as_text(desk: Desk) -> None:
    desk.upload_until_ready("手册.txt", MANUAL)
    turn = desk.ask_until_answered(ASK_SERIAL)
    turn.locator(".mark").first.click()
    turn.get_by_role("button", name="Read in context").click()
    expect(desk.page.get_by_role("dialog")).to_contain_text('<img src=x onerror="window.attacked = true">')
    assert desk.page.locator("img").count() == 0
    assert desk.page.evaluate("window.attacked") is None


@needs_chromium
def test_each_bad_file_says_why_and_the_good_ones_go_on(desk: Desk) -> None:
    desk.upload_until_ready("first.txt", "The pump is serviced every spring.")
    desk.upload(
        ("again.txt", b"The pump is serviced every spring."),
        ("tool.exe", b"MZ\x90\x00\x03\x00\x00\x00\xff\xff\x00\x00"),
        ("good.txt", b"The boiler is serviced every autumn."),
    )
    expect(desk.upload_row("again.txt")).to_contain_text("Already here")
    expect(desk.upload_row("tool.exe")).to_contain_text("Not accepted")
    expect(desk.upload_row("tool.exe").locator(".problem p").first).not_to_be_empty()
    expect(desk.document("good.txt")).to_contain_text("Ready", timeout=PATIENCE_MS)


@needs_chromium
def test_a_document_that_cannot_be_read_shows_its_problem(desk: Desk) -> None:
    desk.upload(("broken.txt", b"\x00\xff\xfe\x81\x00\x00\x9d\x8f" * 64))
    said = desk.page.locator("#documents > li, #uploads > li").filter(has_text="broken.txt")
    expect(said).to_contain_text(re.compile("Failed|Not accepted"), timeout=PATIENCE_MS)
    expect(said.locator(".problem")).not_to_be_empty()


@needs_chromium
def test_a_document_is_deleted_only_after_it_was_confirmed(desk: Desk) -> None:
    desk.upload_until_ready("手册.txt", MANUAL)
    desk.page.once("dialog", lambda dialog: dialog.dismiss())
    desk.page.get_by_role("button", name="Delete 手册.txt").click()
    expect(desk.document("手册.txt")).to_have_count(1)
    desk.page.once("dialog", lambda dialog: dialog.accept())
    desk.page.get_by_role("button", name="Delete 手册.txt").click()
    expect(desk.document("手册.txt")).to_have_count(0)


@needs_chromium
def test_files_can_be_dropped(desk: Desk) -> None:
    transfer = desk.page.evaluate_handle(
        "() => { const all = new DataTransfer(); all.items.add(new File(['Dropped.'], 'dropped.txt')); return all; }"
    )
    desk.page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(desk.document("dropped.txt")).to_contain_text("Ready", timeout=PATIENCE_MS)


@needs_chromium
def test_a_service_that_wants_a_key_is_given_one(browser: Any, page_server: str) -> None:
    desk = Desk(browser, page_server)
    desk.page.route("**/v1/**", only_with_key("yj_right"))
    desk.page.goto(page_server)
    key = desk.page.get_by_role("textbox", name="API key")
    expect(key).to_be_focused()
    expect(desk.page.locator("#desk")).to_be_hidden()
    key.fill("yj_wrong")
    key.press("Enter")
    expect(desk.page.get_by_text("The service did not accept this key")).to_be_visible()
    key.fill("yj_right")
    key.press("Enter")
    expect(desk.page.locator("#desk")).to_be_visible()
    expect(key).to_be_hidden()
    desk.context.close()


@needs_chromium
def test_the_page_speaks_the_language_of_the_browser_and_switches(browser: Any, page_server: str) -> None:
    desk = Desk(browser, page_server)
    desk.context.close()
    context = browser.new_context(locale="zh-CN")
    page = context.new_page()
    page.goto(page_server)
    expect(page.get_by_role("button", name="提问", exact=True)).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("button", name="Ask", exact=True)).to_be_visible()
    context.close()


@needs_chromium
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen(desk: Desk, width: int) -> None:
    desk.page.set_viewport_size({"width": width, "height": 800})
    desk.upload_until_ready("a-file-name-without-any-space-that-would-let-it-break-" * 3 + ".txt", MANUAL)
    turn = desk.ask_until_answered(ASK_WARRANTY)
    turn.locator(".mark").first.click()
    assert desk.page.evaluate("document.documentElement.scrollWidth") <= width


@needs_chromium
def test_a_whole_visit_has_no_console_error_and_asks_no_other_origin(desk: Desk) -> None:
    desk.upload_until_ready("手册.txt", MANUAL)
    turn = desk.ask_until_answered(ASK_SERIAL)
    turn.locator(".mark").first.click()
    turn.get_by_role("button", name="Read in context").click()
    expect(desk.page.get_by_role("dialog").locator("mark")).to_be_visible()
    desk.page.keyboard.press("Escape")
    desk.page.get_by_role("button", name="中文").click()
    assert desk.console_errors == []
    assert {origin(address) for address in desk.addresses} == {desk.base_url}


def origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def only_with_key(key: str) -> Any:
    unauthenticated = {"title": "A valid API key is needed", "detail": "Send one.", "status": 401}

    def answer(route: Any) -> None:
        if route.request.headers.get("authorization") == f"Bearer {key}":
            route.continue_()
        else:
            route.fulfill(status=401, content_type="application/problem+json", body=json.dumps(unauthenticated))

    return answer


def serve_answer(desk: Desk, body: str) -> None:
    """The page's next questions are answered with these events, whatever the service behind is."""
    desk.page.route("**/v1/answers", lambda route: route.fulfill(content_type="text/event-stream", body=body))


def sse(*events: tuple[str, dict[str, Any]]) -> str:
    return "".join(f"event: {name}\r\ndata: {json.dumps(data, ensure_ascii=False)}\r\n\r\n" for name, data in events)


def answer_with(text: str, citations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "a-1",
        "conversation_id": "c-1",
        "outcome": "answered",
        "refusal": None,
        "text": text,
        "language": "zh",
        "citations": citations,
        "generator": "extractive",
        "timings_ms": {"total": 300},
    }


def citation(marker: int, answer_start: int, answer_end: int, quote: str = "quote") -> dict[str, Any]:
    return {
        "marker": marker,
        "document_id": "d-1",
        "document_version": 1,
        "filename": "file.txt",
        "chunk_id": "k-1",
        "page": None,
        "char_start": 0,
        "char_end": len(quote),
        "quote": quote,
        "answer_start": answer_start,
        "answer_end": answer_end,
        "verdict": "supported",
        "score": 0.9,
    }
