"""Any server that speaks OpenAI's HTTP interface: OpenAI itself, most other providers, and local servers.

What goes out is the request and nothing else; what comes back is a `Reply` or a `ChatError` in plain words. An attempt has a deadline and
a limit of size. Temporary troubles are tried again with growing pauses, or after the pause that the server asks for; all others are final.
Where a server refuses a setting the call is made without it, and the reply's `note` says so. A redirection is not followed: text goes to
the address that was named before the run, and nowhere else. The key is read from the environment when a call is made; it is in no message,
no record and no attribute here, and where a server repeats it, it is struck out of the whole answer, before any of it is read or cut.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field

from maao.errors import ChatError, ConfigError
from maao.llm.budget import REFUSED, Meter
from maao.llm.chat import Reply, Request, Style, sampling_seed
from maao.llm.guarded import guard_logs
from maao.llm.in_time import out_of_time
from maao.llm.price import Price, known_price
from maao.llm.provider import ChatOptions, Here
from maao.llm.secrets import KEY_STRUCK, STRUCK, guard, is_secret, names_secret, struck_from
from maao.llm.server_reply import Answer, Trouble, read_answer, shown
from maao.options import Text

if TYPE_CHECKING:
    import httpx2

OPENAI = "https://api.openai.com/v1"
TEMPORARY = frozenset({408, 409, 425, 429})  # and all from 500 on
REFUSALS = frozenset(range(300, 500)) - {408}  # what was not answered and is not billed; a server that ran out of time may have begun
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0  # of our own
LONGEST_ASKED_PAUSE_SECONDS = 120.0  # of a server that says how long to wait
REACHED_WITHIN_SECONDS = 5.0
MOST_BYTES = 4 * 2**20  # of an answer, unpacked
SHOWN_MODELS = 12

Setting = Literal["seed", "stop", "temperature", "top_p", "response_format"]
OPTIONAL: tuple[Setting, ...] = ("seed", "stop", "top_p", "temperature", "response_format")  # without one it is still the same question
RESERVED = frozenset(
    {"model", "messages", "prompt", "max_tokens", "max_completion_tokens", "n", "best_of", "stream", "stream_options", *OPTIONAL}
)  # not for `extra`
ALSO_CALLED = {"response_format": ("json_schema", "structured[ _]output", "guided_json", "guided decoding", "requested parameter")}
_REFUSAL = re.compile(
    r"unsupported|(n[o']t|cannot|can't|never)( be| both be)? (support|permitted|allowed|accept|available|recogni|set|used|specified|appl)"
    r"|unexpected|unrecogni[sz]ed|unknown|extra (input|field)|deprecated|removed|no longer|unavailable|incompatible|only the default"
    r"|does(n't| not) (accept|take|have|know)|cannot (both )?be (specified|set|used)|must be (omitted|left out|unset|removed)",
    re.I,
)
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
        base_url: the server's address, usually ending in `/v1`; None: OpenAI. A query (`?api-version=...`) goes with every call.
        api_key_env: the environment variable that holds the key; "": the server needs none, and none is sent. A server on this machine
            needs none either (if the variable is set, it is sent).
        timeout: seconds that one attempt may take, from the connection to the last byte.
        attempts: how often a call is tried, the first time included.
        price: what tokens cost; None: looked up in the table of `genai-prices`, where that is installed and knows the model.
        leave_out: settings that are not sent, out of `OPTIONAL`.
        first_pause: seconds before the second attempt; they double with each. Up to as many are added at random.
        longest_pause: seconds that a server may ask to wait; where it asks for more, the call fails.
        transport: what to send with, an `httpx2` transport, for tests and special networks.

    Without a known price `price` is None, and what replies cost is not known (NaN).

    Raises:
        ConfigError: no address, or one that holds a secret; fewer than one attempt.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        attempts: int = 4,
        price: Price | None = None,
        leave_out: Sequence[Setting] = (),
        first_pause: float = FIRST_PAUSE_SECONDS,
        longest_pause: float = LONGEST_ASKED_PAUSE_SECONDS,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = (base_url or OPENAI).rstrip("/")
        host, self._address, self._query = _address(self.base_url, api_key_env)
        if attempts < 1:
            raise ConfigError(f"attempts is {attempts}; a call is tried at least once.")
        guard(api_key_env)
        self.model = model
        self.api_key_env = api_key_env
        self.timeout = timeout
        self.attempts = attempts
        self.leave_out = frozenset(leave_out)
        self.first_pause = first_pause
        self.longest_pause = longest_pause
        self.is_remote = not _is_loopback(host)
        self.price = price if price is not None else known_price(model, self.base_url)
        self._is_azure = host.endswith(".azure.com")
        self._transport = transport
        self._meter = Meter()
        self._left: Callable[[], float] = _for_ever
        self._refused: set[tuple[Style, str]] = set()  # what this server is known not to take: spares a second refusal, changes no reply

    @property
    def name(self) -> str:
        return self.model

    def __repr__(self) -> str:
        return f"OpenAICompatible({self.model!r}, base_url={self.base_url!r})"

    def check(self) -> None:
        """Find out, without the network, whether calls can be made. Raises `ConfigError` where a package or the key is missing."""
        self._require_packages()
        try:
            self._headers()
        except ChatError as error:
            raise ConfigError(str(error)) from None

    def reach(self) -> None:
        """Find out before a run, at no cost, whether something answers at the address.

        Whatever a server answers is taken for one, but for the word that it does not accept the key. A server that is too busy to answer
        in a few seconds is there.

        Raises:
            ConfigError: nothing can be reached, or the key is not accepted.
        """
        self.check()
        import httpx2

        status, reason = 0, ""
        try:
            status = self._exchange("GET", "/models", None, min(self.timeout, REACHED_WITHIN_SECONDS)).status
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            reason = self._cause(error)
        except (httpx2.HTTPError, TimeoutError, OSError, ValueError, _TooLarge):
            return  # whether what is there speaks our language is seen when it is asked
        if reason:
            raise ConfigError(f"{self._unreachable(reason)} Nothing was begun.")
        if status == 401:
            raise ConfigError(f"{self._key_refused()} Nothing was begun.")

    def _require_packages(self) -> None:
        try:
            import anyio  # noqa: F401
            import httpx2  # noqa: F401
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
        tried = 0

        def pause(error: Exception) -> bool | float:
            nonlocal tried
            tried += 1
            wait, left = _pause(error), self._left()
            if wait is False or math.isinf(left):
                return wait
            return max(0.0, min(self._own_pause(tried) if wait is True else wait, left))

        retry = stamina.retry_context(
            on=pause,
            attempts=self.attempts,
            timeout=None,
            wait_initial=self.first_pause,
            wait_jitter=self.first_pause,
            wait_max=min(LONGEST_PAUSE_SECONDS, self.longest_pause),
        )
        for attempt in retry:
            with attempt:
                return self._ask(request)
        raise AssertionError("unreachable")

    def counted(self, meter: Meter) -> OpenAICompatible:
        """Return this model, each attempt of which is written down before it goes: retries, and those without a refused setting, too."""
        model = copy(self)
        model._meter = meter
        return model

    def ending(self, left: Callable[[], float]) -> OpenAICompatible:
        """Return this model, whose calls, and the pauses between their attempts, end where there are no seconds left."""
        model = copy(self)
        model._left = left
        return model

    def close(self) -> None:
        """Nothing is held between calls."""

    def _own_pause(self, tried: int) -> float:
        """Return the seconds to wait after so many attempts, where the server does not say."""
        most = min(LONGEST_PAUSE_SECONDS, self.longest_pause)
        return min(self.first_pause * (2.0 ** (tried - 1) + random.random()), most)

    def _ask(self, request: Request) -> Reply:
        """Ask once; again only without a setting that the server refuses, each at most once."""
        while True:
            refused = {setting for style, setting in self._refused if style == request.style}
            body, notes = request_body(self.model, request, refused, self.leave_out)
            try:
                reply = self._send(request, body)
            except _Refused as refusal:
                self._refused.add((request.style, refusal.setting))
                continue
            return self._finished(reply, notes)

    def _send(self, request: Request, body: dict[str, object]) -> Reply:
        import httpx2

        problem: ChatError
        self._headers()  # without a key nothing goes
        if self._left() <= 0:
            raise out_of_time()
        attempt = self._meter.begin(request)
        try:
            path = "/chat/completions" if request.style == "chat" else "/completions"
            answer = self._exchange("POST", path, body, min(self.timeout, self._left()))
        except (TimeoutError, httpx2.TimeoutException) as error:
            if isinstance(error, httpx2.ConnectTimeout):
                attempt.end(REFUSED)
            told = f"{self.base_url} gave no whole reply within {self.timeout:g} seconds, in {self._tries()}."
            problem = out_of_time() if self._left() <= 0 else _Temporary(f"{told} Raise mentor.chat.timeout?")
        except _TooLarge:
            problem = ChatError(f"{self.base_url} sent more than {MOST_BYTES // 2**20} MiB: that is no reply. Is the address right?")
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.DecodingError) as error:
            if not isinstance(error, httpx2.DecodingError):
                attempt.end(REFUSED)
            problem = ChatError(f"The call to {self.base_url} failed: {self._cause(error)}")
        except (httpx2.ConnectError, httpx2.ProxyError) as error:
            attempt.end(REFUSED)
            problem = _Temporary(self._unreachable(self._cause(error)))
        except (httpx2.HTTPError, OSError, ValueError) as error:
            problem = _Temporary(f"{self.base_url} broke off, in {self._tries()}: {self._cause(error)}.")
        else:
            read = read_answer(answer, request, self.model)
            if isinstance(read, Reply):
                read = self._priced(read)
                attempt.replied(read)
                clean = replace(read, text=struck_from(read.text, self._key()))  # where it stood across the parts of a text
                held_key = answer.held_key or clean != read
                return replace(clean, note="; ".join(filter(None, (read.note, KEY_STRUCK)))) if held_key else read
            if read.status in REFUSALS:
                attempt.end(REFUSED)
            problem = self._explain(read, answer, body)
        # Outside the handler, so that no traceback leads to the client's error: it holds the request with its headers.
        raise problem

    def _exchange(self, method: str, path: str, body: dict[str, object] | None, seconds: float) -> Answer:
        """Send and receive within so many seconds altogether.

        The client runs in an event loop on a thread of its own, which can be stopped at any byte: a limit of each read cannot stop a server
        that drips. So it also works where a loop runs already, in a notebook.
        """
        import httpcore2  # noqa: F401  (its loggers are there before they are guarded)
        from anyio.from_thread import start_blocking_portal

        guard_logs("httpx2", "httpcore2")
        headers, content = self._headers(), None if body is None else json.dumps(body).encode()
        with start_blocking_portal() as portal:
            answer = portal.call(self._converse, method, self._address + path + self._query, headers, content, seconds)
        return self._without_key(answer)

    async def _converse(self, method: str, url: str, headers: dict[str, str], content: bytes | None, seconds: float) -> Answer:
        import anyio
        import httpx2

        # Proxies of the environment are for other machines, not for a server on this one. Certificates are loaded only where they are used.
        client = httpx2.AsyncClient(
            transport=self._transport, trust_env=self.is_remote, verify=url.startswith("https:"), timeout=seconds, follow_redirects=False
        )
        received = bytearray()
        try:
            with anyio.fail_after(seconds):
                async with client, client.stream(method, url, headers=headers, content=content) as response:
                    async for chunk in response.aiter_bytes():
                        received += chunk
                        if len(received) > MOST_BYTES:
                            raise _TooLarge
        finally:  # the look-up of a host's name cannot be stopped: the loop is given nothing to wait for where it ends
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, bytes(received))

    def _headers(self) -> dict[str, str]:
        """Return the headers of a call. Raises `ChatError` for a key that is missing or cannot be one."""
        key = self._key()
        if not key and self.api_key_env and self.is_remote:
            raise ChatError(
                f'No key for {self.base_url}: set the environment variable {self.api_key_env}, or mentor.chat.api_key_env = "" where the '
                "server needs none."
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ChatError(f"The value of {self.api_key_env} has characters that no key has. Copy it again.")
        headers = {"content-type": "application/json", "accept": "application/json", "user-agent": "maao"}
        if key:
            headers |= {"api-key": key} if self._is_azure else {"authorization": f"Bearer {key}"}
        if self.base_url == OPENAI:  # whose business alone these are
            named = {"openai-organization": "OPENAI_ORG_ID", "openai-project": "OPENAI_PROJECT_ID"}
            headers |= {header: os.environ[name] for header, name in named.items() if os.environ.get(name)}
        return headers

    def _key(self) -> str:
        return os.environ.get(self.api_key_env, "").strip() if self.api_key_env else ""

    def _finished(self, reply: Reply, notes: list[str]) -> Reply:
        """Return a reply with what is to be told of it."""
        told = [*notes, *([reply.note] if reply.note else [])]
        return replace(reply, why_empty=self._scrub(reply.why_empty), note="; ".join(told))

    def _priced(self, reply: Reply) -> Reply:
        usage = reply.usage
        usd = self.price.usd(usage.input_tokens, usage.output_tokens) if self.price is not None else math.nan
        return replace(reply, usage=replace(usage, usd=usd))

    def _explain(self, trouble: Trouble, answer: Answer, body: Mapping[str, object]) -> ChatError:
        """Return a server's trouble in words that hold no key."""
        where, status, said = self.base_url, trouble.status, self._scrub(trouble.words)
        if status < 300:
            return ChatError(
                f"{where} answered, but not as an OpenAI-compatible server does: {said}. Is the address right? It usually ends in /v1."
            )
        if status < 400:
            target = self._scrub(shown(answer.headers.get("location", "an address that it does not name")))
            return ChatError(
                f"{where} redirects to {target} (status {status}), and text is sent only where it was said to go: set mentor.chat.base_url."
            )
        setting = _refused_setting(trouble, body) if status in (400, 404, 422) else None
        if setting is not None:
            return _Refused(f"{where} does not take {setting}: {said}", setting)
        if status == 401:
            return ChatError(self._key_refused())
        if status == 403:
            return ChatError(f"{where} does not let this key use {self.model!r}: {said}")
        if status == 404:
            return ChatError(f"{where} does not know the model {self.model!r} (or the address is wrong): {said}. {self._models()}")
        if trouble.code == "insufficient_quota" or status == 402:
            return ChatError(f"The account at {where} has no credit left: {said}")
        if status in TEMPORARY or status >= 500:
            return self._temporary(trouble, said)
        return ChatError(f"{where} refuses the call with status {status}: {said}")

    def _temporary(self, trouble: Trouble, said: str) -> ChatError:
        """Return an error that is tried again, unless the server itself asks for a longer pause than is allowed.

        When its limits open again is a guess at how long that is: where it is too long, it is tried again after our own pauses.
        """
        status, wait, opens = trouble.status, trouble.wait_seconds, trouble.opens_in
        if wait is not None and wait > self.longest_pause:
            return ChatError(
                f"{self.base_url} asks to wait {wait:.0f} seconds (status {status}: {said}), and mentor.chat.longest_pause is "
                f"{self.longest_pause:g}."
            )
        if wait is None and opens is not None:
            wait, said = (opens, said) if opens <= self.longest_pause else (None, f"{said} (a limit is open again in {opens:.0f} seconds)")
        return _Temporary(f"{self.base_url} has failed in {self._tries()}; the last time, status {status}: {said}", wait)

    def _tries(self) -> str:
        return "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"

    def _key_refused(self) -> str:
        if not self.api_key_env:
            return f"{self.base_url} wants a key, and mentor.chat.api_key_env is empty: name the environment variable that holds one."
        return f"{self.base_url} does not accept the key. Set the environment variable {self.api_key_env} to a valid one."

    def _unreachable(self, reason: str) -> str:
        return f"Cannot reach {self.base_url} ({reason}). Is the server running, and is the address (mentor.chat.base_url) right?"

    def _cause(self, error: Exception) -> str:
        return shown(self._scrub(str(error))) or type(error).__name__

    def _models(self) -> str:
        import httpx2

        names: list[str] = []
        try:
            answer = self._exchange("GET", "/models", None, min(self.timeout, REACHED_WITHIN_SECONDS))
            data = json.loads(answer.body)["data"]
            names = [self._scrub(shown(model["id"], 100)) for model in data]
        except (httpx2.HTTPError, TimeoutError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, _TooLarge):
            pass
        if not names:
            return "It does not say which models it has."
        more = f" and {len(names) - SHOWN_MODELS} more" if len(names) > SHOWN_MODELS else ""
        return f"It has: {', '.join(names[:SHOWN_MODELS])}{more}."

    def _without_key(self, answer: Answer) -> Answer:
        """Return a server's answer with the key struck out of the whole of it: of what is cut first, a part of the key may stay."""
        key = self._key()
        headers = {name: struck_from(value, key) for name, value in answer.headers.items()}
        body = struck_from(answer.body.decode("latin-1"), key).encode("latin-1")  # a character for every byte, whatever they mean
        return replace(answer, headers=headers, body=body, held_key=body != answer.body)

    def _scrub(self, text: str) -> str:
        """Return a text without the key, nor anything that looks like one."""
        return _KEY_LIKE.sub(STRUCK, struck_from(text, self._key()))


