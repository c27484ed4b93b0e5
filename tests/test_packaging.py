"""The version that is installed is the one that the packages name."""

from __future__ import annotations

from importlib.metadata import version

import pytest

import patches
import patches_server
from patches_server.cli.main import main


def test_the_version_is_that_of_the_distribution() -> None:
    assert patches.__version__ == patches_server.__version__ == version("patches-sync")


def test_the_command_names_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"patches-server {patches.__version__}\n"
