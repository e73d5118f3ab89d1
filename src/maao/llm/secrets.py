"""Names under which a credential hides: what bears one is neither stored nor taken from a config."""

from __future__ import annotations

from typing import Any

SECRETS = frozenset({
    "api_key", "apikey", "x_api_key", "key", "authorization", "proxy_authorization", "cookie", "token", "access_token", "auth_token",
    "bearer", "secret", "client_secret", "password", "credentials",
})  # fmt: skip
HIDDEN = "(not stored)"


def is_secret(name: str) -> bool:
    """Return whether a field of this name holds a credential.

    Example:
        >>> is_secret("X-API-Key"), is_secret("api-version")
        (True, False)
    """
    return name.lower().replace("-", "_") in SECRETS


def names_secret(value: object) -> str:
    """Return the first name in nested values that a credential hides under; "": there is none."""
    if isinstance(value, dict):
        return next((found for name, inner in value.items() if (found := name if is_secret(name) else names_secret(inner))), "")
    if isinstance(value, list):
        return next((found for item in value if (found := names_secret(item))), "")
    return ""


def struck(value: Any) -> Any:
    """Return nested values without what is under such a name."""
    if isinstance(value, dict):
        return {name: HIDDEN if is_secret(name) else struck(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [struck(item) for item in value]
    return value
