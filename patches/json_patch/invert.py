from typing import Any


def invert_patch(*args: Any, **kw: Any) -> Any:
    raise NotImplementedError
