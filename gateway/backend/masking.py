"""Redis URLs as they may be shown."""

from __future__ import annotations

import re


def masked_url(url: str) -> str:
    """`url` with its password replaced by ``***``, also one in the query or not percent-encoded."""
    url = re.sub(r"(://[^:/?#@]*:)[^?#]*@", r"\1***@", url)
    return re.sub(r"([?&][a-z_]*password=)[^&#]*", r"\1***", url)
