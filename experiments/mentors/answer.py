"""Answer exported requests with a GGUF on this machine: `python -m experiments.mentors.answer requests.jsonl replies.jsonl model.gguf`.

It takes `llama-cpp-python`, which the project does not need. A reply is written as it comes, and a second call goes on behind the last.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def answered(replies: Path) -> set[str]:
    """Return the ids of the requests that have a reply; a last line that was cut off by a stop is taken out of the file."""
    if not replies.exists():
        return set()
    whole, _, torn = replies.read_bytes().rpartition(b"\n")
    if torn:
        replies.write_bytes(whole + b"\n" if whole else b"")
    return {json.loads(line)["custom_id"] for line in whole.decode("utf-8").split("\n") if line.strip()}


def main() -> None:
    """Answer what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m experiments.mentors.answer", description=__doc__)
    parser.add_argument("requests", type=Path, help="what `maao requests export` wrote")
    parser.add_argument("replies", type=Path, help="what `maao requests import` reads")
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=4096)
    asked = parser.parse_args()
    from llama_cpp import Llama

    done = answered(asked.replies)
    model = Llama(str(asked.model), n_ctx=asked.context, n_threads=asked.threads, n_threads_batch=asked.threads, verbose=False)
    with asked.replies.open("a", encoding="utf-8") as out:
        for line in asked.requests.read_text(encoding="utf-8").splitlines():
            request = json.loads(line)
            if request["custom_id"] in done:
                continue
            body = request["body"]
            own = {key: body[key] for key in ("max_tokens", "temperature", "seed") if key in body}
            found = model.create_chat_completion(body["messages"], **own)
            reply = {
                "custom_id": request["custom_id"],
                "text": found["choices"][0]["message"]["content"],
                "input_tokens": found["usage"]["prompt_tokens"],
                "output_tokens": found["usage"]["completion_tokens"],
            }
            out.write(json.dumps(reply, ensure_ascii=False) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
