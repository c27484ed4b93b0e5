"""What the applications of this folder read and write in HTTP headers."""

from __future__ import annotations

from typing import Final

#: Each says that a request came through a proxy.
PROXY_HEADERS: Final = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")
#: What a header holds as it is, beside letters and digits.
READABLE: Final = " !#$&'()*+,-./:;<=>?@[]^_`{|}~\""