class _TooLarge(Exception):
    """An answer beyond `MOST_BYTES`."""


class OpenAIOptions(ChatOptions):
    """Settings of `OpenAICompatible`."""

    base_url: Text | None = Field(None, description="Address of a compatible server, as http://127.0.0.1:8080/v1; a query goes with it.")
    api_key_env: str = Field("OPENAI_API_KEY", description='Environment variable that holds the key; "" for a server that needs none.')
    timeout: float = Field(60.0, gt=0, le=86_400, description="Seconds one attempt may take, from the connection to the last byte.")
    attempts: int = Field(4, ge=1, le=100, description="How often a call is tried.")
    first_pause: float = Field(
        FIRST_PAUSE_SECONDS, ge=0, le=86_400, description="Seconds before the second attempt; they double with each."
    )
    longest_pause: float = Field(
        LONGEST_ASKED_PAUSE_SECONDS,
        ge=0,
        le=86_400,
        description="Seconds that a server may ask to wait; where it asks for more, the call fails.",
    )
    leave_out: list[Setting] = Field(
        default_factory=list, description="Settings that are not sent, for servers that refuse them without saying so."
    )
    extra: dict[str, Any] = Field(default_factory=dict, description="Further fields of the request's body, as {enable_thinking = false}.")
    usd_per_million_input: float | None = Field(None, ge=0, le=1e9, description="Price; by default looked up.")
    usd_per_million_output: float | None = Field(None, ge=0, le=1e9, description="Price; by default looked up.")

    @property
    def is_remote(self) -> bool:
        host, *_ = _address((self.base_url or OPENAI).rstrip("/"), self.api_key_env)
        return not _is_loopback(host)  # no model is made: that would guard the key of a config that is only read

    @property
    def fields(self) -> Mapping[str, Any]:
        return self.extra

    @property
    def tries(self) -> int:
        return self.attempts

    @property
    def key_variables(self) -> tuple[str, ...]:
        return (self.api_key_env,) if self.api_key_env else ()

    def model_name(self, tuned: str) -> str:
        return self.name or "openai"

    def where(self, name: str) -> str:
        return f"{name} at {self.base_url or 'the OpenAI API'}" + ("" if self.is_remote else " (this machine)")

    def build(self, here: Here) -> OpenAICompatible:
        if not self.name:
            raise ConfigError("mentor.chat.provider = 'openai' needs mentor.chat.name, the model that the server knows.")
        check_extra(self.extra)
        server = OpenAICompatible(
            self.name,
            self.base_url,
            self.api_key_env,
            self.timeout,
            self.attempts,
            self.price(self.name),
            leave_out=self.leave_out,
            first_pause=self.first_pause,
            longest_pause=self.longest_pause,
        )
        server.check()
        return server

    def price(self, name: str) -> Price | None:
        read, written = self.usd_per_million_input, self.usd_per_million_output
        if read is None and written is None:
            return known_price(name, (self.base_url or OPENAI).rstrip("/"))
        if read is None or written is None:
            raise ConfigError("Set both mentor.chat.usd_per_million_input and usd_per_million_output, or neither.")
        return Price(read, written)


