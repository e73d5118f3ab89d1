"""A server on the loopback address that misbehaves as it is told: it answers with bytes, pauses and broken connections."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

RESET = "reset"  # ends a connection with RST
Step = bytes | float | str  # bytes to send, seconds to wait, or RESET
Play = Callable[[dict[str, Any], int], Sequence[Step]]  # what to do for a body, and for the number of a call (from 1)

MODELS = {"object": "list", "data": [{"id": "good-model", "object": "model"}]}


def http(body: bytes | str | object = b"", status: int | str = 200, headers: dict[str, str] | None = None, length: bool = True) -> bytes:
    """Return a whole answer: bytes and texts as they are, anything else as JSON."""
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = {"Content-Type": "application/json", **({"Content-Length": str(len(body))} if length else {}), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode("latin-1") + body


def chat(content: Any = '1. "0.5 0.7"', **changes: Any) -> dict[str, Any]:
    """Return a good reply's object; `changes` replace its parts, those of the choice and of the message by `choice__x`, `message__x`."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "text": content}
    found = {"id": "1", "model": "served", "choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}
    for name, value in changes.items():
        place, _, inner = name.rpartition("__")
        {"": found, "choice": choice, "message": message}[place][inner] = value
    return found


def good(_: dict[str, Any], number: int) -> Sequence[Step]:
    return [http(chat(f'1. "0.{number} 0.7"'))]


def always(*steps: Step) -> Play:
    return lambda body, number: steps


def first(*steps: Step) -> Play:
    """Misbehave at the first call, and be good from then on."""
    return lambda body, number: steps if number == 1 else good(body, number)


# -- a server that repeats the key

FORMS: dict[str, Callable[[str], str]] = {
    "itself": lambda key: key,
    "half": lambda key: key[: len(key) // 2],
    "the other half": lambda key: key[len(key) // 2 :],
    "eight of it": lambda key: key[9:17],
    "large letters": str.upper,
    "base64": lambda key: b64encode(f"user:{key}".encode()).decode(),
    "hex": lambda key: key.encode().hex(),
    "an address": lambda key: quote(key, ""),
    "an address, all of it": lambda key: "".join(f"%{ord(char):02x}" for char in key),
}


class Echo(NamedTuple):
    """An answer that holds a key: what is sent, what comes of it ("used", "empty", "failed"), and how many calls are made of two."""

    steps: Sequence[Step]
    outcome: str
    calls: int = 1


def _failed(status: int, body: object, calls: int = 1, headers: dict[str, str] | None = None) -> Echo:
    return Echo([http(body, status, headers)], "failed", calls)


def echoes(key: str, form: Callable[[str], str]) -> dict[str, Echo]:
    """Return an answer for every place in which a server can repeat a key, by the place."""
    told = form(key)
    text = '1. "0.5 0.7"'
    whole = json.dumps(chat(f"{text}\n2. {told}")).encode()
    middle = whole.index(told.encode()) + len(told) // 2
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (whole[:middle], whole[middle:])) + b"0\r\n"
    deltas = "".join(f"data: {json.dumps({'choices': [{'delta': {'content': part}}]})}\n\n" for part in (text, told))
    usage = {"prompt_tokens": told, "completion_tokens": 3, "note": told}
    return {
        "text": Echo([http(chat(f"{text}\n2. {told}"))], "used"),
        "text alone": Echo([http(chat(told))], "empty"),
        "parts of a text": Echo([http(chat([{"type": "text", "text": text}, {"type": "text", "text": f"\n2. {told}"}]))], "used"),
        "model": Echo([http(chat(model=told))], "used"),
        "finish reason": Echo([http(chat(choice__finish_reason=told))], "used"),
        "refusal": Echo([http(chat(None, message__refusal=told))], "empty"),
        "thoughts": Echo([http(chat(text, message__reasoning_content=told))], "used"),
        "usage": Echo([http(chat(usage=usage))], "used"),
        "fields of its own": Echo([http(chat(id=told, system_fingerprint=told, service_tier={told: [told]}))], "used"),
        "header": Echo([http(chat(), headers={"X-Request-Id": told, "Set-Cookie": f"k={told}"})], "used"),
        "status line": Echo([http(chat()).replace(b"200 X", f"200 {told}".encode())], "used"),
        "chunks": Echo([head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + f"X-Key: {told}\r\n\r\n".encode()], "used"),
        "packed": Echo([http(gzip.compress(whole, 1), headers={"Content-Encoding": "gzip"})], "used"),
        "streamed": Echo([http(deltas, headers={"Content-Type": "text/event-stream"})], "failed"),
        "no JSON": Echo([http(told)], "failed"),
        "names": _failed(422, {"detail": [{"loc": ["body", told], "msg": told}]}),
        "error": _failed(400, {"error": {"message": f"no {told}", "code": told, "param": told, "type": told}}),
        "error in an error": _failed(400, {"error": {"message": "no", "metadata": {"raw": json.dumps({"error": {"message": told}})}}}),
        "error in a good answer": _failed(200, {"error": {"message": f"no {told}", "code": 400}}),
        "list of errors": _failed(400, [{"error": {"message": told}}, told]),
        "page": _failed(502, f"<title>{told}</title><body>{told}", 2),
        "plain error": _failed(500, f"Traceback: GET /v1?key={told}", 2),
        "not allowed": _failed(403, {"error": {"message": told}}, headers={"WWW-Authenticate": f"Bearer {told}"}),
        "key refused": _failed(401, {"error": {"message": f"Incorrect API key provided: {told}"}}),
        "no such model": _failed(404, {"error": {"message": told}}),
        "limit": _failed(429, {"error": {"message": told}}, 2, {"Retry-After": told, "X-RateLimit-Reset-Requests": told}),
        "redirection": _failed(307, b"", headers={"Location": f"http://127.0.0.1:9/{told}?k={told}"}),
        "no HTTP": Echo([f"{told} {told}\r\n\r\n".encode()], "failed", 2),
        "header that is none": Echo([f"HTTP/1.1 200 OK\r\n{told}\0: x\r\n\r\n".encode()], "failed", 2),
        "broken off": Echo([http(f"no {told}", 400)[:-2], RESET], "failed", 2),
    }


@dataclass
class Server:
    base_url: str = ""
    play: Play = good
    models: object = field(default_factory=lambda: MODELS)  # what it says when it is asked which it has
    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)  # of all requests, GET too
    ended: threading.Event = field(default_factory=threading.Event)

    def begin(self, play: Play, models: object = MODELS) -> None:
        self.play, self.models = play, models
        self.bodies.clear()
        self.heads.clear()

    def serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(20)
                head, body = _read(connection)
                self.heads.append(head)
                if head.startswith("GET"):
                    connection.sendall(http(self.models))
                    return
                self.bodies.append(json.loads(body))
                for step in self.play(self.bodies[-1], len(self.bodies)):
                    self._do(connection, step)
            except OSError:
                return  # the client has gone

    def _do(self, connection: socket.socket, step: Step) -> None:
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, float):
            self.ended.wait(step)
        elif step == RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()


