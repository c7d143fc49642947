"""A stub of an OpenAI-compatible server for benchmarks: it answers at once or after a while, and costs next to nothing.

    python bench/stub_openai_server.py --port 8100 --delay-ms 50 [--no-n]

A raw asyncio protocol: no framework, answers encoded once, so that what is measured is the client. It knows
/v1/chat/completions (whole and streamed), /v1/completions, /v1/models and /version, and calls itself vLLM. With
--no-n it ignores `n`, as TGI does. GET /count returns the number of generations requested.
"""

import argparse
import asyncio
import re
import signal

import orjson

LETTERS = "ABCDE"


N = re.compile(rb'"n": ?(\d+)')
SEED = re.compile(rb'"seed": ?(\d+)')
STREAM = re.compile(rb'"stream": ?true')
OPTIONS_BYTES = 400
"""The options are searched in so many last bytes of a request: they follow the prompt, which is not read."""


class Stub:
    """What the stub answers; shared by its connections. An answer is encoded once for each form of it."""

    def __init__(self, delay_s: float, supports_n: bool) -> None:
        self.delay_s = delay_s
        self.supports_n = supports_n
        self.calls = 0
        self.texts = 0
        self._made: dict[tuple[bool, bool, int, int], bytes] = {}

    def answer(self, path: bytes, body: bytes) -> bytes:
        """Return the answer to a call for texts, with its head."""
        asked = body[-OPTIONS_BYTES:]
        n, seed = N.search(asked), SEED.search(asked)
        stream = STREAM.search(asked) is not None
        count = int(n[1]) if n and self.supports_n and not stream else 1
        self.calls += 1
        self.texts += count
        key = (path.endswith(b"/chat/completions"), stream, count, int(seed[1]) % len(LETTERS) if seed else 0)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, chat: bool, stream: bool, count: int, seed: int) -> bytes:
        if stream:
            return with_head(_streamed(chat), b"text/event-stream")
        return with_head(_whole(chat, count, seed))


def with_head(body: bytes, kind: bytes = b"application/json", status: bytes = b"200 OK") -> bytes:
    """Return a whole HTTP answer."""
    return b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (status, kind, len(body), body)


def _whole(chat: bool, count: int, seed: int) -> bytes:
    choices = []
    for index in range(count):
        letter = LETTERS[(seed + index) * 7 % len(LETTERS)]
        text = {"message": {"role": "assistant", "content": letter}} if chat else {"text": letter}
        choices.append({"index": index, **text, "logprobs": None, "finish_reason": "stop"})
    usage = {"prompt_tokens": 200, "completion_tokens": 2 * count, "total_tokens": 200 + 2 * count}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "stub"}
    return orjson.dumps({**head, "choices": choices, "usage": usage})


def _streamed(chat: bool) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "stub"}
    deltas = [{"role": "assistant", "content": ""}, {"content": "B"}, {"content": ""}]
    events = []
    for place, delta in enumerate(deltas):
        part = {"delta": delta} if chat else {"text": delta["content"]}
        choice = {"index": 0, **part, "finish_reason": "stop" if place == 2 else None}
        events.append({**head, "choices": [choice]})
    usage = {"prompt_tokens": 200, "completion_tokens": 2, "total_tokens": 202}
    events.append({**head, "choices": [], "usage": usage})
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"


class Connection(asyncio.Protocol):
    """One connection: requests come one after the other."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.rest = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            head = self.rest[:end].lower()
            place = head.find(b"content-length:")
            length = (
                int(head[place + 15 : head.find(b"\r\n", place) if b"\r\n" in head[place:] else None])
                if place >= 0
                else 0
            )
            if len(self.rest) < end + 4 + length:
                return
            body = self.rest[end + 4 : end + 4 + length]
            path = self.rest[: self.rest.find(b"\r\n")].split(b" ")[1]
            self.rest = self.rest[end + 4 + length :]
            self.answer(path, body)

    def answer(self, path: bytes, body: bytes) -> None:
        """Answer one request."""
        stub = self.stub
        if path.endswith(b"/completions"):
            answer = stub.answer(path, body)
            if stub.delay_s:
                asyncio.get_running_loop().call_later(stub.delay_s, self.send, answer)
            else:
                self.send(answer)
        elif path == b"/v1/models":
            models = [{"id": "stub", "owned_by": "vllm", "max_model_len": 131072}]
            self.send(with_head(orjson.dumps({"object": "list", "data": models})))
        elif path == b"/version":
            self.send(with_head(orjson.dumps({"version": "stub"})))
        elif path == b"/count":
            self.send(with_head(orjson.dumps({"calls": stub.calls, "texts": stub.texts})))
        else:
            self.send(with_head(b"{}", status=b"404 Not Found"))

    def send(self, answer: bytes) -> None:
        """Send an answer."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(answer)


async def serve(host: str, port: int, stub: Stub) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stub), host, port, backlog=1024)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    print(f"http://{host}:{server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--no-n", action="store_true")
    args = parser.parse_args()
    asyncio.run(serve(args.host, args.port, Stub(args.delay_ms / 1000, not args.no_n)))


if __name__ == "__main__":
    main()
