"""A model server that says a fixed text at full speed: `python -m tests.fast_upstream DELTAS PER_WRITE PAUSE`."""

import asyncio
import json
import sys

DELTA = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "word "}}]}).encode() + b"\n\n"
END = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    deltas, per_write, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    block = chunk(DELTA) * per_write
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            writer.write(HEAD)
            for _ in range(deltas // per_write):
                writer.write(block)
                await writer.drain()
                await asyncio.sleep(pause)
            writer.write(chunk(END) + b"0\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(f"on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)  # noqa: T201  # who starts it reads it
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
