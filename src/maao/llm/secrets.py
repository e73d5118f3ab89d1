"""Credentials: the names under which they hide, and the keys of this process, which no text that is stored or shown may hold.

What bears such a name is neither stored nor taken from a config. A key stands in a variable of the environment. A provider names the one
that it reads (`guard`), and `without_keys` strikes the values of all that were named out of a text: where a reply or an error comes in
from a provider (`guarded`), where text is stored (`maao.store`), and where an error is told.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from maao.llm.key_forms import forms_of

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
KEY_STRUCK = "the key stood in the reply and was struck out"
MARKS = (STRUCK := "***", "###", "~~~", "!!!")  # the first that is no part of the key
STRUCK_FROM_NUMBER = "111"  # for a key of digits alone: it may stand in a number, which is to stay one
SHORTEST_SECRET = 8  # what is shorter stands in for a key where none is needed ("none", "x")
MOST_PASSES = 4
GAP = "\ue000"
_NUMBER_AROUND = re.compile(f"[0-9]*{GAP}[0-9{GAP}]*")


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
    """Return a text of any length and kind without a key, or any 8 characters of it, in whatever form (see `key_forms`).

    Example:
        >>> struck_from("no such keys: ab+c/d=12, ab%2Bc%2fd%3d12, YWIrYy9kPTEy, 61622b632f643d3132, ab+c/d=", "ab+c/d=12")
        'no such keys: ***, ***, ***, ***, ab+c/d='
    """
    if len(key) < SHORTEST_SECRET:
        return text
    if not key.isascii():
        return text.replace(key, STRUCK)
    for _ in range(MOST_PASSES):  # what stood around it may be a key again once it is gone
        spans = forms_of(key).spans(text)
        if not spans:
            return text
        text = _without(text, spans, key)
    return STRUCK  # nothing of a text that is made to put it together again


def _without(text: str, spans: list[tuple[int, int]], key: str) -> str:
    """Return a text without some stretches, in whose place stands what is no part of the key; a number stays a number."""
    begins, ends = [begin for begin, _ in spans], [end for _, end in spans]
    kept = [text[end:begin] for end, begin in zip([0, *ends], [*begins, len(text)], strict=True)]
    if key.isdigit():
        return _NUMBER_AROUND.sub(STRUCK_FROM_NUMBER, GAP.join(kept))
    return next((mark for mark in MARKS if mark[0] not in key), "").join(kept)


_VARIABLES = {"OPENAI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}  # names alone: a value is read when it is needed


def guard(variable: str) -> None:
    """Strike what this variable of the environment holds, from now on, out of all that is stored and told."""
    if variable:
        _VARIABLES.add(variable)


def without_keys(text: str) -> str:
    """Return a text without any key of this process.

    Example:
        >>> without_keys("nothing here")
        'nothing here'
    """
    for key in _keys().values():
        text = struck_from(text, key)
    return text


def without_secrets(text: str, *more: str) -> str:
    """Return a text without any key of this process, nor what any variable of the environment holds whose name is that of a credential.

    For what is told of an error of others: it may speak of credentials that this package never reads (of a tracker, of a store of files).
    What is stored is freed of keys alone (`without_keys`): it is not to depend on whatever stands in an environment.

    Args:
        more: further credentials, which stand in no variable.

    Example:
        >>> without_secrets("no user tok-12345678 there", "tok-12345678")
        'no user *** there'
    """
    text = without_keys(text)
    for secret in (*more, *(value.strip() for name, value in sorted(os.environ.items()) if _holds_secret(name, value))):
        text = struck_from(text, secret)
    return text


def _holds_secret(name: str, value: str) -> bool:
    """Return whether a variable of the environment holds a credential, and no place of one; $PWD is the folder that one works in."""
    return name not in ("PWD", "OLDPWD") and is_secret(name) and not os.path.exists(value)


def without_secret_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return variables without those that hold a credential: for what goes to another machine, or is written down on the way.

    Example:
        >>> without_secret_variables({"OPENAI_API_KEY": "sk-12345678", "LANG": "C"})
        {'LANG': 'C'}
    """
    return {name: value for name, value in environment.items() if not _holds_secret(name, value) and name not in _VARIABLES}


def variable_in(text: str, *more: str) -> str:
    """Return the variable whose value a text holds in some form, of those that were named and `more`; "": none."""
    return next((variable for variable, key in _keys(*more).items() if struck_from(text, key) != text), "")


def _keys(*more: str) -> dict[str, str]:
    found = {variable: os.environ.get(variable, "").strip() for variable in sorted({*_VARIABLES, *more})}
    return {variable: key for variable, key in found.items() if len(key) >= SHORTEST_SECRET}
