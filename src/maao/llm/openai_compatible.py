"""Any server that speaks OpenAI's HTTP interface: OpenAI itself, most other providers, and local servers.

What goes out is the request and nothing else; what comes back is a `Reply` or a `ChatError` in plain words. Temporary troubles are tried
again with growing pauses, all others are final. Where a server refuses a setting as unsupported the call is made without it, and the
reply's `note` says so. The key is read from the environment when a call is made; it is in no message, no record and no attribute here.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from maao.errors import ChatError, ConfigError
from maao.llm.chat import Reply, Request, Style, Usage, estimate_tokens, sampling_seed
from maao.llm.price import Price, known_price

if TYPE_CHECKING:
    import openai

OPENAI = "https://api.openai.com/v1"
TEMPORARY = frozenset({408, 409, 429})  # and all from 500 on
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
LONGEST_ASKED_PAUSE_SECONDS = 120.0  # of a server that says how long to wait
SHOWN_MODELS = 12

OPTIONAL = ("seed", "stop", "temperature", "top_p", "response_format")  # a call without one of these is still the same question
RESERVED = frozenset({"model", "messages", "prompt", "max_tokens", "max_completion_tokens", "n", "best_of", "stream"})  # not for `extra`
_REFUSAL = re.compile(r"unsupported|n[o']t support|not permitted|not allowed|unexpected|unrecogni[sz]ed|unknown|extra (input|field)", re.I)
_KEY_LIKE = re.compile(r"\b(sk-|Bearer )[\w\-*.]{6,}")


class _Temporary(ChatError):
    """Worth another try."""

    def __init__(self, text: str, wait_seconds: float | None = None) -> None:
        super().__init__(text)
        self.wait_seconds = wait_seconds


class _Refused(ChatError):
    """The server does not take a setting."""

    def __init__(self, text: str, setting: str) -> None:
        super().__init__(text)
        self.setting = setting


class OpenAICompatible:
    """A model behind an OpenAI-compatible server.

    Args:
        model: the name that the server knows it by.
        base_url: the server's address, usually ending in `/v1`; None: OpenAI.
        api_key_env: the environment variable that holds the key. A server on this machine needs none (if the variable is set, it is sent).
        timeout: seconds that one attempt may take.
        attempts: how often a call is tried, the first time included.
        price: what tokens cost; None: looked up in the table of `genai-prices`, where that is installed and knows the model.
        http_client: an `httpx2.Client` (or what the installed openai package takes) to send with, for tests and special networks.

    Without a known price `price` is None and replies cost 0 in the record.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        attempts: int = 4,
        price: Price | None = None,
        http_client: Any = None,
    ) -> None:
        self.base_url = (base_url or OPENAI).rstrip("/")
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{self.base_url!r} is not the address of a server. It looks like http://127.0.0.1:8000/v1.")
        if parts.username or parts.password or parts.query:
            raise ConfigError(f"The address of {parts.hostname} holds a name, a password or a query. A key belongs into ${api_key_env}.")
        if attempts < 1:
            raise ConfigError(f"attempts is {attempts}; a call is tried at least once.")
        self.model = model
        self.api_key_env = api_key_env
        self.timeout = timeout
        self.attempts = attempts
        self.is_remote = not _is_loopback(parts.hostname)
        self.price = price if price is not None else known_price(model, self.base_url)
        self._http_client = http_client
        self._refused: set[tuple[Style, str]] = set()  # what this server is known not to take: spares a second refusal, changes no reply

    @property
    def name(self) -> str:
        return self.model

    def __repr__(self) -> str:
        return f"OpenAICompatible({self.model!r}, base_url={self.base_url!r})"

    def check(self) -> None:
        """Find out before a run, without a call, whether calls can be made. Raises `ConfigError` where they cannot."""
        self._require_packages()
        if self.is_remote and not os.environ.get(self.api_key_env):
            raise ConfigError(f"No key for {self.base_url}: set the environment variable {self.api_key_env}.")

    def _require_packages(self) -> None:
        try:
            import openai  # noqa: F401
            import stamina  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"Asking {self.model!r} needs the package {error.name!r}: pip install 'maao[openai]'.") from error

    def complete(self, request: Request) -> Reply:
        """Return the reply. Raises `ChatError` when there is none to be had."""
        self._require_packages()
        import stamina

        reserved = RESERVED & request.extra.keys()
        if reserved:
            raise ChatError(f"Extra settings may not hold {', '.join(sorted(reserved))}: the request has fields of its own for them.")
        retry = stamina.retry_context(
            on=_pause, attempts=self.attempts, timeout=None, wait_initial=FIRST_PAUSE_SECONDS, wait_max=LONGEST_PAUSE_SECONDS
        )
        for attempt in retry:
            with attempt:
                return self._ask(request)
        raise AssertionError("unreachable")

    def _ask(self, request: Request) -> Reply:
        """Ask once; again only without a setting that the server refuses, each at most once."""
        while True:
            refused = {setting for style, setting in self._refused if style == request.style}
            body, notes = _body(self.model, request, refused)
            try:
                response = self._send(request.style, body)
            except _Refused as refusal:
                self._refused.add((request.style, refusal.setting))
                continue
            return self._reply(request, response, "; ".join(notes))

    def _send(self, style: Style, body: dict[str, Any]) -> Any:
        import openai

        client = self._client()
        try:
            if style == "chat":
                return client.chat.completions.create(**body)
            return client.completions.create(**body)
        except openai.OpenAIError as error:
            problem = self._explain(error, body)
        except ValueError:  # a body that says it is JSON and is not
            problem = self._not_understood()
        # Outside the handler, so that no traceback leads to the SDK's error: it holds the request with its headers.
        raise problem

    def _client(self) -> openai.OpenAI:
        import openai

        key = os.environ.get(self.api_key_env, "").strip()
        if not key and self.is_remote:
            raise ChatError(f"No key for {self.base_url}: set the environment variable {self.api_key_env}.")
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ChatError(f"The value of {self.api_key_env} has characters that no key has. Copy it again.")
        if self._http_client is None:
            # Proxies of the environment are for other machines, not for a server on this one.
            self._http_client = openai.DefaultHttpxClient(trust_env=self.is_remote)
        # Made anew for each call (the connection is kept): the key stays in no attribute of ours.
        client = openai.OpenAI(
            api_key=key or "none", base_url=self.base_url, timeout=self.timeout, max_retries=0, http_client=self._http_client
        )
        if self.base_url != OPENAI:
            client.organization = client.project = None  # the SDK reads them from the environment; they are OpenAI's business alone
        return client

    def close(self) -> None:
        """Close the connection to the server. A later call opens another."""
        if self._http_client is not None:
            self._http_client.close()
            self._http_client = None

    def _reply(self, request: Request, response: Any, note: str) -> Reply:
        choices = getattr(response, "choices", None)
        if not choices:
            raise self._not_understood()
        choice = choices[0]
        text = (choice.message.content if request.style == "chat" else choice.text) or ""
        counted = getattr(response, "usage", None)
        if counted is not None and counted.prompt_tokens is not None:
            input_tokens, output_tokens, estimated = counted.prompt_tokens, counted.completion_tokens or 0, False
        else:
            input_tokens, output_tokens, estimated = estimate_tokens(request.text), estimate_tokens(text), True
        usd = self.price.usd(input_tokens, output_tokens) if self.price is not None else 0.0
        return Reply(
            text=text,
            usage=Usage(input_tokens, output_tokens, usd, estimated),
            model=getattr(response, "model", None) or self.model,
            finish_reason=choice.finish_reason or "",
            note=note,
        )

    def _not_understood(self) -> ChatError:
        return ChatError(
            f"{self.base_url} answered, but not as an OpenAI-compatible server does. Is the address right? It usually ends in /v1."
        )

    def _explain(self, error: openai.OpenAIError, body: Mapping[str, Any]) -> ChatError:
        """Return the SDK's error as ours, in words that hold neither key nor headers."""
        import openai

        where = self.base_url
        if isinstance(error, openai.APITimeoutError):
            return _Temporary(f"{where} gave no reply within {self.timeout:g} seconds, in {self.attempts} attempts. Raise the time-out?")
        if isinstance(error, openai.APIConnectionError):
            reason = self._scrub(str(error.__cause__ or error))
            return _Temporary(f"Cannot reach {where} ({reason}). Is the server running, and is the address right?")
        if isinstance(error, openai.APIResponseValidationError):
            return self._not_understood()
        if not isinstance(error, openai.APIStatusError):
            return ChatError(f"The call to {where} failed: {self._scrub(str(error))}")
        status, said = error.status_code, self._scrub(_words(error))
        if status == 401:
            return ChatError(f"{where} does not accept the key. Set the environment variable {self.api_key_env} to a valid one.")
        if status == 403:
            return ChatError(f"{where} does not let this key use {self.model!r}: {said}")
        if status == 404:
            return ChatError(f"{where} does not know the model {self.model!r} (or the address is wrong). {self._models()}")
        if error.code == "insufficient_quota":
            return ChatError(f"The account at {where} has no credit left: {said}")
        if status in TEMPORARY or status >= 500:
            return _Temporary(f"{where} has failed {self.attempts} times; the last time, status {status}: {said}", _retry_after(error))
        if status in (400, 422):
            setting = _refused_setting(error, said, body)
            if setting is not None:
                return _Refused(f"{where} does not take {setting}: {said}", setting)
        return ChatError(f"{where} refuses the call with status {status}: {said}")

    def _models(self) -> str:
        import openai

        try:
            names = [model.id for model in self._client().models.list().data]
        except (openai.OpenAIError, ValueError, AttributeError, TypeError):
            names = []
        if not names:
            return "It does not say which models it has."
        more = f" and {len(names) - SHOWN_MODELS} more" if len(names) > SHOWN_MODELS else ""
        return f"It has: {', '.join(names[:SHOWN_MODELS])}{more}."

    def _scrub(self, text: str) -> str:
        """Return a text without the key, nor anything that looks like one, and not too long."""
        key = os.environ.get(self.api_key_env, "").strip()
        text = text.replace(key, "***") if key else text
        text = _KEY_LIKE.sub("***", text)
        return text if len(text) <= 500 else text[:500] + " ..."


