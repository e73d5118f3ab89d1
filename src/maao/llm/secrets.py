"""Names under which a credential hides: what bears one is neither stored nor taken from a config."""

from __future__ import annotations

import re

SECRETS = frozenset({
    "key", "apikey", "api_keys", "token", "accesstoken", "authtoken", "subscriptionkey", "secret", "password", "passwd", "pwd",
    "passphrase", "authorization", "cookie", "bearer", "credential", "credentials", "sig", "signature", "jwt",
})  # fmt: skip
ENDS = (
    "_key",
    "_apikey",
    "_token",
    "_secret",
    "_password",
    "_passwd",
    "_authorization",
    "_cookie",
    "_credential",
    "_credentials",
    "_signature",
)
# Marks in a text, and the name under which a server keeps what it has computed, are no credentials.
_OPEN = re.compile(
    r"(?:.*_)?(?:(?:eos|bos|pad|unk|mask|sep|cls|stop|start|end|begin|max|min|special|image|think|thinking|per|first|last|next|new)_token"
    r"|cache_key)"
)
HIDDEN = "(not stored)"
STRUCK = "***"
STRUCK_FROM_NUMBER = "111"  # for a key of digits alone: it may stand in a number, which is to stay one
SHORTEST_SECRET = 8  # what is shorter stands in for a key where none is needed ("none", "x")


def is_secret(name: str) -> bool:
    """Return whether a field of this name holds a credential.

    Example:
        >>> [is_secret(name) for name in ("X-API-Key", "hfToken", "api-version", "max_tokens", "ban_eos_token")]
        [True, True, False, False, False]
    """
    plain = re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)).strip("_").lower()
    return plain in SECRETS or (plain.endswith(ENDS) and not _OPEN.fullmatch(plain))


def names_secret(value: object) -> str:
    """Return the first name in nested values that a credential hides under; "": there is none."""
    if isinstance(value, dict):
        return next((found for name, inner in value.items() if (found := name if is_secret(name) else names_secret(inner))), "")
    if isinstance(value, list):
        return next((found for item in value if (found := names_secret(item))), "")
    return ""


def struck(value: object) -> object:
    """Return nested values without what is under such a name."""
    if isinstance(value, dict):
        return {name: HIDDEN if is_secret(name) else struck(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [struck(item) for item in value]
    return value


def struck_from(text: str, key: str) -> str:
    """Return a text of any length and kind without a key, however JSON or an address writes its characters.

    Example:
        >>> struck_from("no such keys: ab+c/d=1, ab%2Bc%2fd=1", "ab+c/d=1")
        'no such keys: ***, ***'
    """
    if len(key) < SHORTEST_SECRET:
        return text
    return _written(key).sub(STRUCK_FROM_NUMBER if key.isdigit() else STRUCK, text)


def _written(key: str) -> re.Pattern[str]:
    """Return an expression for a key of ASCII characters in all its forms: plain, escaped (also twice), in an address, wide."""
    forms = (rf"(?:\\{{0,7}}(?:{re.escape(c)}|u00{ord(c):02x})|%{ord(c):02x})" for c in key)
    return re.compile(r"\x00{0,3}".join(forms), re.IGNORECASE | re.ASCII)
