"""A server on the loopback address that speaks OpenAI's chat completions: it writes down what it is sent and says what a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-test-7f3a91c05be24d68aa10"  # looks like a key, so that a leak would be one


@dataclass
class ChatServer:
    """`reply` gives for the number of a call (from 1) the status and the text."""

    reply: Callable[[int], tuple[int, str]]
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    base_url: str = ""

    @property
    def asked(self) -> str:
        """All that was ever sent, as one text."""
        return "\n".join(json.dumps(body, ensure_ascii=False) for body in self.bodies)


@contextmanager
def chat_server(reply: Callable[[int], tuple[int, str]]) -> Iterator[ChatServer]:
    state = ChatServer(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.bodies.append(json.loads(body))
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, text = state.reply(len(state.bodies))
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "text": text, "finish_reason": "stop"}
            usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
            good = {"id": "1", "object": "chat.completion", "created": 1, "model": "served", "choices": [choice], "usage": usage}
            answer = json.dumps(good if status == 200 else {"error": {"message": text}}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
