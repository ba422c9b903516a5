"""What Dockerfile, compose.yaml and .dockerignore promise, read from the files themselves; no Docker is needed."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_service import config
from rag_service.bootstrap import open_storage
from rag_service.config import Settings
from rag_service.intake import Incoming

ROOT = Path(__file__).parents[1]
SERVICES = ("service", "worker")
SECRET = re.compile(r"key|secret|token|password|passwd|credential", re.IGNORECASE)


@dataclass(frozen=True)
class Instruction:
    stage: int
    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        return json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)


def dockerfile() -> list[Instruction]:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    code = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    stage, found = -1, []
    for line in code.replace("\\\n", " ").splitlines():
        if line.strip():
            name, rest = line.split(maxsplit=1)
            stage += name == "FROM"
            found.append(Instruction(stage, name, rest))
    return found


def of_final_stage(name: str) -> list[Instruction]:
    found = dockerfile()
    return [one for one in found if one.name == name and one.stage == found[-1].stage]


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def environment_of_image() -> dict[str, str]:
    pairs = [word.split("=", 1) for one in of_final_stage("ENV") for word in one.words]
    return dict(pairs)


def copied_from_repository() -> Iterator[str]:
    for one in dockerfile():
        if one.name == "COPY" and not one.rest.startswith("--from="):
            yield from one.words[:-1]


# The image


def test_every_base_image_has_a_version() -> None:
    bases = [one.words[0] for one in dockerfile() if one.name == "FROM"]
    assert bases
    assert all(re.fullmatch(r"[\w./-]+:\d[\w.-]*", base) for base in bases)


def test_the_image_s_python_is_one_the_project_supports() -> None:
    least = tuple(map(int, pyproject()["project"]["requires-python"].removeprefix(">=").split(".")))
    versions = [re.match(r"python:(\d+)\.(\d+)", one.rest) for one in dockerfile() if one.name == "FROM"]
    assert all(version and (int(version[1]), int(version[2])) >= least for version in versions)


def test_the_image_runs_as_an_unprivileged_user() -> None:
    (user,) = of_final_stage("USER")
    assert user.words == ["10001:10001"]


def test_the_data_folder_belongs_to_that_user_before_it_becomes_a_volume() -> None:
    names = [(one.name, one.rest) for one in dockerfile()]
    volume = names.index(("VOLUME", "/data"))
    created = next(at for at, (name, rest) in enumerate(names) if name == "RUN" and "--owner=10001" in rest)
    assert created < volume


def test_no_secret_is_baked_into_the_image() -> None:
    baked = [one for one in dockerfile() if one.name in ("ENV", "ARG")]
    assert baked
    assert not [one.rest for one in baked if SECRET.search(one.rest)]


def test_the_image_writes_no_bytecode_and_keeps_blas_to_one_thread() -> None:
    environment = environment_of_image()
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert environment["OPENBLAS_NUM_THREADS"] == "1"


def test_every_setting_in_the_image_is_one_the_service_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of_image().items():
        if name.startswith("YOUJU_"):
            monkeypatch.setenv(name, value)
    assert str(config.load().data) == "/data"


@pytest.mark.parametrize("source", sorted(set(copied_from_repository())))
def test_what_the_build_copies_is_in_the_repository_and_not_ignored(source: str) -> None:
    assert (ROOT / source).exists()
    assert f"!{source}" in (ROOT / ".dockerignore").read_text("utf-8").splitlines()


def test_the_build_sees_nothing_that_was_not_named() -> None:
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert rules[0] == "*"
    assert allowed == set(copied_from_repository())


def test_every_package_of_the_project_is_copied() -> None:
    wanted = {name.rstrip("*") for name in pyproject()["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert wanted <= set(copied_from_repository())


def test_dependencies_are_installed_at_the_versions_that_were_tested() -> None:
    installs = [one.rest for one in dockerfile() if one.name == "RUN" and "pip install" in one.rest]
    assert all("--constraint constraints.txt" in rest or "--no-deps" in rest for rest in installs)


def test_the_entrypoint_is_the_project_s_console_script() -> None:
    (entrypoint,) = of_final_stage("ENTRYPOINT")
    assert entrypoint.words == list(pyproject()["project"]["scripts"])


def test_the_image_s_health_is_the_service_s_readiness() -> None:
    (check,) = of_final_stage("HEALTHCHECK")
    (port,) = of_final_stage("EXPOSE")
    assert f"http://127.0.0.1:{port.rest}/readyz" in check.rest


# The composition


def test_service_and_worker_are_one_image_of_this_version_over_one_volume() -> None:
    services = compose()["services"]
    assert set(services) == set(SERVICES)
    version = pyproject()["project"]["version"]
    assert {services[name]["image"] for name in SERVICES} == {f"youju:{version}"}
    assert {tuple(services[name]["volumes"]) for name in SERVICES} == {("data:/data",)}
    assert "data" in compose()["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_cannot_write_its_root_nor_gain_privileges(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert not {"privileged", "cap_add", "user", "pid", "ipc"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_restarts_is_reaped_and_gets_time_to_stop(name: str) -> None:
    service = compose()["services"][name]
    assert service["restart"] == "unless-stopped"
    assert service["init"] is True
    assert service["stop_grace_period"]
    assert service["healthcheck"]["test"][0] == "CMD"


def test_only_the_service_is_published_and_only_on_this_machine() -> None:
    services = compose()["services"]
    (port,) = services["service"]["ports"]
    assert port.startswith("${PUBLISH_ADDRESS:-127.0.0.1}:")
    assert "ports" not in services["worker"]
    assert services["worker"]["network_mode"] == "none"


def test_the_worker_starts_once_the_service_has_migrated_the_database() -> None:
    assert compose()["services"]["worker"]["depends_on"] == {"service": {"condition": "service_healthy"}}


def test_the_worker_is_not_waited_for_by_what_it_waits_for() -> None:
    probe = compose()["services"]["service"]["healthcheck"]["test"][-1]
    assert "/healthz" in probe
    assert "/readyz" not in probe


def test_no_secret_stands_in_the_composition() -> None:
    services = compose()["services"]
    assert not any(SECRET.search(str(services[name].get("environment", ""))) for name in SERVICES)


@pytest.mark.parametrize(("late_seconds", "exit_status"), [(-60, 0), (30, 0), (300, 1)])
def test_the_worker_is_unhealthy_once_nobody_takes_over_a_run_out_lease(
    tmp_path: Path, late_seconds: float, exit_status: int
) -> None:
    storage = open_storage(Settings(data=tmp_path))
    kb = storage.knowledge_bases.create("tenant", "plans", "")
    storage.intake.accept("tenant", kb.id, [Incoming("plan.txt", None, io.BytesIO(b"The pump is serviced."))])
    assert storage.jobs.claim("worker", lease_seconds=-late_seconds, limit=1)
    assert worker_health(tmp_path) == exit_status
    storage.close()


def worker_health(data: Path) -> int:
    check = compose()["services"]["worker"]["healthcheck"]["test"]
    assert check[:2] == ["CMD", "python"]
    run = run_python(check[2:], YOUJU_DATA=str(data))
    assert "Traceback" not in run.stderr
    return run.returncode


# The command line


def help_of(*command: str) -> str:
    run = run_python(["-m", "rag_service", *command, "--help"], NO_COLOR="1", TERM="dumb", COLUMNS="200")
    assert run.returncode == 0, run.stderr
    return run.stdout


def run_python(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


def commands() -> list[list[str]]:
    (in_image,) = of_final_stage("CMD")
    return [in_image.words, *(compose()["services"][name]["command"] for name in SERVICES)]


@pytest.mark.parametrize("words", commands(), ids=lambda words: words[0])
def test_a_container_s_command_exists_with_all_its_options(words: list[str]) -> None:
    assert re.search(rf"\b{words[0]}\b", help_of())
    said = help_of(words[0])
    assert all(option in said for option in words if option.startswith("--"))


def test_a_key_can_be_made_in_the_running_service() -> None:
    assert "create" in help_of("keys")


def test_image_and_composition_start_the_service_alike() -> None:
    (in_image,) = of_final_stage("CMD")
    assert compose()["services"]["service"]["command"] == in_image.words
