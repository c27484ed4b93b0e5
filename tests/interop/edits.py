"""The documents and the operations of the scenarios."""

from __future__ import annotations

from typing import Any

from patches.model.json_values import Op

DOC = "plan"
LWW = "lww/plan"


def root(**value: Any) -> Op:
    return {"op": "replace", "path": "", "value": value}


def typed(*delta: Op, path: str = "/text") -> Op:
    return {"op": "@txt", "path": path, "value": list(delta)}


def put(path: str, value: Any) -> Op:
    return {"op": "replace", "path": path, "value": value}


def append(path: str, value: Any) -> Op:
    return {"op": "add", "path": f"{path}/-", "value": value}


def start_text(text: str = "") -> Any:
    return {"ops": [{"insert": f"{text}\n"}]}