def check_extra(extra: Mapping[str, object]) -> None:
    """Refuse further fields of a request's body that the request has itself, that hold a secret, or that no JSON can hold.

    Raises:
        ConfigError: as said.

    Example:
        >>> check_extra({"chat_template_kwargs": {"enable_thinking": False}})
    """
    reserved = RESERVED & extra.keys()
    if reserved:
        raise ConfigError(
            f"mentor.chat.extra may not hold {', '.join(sorted(reserved))}: the request has fields of its own for them. "
            "To leave a setting out, name it in mentor.chat.leave_out."
        )
    secret = names_secret(extra)
    if secret:
        raise ConfigError(f"mentor.chat.extra holds '{secret}', and a config is stored: a key belongs into the variable of api_key_env.")
    try:
        json.dumps(extra, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"mentor.chat.extra holds what no JSON can: {error}.") from None


def _address(base_url: str, api_key_env: str) -> tuple[str, str, str]:
    """Return an address's host, what a path is added to, and the query that comes after that."""
    without_secrets = shown(re.split(r"[?#]", base_url, maxsplit=1)[0].rpartition("@")[2])
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"{without_secrets!r} is not the address of a server. It looks like http://127.0.0.1:8000/v1.")
    variable = api_key_env or "OPENAI_API_KEY"
    secret = next((name for name, _ in parse_qsl(parts.query.replace(";", "&"), keep_blank_values=True) if is_secret(name)), None)
    if parts.username or parts.password or secret or parts.fragment:
        held = f"the secret '{shown(secret)}'" if secret else "a fragment" if parts.fragment else "a name or a password"
        raise ConfigError(
            f"The address of {host} holds {held}, and an address is stored and shown. A key belongs into ${variable}, the environment "
            "variable that mentor.chat.api_key_env names: it goes with every call as a header, and is kept nowhere."
        )
    query = f"?{parts.query}" if parts.query else ""
    return host, f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", query


