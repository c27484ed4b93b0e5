"""s54: settings from a file and the environment: which wins, and what an error names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from patches.errors import InvalidRequestError
from patches.limits import Limits
from patches.testing.server_process import ServerProcess
from patches_server.cli.config import Settings, settings_for
from patches_server.cli.main import _parser, main


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(*given: str, file: str | None = None, **environment: str) -> Any:
    if file is not None:
        Path("patches-server.toml").write_text(file)
    return settings_for(_parser(), given, environment)


def test_an_option_wins_over_the_environment_over_the_file_over_the_default() -> None:
    file = 'port = 1\nhost = "a"\nstore = "memory:"\nroute = ["f/*=lww"]\npage = false\n'
    options, limits = settings(
        "--port", "3", file=file, PATCHES_SERVER_HOST="b", PATCHES_SERVER_PORT="2"
    )
    assert (options.port, options.host, options.store, options.bus) == (3, "b", "memory:", None)
    assert (options.routes, options.no_page, options.no_relay) == ([("f/*", "lww")], True, False)
    assert limits is None
    given = ("--route", "g/*=lww")
    assert settings(*given)[0].routes == [("g/*", "lww")]
    assert settings(PATCHES_SERVER_ROUTE="x/*=lww y/*=ot")[0].routes == [
        ("x/*", "lww"),
        ("y/*", "ot"),
    ]
    assert settings(PATCHES_SERVER_PAGE="true")[0].no_page is False
    Path("other.toml").write_text("port = 7\n")
    assert settings("--config", "other.toml")[0].port == 7
    assert settings(PATCHES_SERVER_CONFIG="other.toml")[0].port == 7


def test_secrets_come_from_files_and_are_masked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("postgresql://ann:hunter2@db/docs\n")
    options, _ = settings(file='store_file = "secret"\n')
    assert options.store == "postgresql://ann:hunter2@db/docs"
    assert settings(PATCHES_SERVER_STORE_FILE=str(tmp_path / "secret"))[0].store == options.store
    for name in ("PATCHES_SERVER_STORE", "PATCHES_SERVER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert main(["config", "show", "--port", "9"]) == 0
    shown = capsys.readouterr().out
    assert "hunter2" not in shown
    assert tomllib.loads(shown)["port"] == 9


def test_limits_are_a_table() -> None:
    _, limits = settings(file="[limits]\nmax_doc_bytes = 5_000_000\nheartbeat_s = 10\n")
    assert limits == Limits(max_doc_bytes=5_000_000, heartbeat_s=10)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("\nprot = 1\n", "patches-server.toml:2: unknown key 'prot'; did you mean 'port'?"),
        ('port = "x"\n', "patches-server.toml:1: a port is a number from 0 to 65535: 'x'"),
        ("port = [1]\n", "patches-server.toml:1: port is a text or a number"),
        ("port = true\n", "patches-server.toml:1: port is a text or a number"),
        ('page = "no"\n', "patches-server.toml:1: page is true or false"),
        ('route = "a=lww"\n', "patches-server.toml:1: route is a list of texts"),
        ('route = ["a"]\n', "patches-server.toml:1: "),
        ('durability = "maybe"\n', "patches-server.toml:1: durability is full or relaxed"),
        ("#\n\n[limits]\nmax_doc_byte = 1\n", "patches-server.toml:4: unknown limit 'max_doc_by"),
        ("[limits]\nmax_doc_bytes = -1\n", "patches-server.toml:2: limits: max_doc_bytes"),
        ("limits = 3\n", "patches-server.toml:1: limits is a table: [limits]"),
        ("port = \n", "patches-server.toml: "),
        ('store_file = "gone"\n', "patches-server.toml:1: gone: No such file or directory"),
    ],
)  # fmt: skip
def test_s54_an_error_names_the_file_the_line_and_the_nearest_key(
    file: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(said)):
        settings(file=file)
    assert main(["--store", "memory:"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"patches-server: {said}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PATCHES_SERVER_PORT", "x", "PATCHES_SERVER_PORT: a port is a number"),
        ("PATCHES_SERVER_PAGE", "maybe", "PATCHES_SERVER_PAGE: page is true or false"),
        ("PATCHES_SERVER_STORE_FILE", "gone", "PATCHES_SERVER_STORE_FILE: gone: No such file"),
        ("PATCHES_SERVER_CONFIG", "gone.toml", "--config: gone.toml: No such file"),
    ],
)
def test_an_error_names_the_variable(name: str, value: str, said: str) -> None:
    with pytest.raises(InvalidRequestError, match=re.escape(said)):
        settings(**{name: value})


async def test_s54_the_file_of_init_config_edited_starts_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init-config"]) == 0
    assert capsys.readouterr().out == "patches-server.toml\n"
    assert main(["init-config"]) == 1
    assert capsys.readouterr().err == "patches-server: patches-server.toml exists\n"
    path = tmp_path / "patches-server.toml"
    text = path.read_text()
    assert set(re.findall(r"(?m)^#(\w+) = ", text)) >= set(Settings(_parser()).actions)
    path.write_text(re.sub(r"(?m)^#(metrics) = false", r"\1 = true", text))
    assert settings()[0].metrics is True
    everything = tmp_path / "everything.toml"
    everything.write_text(
        re.sub(r"(?m)^#(?!store|actions|collections|auth|bus|log_format)(\w+ = )", r"\1", text)
    )
    assert settings("--config", str(everything))[0].port == 8000
    server = ServerProcess("memory:", options=("--config", str(path)))
    await server.start()
    await server.kill()


def test_a_missing_folder_is_an_error_unless_it_may_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = f"sqlite:////{str(tmp_path)[1:]}/deep/er/docs.db"
    assert main(["--store", store, "--port", "0"]) == 1
    said = f"there is no folder {tmp_path}/deep/er; --create-dirs makes it\n"
    assert capsys.readouterr().err.endswith(said)
    assert not (tmp_path / "deep").exists()