def _body(model: str, request: Request, refused: set[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the call's arguments and what they leave out of the request, in words."""
    settings: dict[str, Any] = {"temperature": request.temperature, "top_p": request.top_p}
    seed = sampling_seed(request)
    if seed is not None:
        settings["seed"] = seed
    if request.stop:
        settings["stop"] = list(request.stop)
    if request.schema is not None and request.style == "chat":
        schema = {"name": "reply", "schema": dict(request.schema), "strict": True}
        settings["response_format"] = {"type": "json_schema", "json_schema": schema}
    notes = [f"{name} was not sent: the server does not support it" for name in OPTIONAL if name in settings and name in refused]
    body = {name: value for name, value in settings.items() if name not in refused}
    limit = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
    if limit != "max_tokens":
        notes.append("max_tokens was sent as max_completion_tokens")
    body |= {"model": model, limit: request.max_tokens}
    if request.extra:
        body["extra_body"] = dict(request.extra)
    if request.style == "chat":
        body["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
    else:
        body["prompt"] = request.text
    return body, notes


def _refused_setting(error: openai.APIStatusError, said: str, body: Mapping[str, Any]) -> str | None:
    """Return the setting that a server says it does not support, if the call can be made without it."""
    if not (_REFUSAL.search(said) or str(error.code).startswith("unsupported")):
        return None
    limit = ("max_tokens",) if "messages" in body else ()  # completions know no other name for it
    sent = [name for name in (*limit, *OPTIONAL) if name in body]
    if error.param in sent:
        return error.param
    named = [name for name in sent if re.search(rf"\b{name}\b", said)]
    return named[0] if named else None


def _words(error: openai.APIStatusError) -> str:
    """Return what the server said, without the SDK's frame around it."""
    body = error.body
    if isinstance(body, Mapping):
        said = body.get("message") or body.get("detail") or body.get("error")
        if said:
            return str(said)
    return str(error.message)


def _retry_after(error: openai.APIStatusError) -> float | None:
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, LONGEST_ASKED_PAUSE_SECONDS) if seconds > 0 else None


def _pause(error: Exception) -> bool | float:
    """Say whether to try again, and after how long where the server asked for a pause."""
    if not isinstance(error, _Temporary):
        return False
    return error.wait_seconds if error.wait_seconds is not None else True


def _is_loopback(host: str) -> bool:
    """Return whether a host name means this machine.

    Example:
        >>> [_is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "10.0.0.1", "api.openai.com")]
        [True, True, True, False, False]
    """
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
