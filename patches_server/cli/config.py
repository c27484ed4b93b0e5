"""Settings of `patches-server` from a file and the environment, beside its options.

An option wins over the environment (`PATCHES_SERVER_PORT`), which wins over the file
(`patches-server.toml`), which wins over the default. All three become options of the one parser, so
they are checked alike; an error names the file and the line, or the variable.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from patches.errors import InvalidRequestError, PatchesError
from patches.limits import Limits
from patches_server.stores.url import without_password

DEFAULT_FILE: Final = "patches-server.toml"
#: The variable of a setting.
_VARIABLE: Final = "PATCHES_SERVER_{}"
#: Options that are no settings.
_APART: Final = frozenset({"help", "version", "config"})
_TRUE: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, and where it comes from: `patches-server.toml:3`, or a variable."""

    key: str
    value: Any
    where: str


class Settings:
    """What a parser's options are called elsewhere: `--no-page` is `page = false`."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.actions: dict[str, argparse.Action] = {}
        self._negated: set[str] = set()
        for action in parser._actions:
            name = max(action.option_strings, key=len).removeprefix("--")
            if name in _APART:
                continue
            if name.startswith("no-"):
                name = name.removeprefix("no-")
                self._negated.add(name.replace("-", "_"))
            self.actions[name.replace("-", "_")] = action

    def arguments(self, settings: Sequence[Setting], given: Sequence[str]) -> list[str]:
        """The settings as options, before those that were given. A later setting of a key replaces
        an earlier one, and what was given replaces both. Raises `InvalidRequestError`.
        """
        last: dict[str, Setting] = {}
        for setting in settings:
            last[setting.key] = setting
        found: list[str] = []
        for key, setting in last.items():
            option = max(self.actions[key].option_strings, key=len)
            if _is_list(self.actions[key]) and any(
                each == option or each.startswith(f"{option}=") for each in given
            ):
                continue
            found += self._option(option, setting)
        return [*found, *given]

    def _option(self, option: str, setting: Setting) -> Iterator[str]:
        action, key = self.actions[setting.key], setting.key
        if action.nargs == 0:
            if not isinstance(setting.value, bool):
                raise InvalidRequestError(f"{setting.where}: {key} is true or false")
            if setting.value != (key in self._negated):
                yield option
            return
        values = setting.value if _is_list(action) else [setting.value]
        if not isinstance(values, list) or not all(_is_plain(each) for each in values):
            kind = "a list of texts" if _is_list(action) else "a text or a number"
            raise InvalidRequestError(f"{setting.where}: {key} is {kind}")
        for value in values:
            text = str(value)
            try:
                if callable(action.type):
                    action.type(text)
            except argparse.ArgumentTypeError as error:
                raise InvalidRequestError(f"{setting.where}: {error}") from None
            if action.choices is not None and text not in action.choices:
                known = " or ".join(map(str, action.choices))
                raise InvalidRequestError(f"{setting.where}: {key} is {known}, not {text!r}")
            yield f"{option}={text}"

    def from_environment(self, environment: Mapping[str, str]) -> Iterator[Setting]:
        """The settings in variables: lists are divided by spaces; `..._FILE` names a file that
        holds the value.
        """
        for key, action in self.actions.items():
            name = _VARIABLE.format(key.upper())
            text = environment.get(name)
            if text is None and (path := environment.get(f"{name}_FILE")):
                name = f"{name}_FILE"
                text = _read(Path(path), name).strip()
            if text is None:
                continue
            value: Any = text
            if action.nargs == 0:
                value = _TRUE.get(text.lower())
            elif _is_list(action):
                value = text.split()
            yield Setting(key, value, name)

    def from_file(self, path: Path) -> tuple[list[Setting], dict[str, Any]]:
        """The settings of a file, and its limits. Raises `InvalidRequestError`."""
        text = _read(path, "--config")
        try:
            found = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidRequestError(f"{path}: {error}") from None
        limits = found.pop("limits", {})
        if not isinstance(limits, dict):
            raise InvalidRequestError(f"{_at(path, text, 'limits')}: limits is a table: [limits]")
        settings = []
        for key, value in found.items():
            where, name = _at(path, text, key), key
            if key.endswith("_file") and key.removesuffix("_file") in self.actions:
                name = key.removesuffix("_file")
                value = _read(path.parent / str(value), where).strip()
            if name not in self.actions:
                known = [*self.actions, "limits"]
                raise InvalidRequestError(f"{where}: unknown key {key!r}{_nearest(key, known)}")
            settings.append(Setting(name, value, where))
        _check_limits(limits, path, text)
        return settings, limits

    def template(self) -> str:
        """A file with every setting, commented out, with its default and what it is."""
        lines = [
            "# Settings of patches-server. An option or PATCHES_SERVER_... wins over them.",
            "",
        ]
        for key, action in self.actions.items():
            lines += [f"# {line}" for line in _wrapped(_help(action))]
            lines += [f"#{key} = {_toml(self._default(key))}", ""]
        lines += [
            "[limits]",
            "# Sizes are bytes, times seconds. docs/limits.md says what each is for.",
        ]
        defaults = Limits()
        for field in dataclasses.fields(Limits):
            value = getattr(defaults, field.name)
            if value is not None:
                lines.append(f"#{field.name} = {_toml(value)}")
        return "\n".join(lines) + "\n"

    def _default(self, key: str) -> Any:
        action = self.actions[key]
        if action.nargs == 0:
            return key in self._negated
        return [] if _is_list(action) else action.default

    def shown(self, options: argparse.Namespace) -> str:
        """The settings in effect, as a file; secrets are masked."""
        lines = []
        for key, action in self.actions.items():
            value = getattr(options, action.dest)
            if key in self._negated:
                value = not value
            if key == "route":
                value = [f"{pattern}={algorithm}" for pattern, algorithm in value]
            if isinstance(value, str) and "://" in value:
                value = without_password(value)
            lines.append(f"# {key} is not set" if value is None else f"{key} = {_toml(value)}")
        return "\n".join(lines) + "\n"


def settings_for(
    parser: argparse.ArgumentParser, given: Sequence[str], environment: Mapping[str, str]
) -> tuple[argparse.Namespace, Limits | None]:
    """What the options, the environment and the file come to, and the limits of the file.

    Raises `InvalidRequestError` naming the file and the line, or the variable.
    """
    settings = Settings(parser)
    named, _ = _config_parser().parse_known_args(given)
    path = named.config or environment.get(_VARIABLE.format("CONFIG"))
    if path is None and Path(DEFAULT_FILE).is_file():
        path = DEFAULT_FILE
    from_file, limits = ([], {}) if path is None else settings.from_file(Path(path))
    all_settings = [*from_file, *settings.from_environment(environment)]
    options = parser.parse_args(settings.arguments(all_settings, given))
    return options, Limits(**limits) if limits else None


def run_init_config(parser: argparse.ArgumentParser, given: Sequence[str]) -> int:
    """Write a file with every setting."""
    options = argparse.ArgumentParser(
        prog="patches-server init-config", description="Write a file with every setting."
    )
    options.add_argument("file", metavar="FILE", nargs="?", default=DEFAULT_FILE, type=Path)
    path: Path = options.parse_args(given).file
    if path.exists():
        raise InvalidRequestError(f"{path} exists")
    path.write_text(Settings(parser).template(), "utf-8")
    sys.stdout.write(f"{path}\n")
    return 0


def run_config(parser: argparse.ArgumentParser, given: Sequence[str]) -> int:
    """`patches-server config show`: the settings in effect."""
    if not given or given[0] != "show":
        raise InvalidRequestError("the command is: patches-server config show [OPTIONS]")
    options, limits = settings_for(parser, given[1:], os.environ)
    sys.stdout.write(Settings(parser).shown(options))
    if limits is not None:
        sys.stdout.write("\n[limits]\n")
        defaults = Limits()
        for field in dataclasses.fields(Limits):
            value = getattr(limits, field.name)
            if value != getattr(defaults, field.name):
                sys.stdout.write(f"{field.name} = {_toml(value)}\n")
    return 0


def _config_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    return parser


def _check_limits(limits: Mapping[str, Any], path: Path, text: str) -> None:
    known = [field.name for field in dataclasses.fields(Limits)]
    for key, value in limits.items():
        where = _at(path, text, key)
        if key not in known:
            raise InvalidRequestError(f"{where}: unknown limit {key!r}{_nearest(key, known)}")
        try:
            Limits(**{key: value})
        except (PatchesError, TypeError) as error:
            raise InvalidRequestError(f"{where}: {error}") from None


def _read(path: Path, where: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidRequestError(f"{where}: {path}: {reason}") from None


def _at(path: Path, text: str, key: str) -> str:
    """Where a key stands in a file: `name.toml:3`."""
    pattern = re.compile(rf"\s*\[?\s*[\"']?{re.escape(key)}[\"']?\s*[\]=.]")
    for number, line in enumerate(text.splitlines(), 1):
        if pattern.match(line):
            return f"{path}:{number}"
    return str(path)


def _nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _is_list(action: argparse.Action) -> bool:
    return isinstance(action.default, list)


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _help(action: argparse.Action) -> str:
    return (action.help or "").replace("%(default)s", "the default").replace(" (the default)", "")


def _wrapped(text: str, width: int = 96) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    text = str(value if value is not None else "").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
