"""`python -m benchmarks [WORD ...]`: run the benchmarks whose name has one of the words."""

from __future__ import annotations

import importlib
import pkgutil
import platform
import sys

import benchmarks
from benchmarks.harness import table


def main(words: list[str]) -> None:
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name in ("__main__", "harness") or not _wanted(module.name, words):
            continue
        loaded = importlib.import_module(f"benchmarks.{module.name}")
        if hasattr(loaded, "workloads"):
            print(f"\n== {module.name}")
            for line in table(loaded.workloads()):
                print(line, flush=True)


def _wanted(name: str, words: list[str]) -> bool:
    return not words or any(word in name for word in words)


if __name__ == "__main__":
    main(sys.argv[1:])