def request_body(model: str, request: Request, refused: set[str], leave_out: frozenset[str]) -> tuple[dict[str, object], list[str]]:
    """Return the call's body and what it leaves out of the request, in words."""
    settings: dict[str, object] = {"temperature": request.temperature}
    if request.top_p != 1:
        settings["top_p"] = request.top_p
    seed = sampling_seed(request)
    if seed is not None:
        settings["seed"] = seed
    if request.stop:
        settings["stop"] = list(request.stop)
    if request.schema is not None and request.style == "chat":
        schema = {"name": "reply", "schema": dict(request.schema), "strict": True}
        settings["response_format"] = {"type": "json_schema", "json_schema": schema}
    left = {name: "mentor.chat.leave_out names it" for name in settings if name in leave_out}
    left |= {name: "the server does not support it" for name in settings if name in refused and name not in leave_out}
    notes = [f"{name} was not sent: {left[name]}" for name in OPTIONAL if name in left]
    body = {name: value for name, value in settings.items() if name not in left}
    limit = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
    if limit != "max_tokens":
        notes.append("max_tokens was sent as max_completion_tokens")
    body |= {"model": model, limit: request.max_tokens, **request.extra}
    if request.style == "chat":
        body["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
    else:
        body["prompt"] = request.text
    return body, notes


def _refused_setting(trouble: Trouble, body: Mapping[str, object]) -> str | None:
    """Return the setting that a server says it does not support, if the call can be made without it.

    A schema is left out wherever it is named at all: it helps to read the reply, and no number is wrong without it.
    """
    said = trouble.words
    limit = ("max_tokens",) if "messages" in body else ()  # completions know no other name for it
    sent = [name for name in (*limit, *OPTIONAL) if name in body]
    named = [name for name in sent if trouble.param.split(".")[0] == name]
    named += [name for name in sent if any(re.search(rf"\b{word}s?\b", said, re.I) for word in (name, *ALSO_CALLED.get(name, ())))]
    if "response_format" in named:
        return "response_format"
    refuses = _REFUSAL.search(said) or trouble.code.startswith("unsupported")
    return named[0] if named and refuses else None


def _pause(error: Exception) -> bool | float:
    """Say whether to try again, and after how long where the server asked for a pause."""
    if not isinstance(error, _Temporary):
        return False
    return error.wait_seconds if error.wait_seconds is not None else True


def _for_ever() -> float:
    return math.inf


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
