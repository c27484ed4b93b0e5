"""Runs ours and the peers side by side and prints the table: `python -m benchmarks.peers.table`.

One server process and one load process per run; the peers of a workload take turns (A B C, A B C),
so that a machine whose speed drifts treats all alike. Every figure is the median of the runs, with
the smallest and the largest beside it; a ratio above 1 means that ours is better.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TIMEOUT_S = 120
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A server and the clients that load it."""

    server: str
    client: str
    node: bool = False
    params: Figures = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


OURS = "ours"
PEERS: dict[str, Peer] = {
    OURS: Peer(server="ours", client="ours"),
    "ours-uvloop": Peer(
        server="ours", client="ours", needs=("uvloop",), env={"PATCHES_BENCH_UVLOOP": "1"}
    ),
    "ours-sqlite": Peer(server="ours", client="ours", params={"durability": "relaxed"}),
    "ours-sqlite-full": Peer(server="ours", client="ours", params={"durability": "full"}),
    "sharedb": Peer(server="sharedb", client="sharedb", node=True, needs=("sharedb", "ot-json1")),
    "hocuspocus": Peer(
        server="hocuspocus", client="hocuspocus", node=True, needs=("@hocuspocus/server", "yjs")
    ),
    "pycrdt": Peer(
        server="pycrdt_peer", client="pycrdt_peer", needs=("pycrdt", "pycrdt.websocket")
    ),
    "bare": Peer(server="bare", client="ours"),
    "bare-sqlite": Peer(server="bare", client="ours", params={"durability": "relaxed"}),
    "bare-sqlite-full": Peer(server="bare", client="ours", params={"durability": "full"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One workload: who takes part, and which figures the table shows."""

    title: str
    workload: str
    peers: tuple[str, ...]
    figures: tuple[str, ...]
    params: Figures = field(default_factory=dict)
    quick: bool = False
    #: Runs that take long are made once.
    once: bool = False


ALL = (OURS, "sharedb", "hocuspocus", "pycrdt")
COMMITS = ("commits_per_s", "server_cpu_s_per_1000", "client_cpu_s_per_1000", "p50_ms")
#: What a larger figure of is better; of everything else a smaller one is.
MORE_IS_BETTER = frozenset({"commits_per_s", "deliveries_per_s"})
ROWS = (
    Row(title="W1-json", workload="W1", peers=ALL, figures=COMMITS, quick=True),
    Row(
        title="W1-text",
        workload="W1",
        peers=ALL,
        figures=COMMITS,
        params={"kind": "text"},
        quick=True,
    ),
    Row(title="W2", workload="W2", peers=(*ALL, "ours-uvloop"), figures=COMMITS),
    Row(
        title="W2 on paths of their own",
        workload="W2",
        peers=(OURS, "bare", "ours-sqlite", "bare-sqlite", "ours-sqlite-full", "bare-sqlite-full"),
        figures=COMMITS,
        params={"kind": "counter"},
        quick=True,
    ),
    Row(
        title="W3-500",
        workload="W3",
        peers=(OURS, "sharedb", "hocuspocus", "bare"),
        figures=("server_us_per_delivery", "one_to_all_p50_ms", "deliveries_per_s"),
        params={"subscribers": 500, "subs": 500, "burst": 40, "rounds": 20},
    ),
    Row(
        title="W4-100k",
        workload="W4",
        peers=("ours-sqlite-full", "sharedb", "hocuspocus"),
        figures=("cold_open_ms", "warm_open_ms", "open_bytes", "server_rss_mb"),
        params={"count": 100_000, "n": 100_000},
        once=True,
    ),
    Row(
        title="W7",
        workload="W7",
        peers=(OURS, "sharedb", "hocuspocus"),
        figures=("kib_per_idle_connection", "kib_per_open_doc"),
        once=True,
    ),
    Row(
        title="W8-1k",
        workload="W8",
        peers=ALL,
        figures=("converge_ms", "server_cpu_s", "client_cpu_s", "longest_turn_ms"),
        params={"pending": 1000, "pend": 1000},
        quick=True,
    ),
    Row(
        title="W8-10k",
        workload="W8",
        peers=(OURS, "sharedb", "hocuspocus"),
        figures=("converge_ms", "server_cpu_s", "client_cpu_s", "longest_turn_ms"),
        params={"pending": 10_000, "pend": 10_000, "limit": 60_000},
        once=True,
    ),
)


def installed(peer: Peer) -> bool:
    """Whether all that a peer needs is there."""
    if peer.node:
        modules = node_modules()
        return (
            modules is not None
            and shutil.which("node") is not None
            and all((modules / name).exists() for name in peer.needs)
        )
    return all(importlib.util.find_spec(name) is not None for name in peer.needs)


def node_modules() -> Path | None:
    """Where the JavaScript peers are, if they are."""
    folder = Path(os.environ.get("PATCHES_BENCH_NODE", ROOT / ".benchmarks")) / "node_modules"
    return folder if folder.is_dir() else None


def once(name: str, row: Row) -> Figures:
    """One run: a fresh server, its load, and what the load reports."""
    peer = PEERS[name]
    folder = tempfile.mkdtemp(prefix="patches-bench-")
    params: Figures = {"dir": folder, **peer.params}
    if row.workload == "W4":
        params["seed"] = {"doc": "w4", "count": row.params["count"], "n": row.params["count"]}
        params["durable"] = True
    server, ready = _start(peer, params)
    try:
        load = {**row.params, "pid": ready["pid"]}
        url = f"ws://127.0.0.1:{ready['port']}"
        return _load(peer, url, row.workload, load)
    except subprocess.TimeoutExpired:
        return {"error": f"no end within {TIMEOUT_S} s"}
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _environment(peer: Peer) -> dict[str, str]:
    modules = node_modules()
    home = {"PATCHES_BENCH_NODE": str(modules.parent)} if modules else {}
    return {**os.environ, **home, **peer.env}


def _start(peer: Peer, params: Figures) -> tuple[subprocess.Popen[str], Figures]:
    given = json.dumps(params)
    if peer.node:
        command = ["node", "serve.mjs", "--server", peer.server, "--params", given]
    else:
        command = [sys.executable, "-m", "benchmarks.peers.serve", peer.server, given]
    process = subprocess.Popen(
        command,
        cwd=HERE / "node" if peer.node else ROOT,
        env=_environment(peer),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{") and "ready" in line:
            ready: Figures = json.loads(line)
            return process, ready
    raise RuntimeError(f"the server did not start: {' '.join(command)}")


def _load(peer: Peer, url: str, workload: str, params: Figures) -> Figures:
    given = json.dumps(params)
    if peer.node:
        command = ["node", "load.mjs", "--client", peer.client, "--url", url]
        command += ["--workload", workload, "--params", given]
    else:
        command = [sys.executable, "-m", "benchmarks.peers.workloads"]
        command += [peer.client, url, workload, given]
    done = subprocess.run(
        command,
        cwd=HERE / "node" if peer.node else ROOT,
        env=_environment(peer),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    figures: Figures = json.loads(lines[-1]) if lines else {"error": done.stderr[-300:] or "silent"}
    return figures


def is_bad(run: Figures) -> bool:
    """Whether a run failed, did not drain, or left copies that differ."""
    return "error" in run or run.get("drained") is False or run.get("converged") is False


def lines_of(row: Row, runs: dict[str, list[Figures]], base: str) -> Iterator[str]:
    """The rows of the table for one workload."""
    for name, mine in runs.items():
        good = [run for run in mine if not is_bad(run)]
        cells = []
        for figure in row.figures:
            values = [run[figure] for run in good if run.get(figure) is not None]
            if not values:
                cells.append("-")
                continue
            middle = statistics.median(values)
            spread = f" ({min(values):g}-{max(values):g})" if len(values) > 1 else ""
            cells.append(
                f"{middle:g}{spread}{_ratio(figure, middle, runs.get(base, []), name, base)}"
            )
        bad = f" bad: {len(mine) - len(good)} of {len(mine)}" if len(good) < len(mine) else ""
        yield f"| {row.title} | {name}{bad} | " + " | ".join(cells) + " |"


def _ratio(figure: str, middle: float, base_runs: list[Figures], name: str, base: str) -> str:
    values = [run[figure] for run in base_runs if not is_bad(run) and run.get(figure) is not None]
    if name == base or not values or not middle:
        return ""
    ours = statistics.median(values)
    ratio = ours / middle if figure in MORE_IS_BETTER else (middle / ours if ours else 0)
    return f" x{ratio:.2f}"


def main(arguments: Sequence[str], out: IO[str] = sys.stdout) -> None:
    """Run and print; `arguments` are words that a workload's title must start with."""
    quick = bool(os.environ.get("QUICK"))
    repetitions = 1 if quick else int(os.environ.get("REPETITIONS", "3"))
    missing = [name for name, peer in PEERS.items() if not installed(peer)]
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}", file=out)
    print(f"{os.cpu_count()} processors, {repetitions} run(s) of each, medians", file=out)
    if missing:
        print(f"not installed: {', '.join(missing)}; see benchmarks/peers/README.md", file=out)
    for row in ROWS:
        if arguments and not any(row.title.startswith(word) for word in arguments):
            continue
        if quick and not row.quick and not arguments:
            continue
        names = [name for name in row.peers if name not in missing]
        runs: dict[str, list[Figures]] = {name: [] for name in names}
        for repetition in range(1 if row.once else repetitions):
            for name in names:
                print(f"  {row.title}: {name}, run {repetition + 1}", file=sys.stderr, flush=True)
                runs[name].append(once(name, row))
        print(f"\n| workload | peer | {' | '.join(row.figures)} |", file=out)
        print("| --- " * (len(row.figures) + 2) + "|", file=out)
        for line in lines_of(row, runs, names[0]):
            print(line, file=out, flush=True)
        for name in names:
            for run in runs[name]:
                if "error" in run:
                    print(f"  {name}: {run['error']}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