def _read(connection: socket.socket) -> tuple[str, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    told = head.decode("latin-1")
    length = next((int(line.split(":")[1]) for line in told.splitlines() if line.lower().startswith("content-length:")), 0)
    while len(body) < length:
        body += _some(connection)
    return told, body


def _some(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise OSError("the client has gone")
    return received


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        server.base_url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"

        def accept() -> None:
            while not server.ended.is_set():
                try:
                    connection, _ = listening.accept()
                except OSError:
                    continue
                threading.Thread(target=server.serve, args=(connection,), daemon=True).start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server
        finally:
            server.ended.set()
            accepting.join()


FOR_EVER = 120.0  # seconds to wait that no test sees the end of


def until_asked() -> Iterator[tuple[Server, float]]:
    """Give a new server, and the seconds of a clock; more of them until a request has come in before they ended.

    What a call does whose time is up in the middle can be looked at behind that, however long a busy machine took to begin it.
    """
    for seconds in (0.5, 4.0, 32.0, 256.0):
        with serving() as server:
            yield server, seconds
            if server.bodies:
                return
    raise AssertionError("no request came in")


def settings(server: Server, budget: dict[str, Any] | None = None, **mentor: Any) -> dict[str, Any]:
    """Return the settings of a small run of a plain function, whose mentor asks the server in two rounds of two."""
    asked = {"provider": "openai", "name": "m", "base_url": server.base_url, "attempts": 1, "timeout": 20, "first_pause": 0.0}
    again = {} if mentor.get("style") == "completion" else {"retries": 0}
    return {
        "problem": "function",
        "function": {"name": "rosenbrock"},
        "threads": 1,
        "plan": {"rounds": 2, "steps": 1, "proposals": 1, "store_every": 0, "first": "ask"},
        "accept": {"rule": "always_first"},
        "budget": budget or {},
        "mentor": {**again, **mentor, "chat": asked | mentor.get("chat", {})},
    }
