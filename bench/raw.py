"""The machine's limit: each delta decoded and sent on by bare asyncio. `python -m bench.raw UPSTREAM`."""

import asyncio
import sys
from urllib.parse import urlsplit

import orjson

upstream = urlsplit(sys.argv[1])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    body = await reader.readexactly(length)
    up, down = await asyncio.open_connection(upstream.hostname, upstream.port)
    down.write(head + body)
    writer.write(HEAD)
    rest = b""
    while b"[DONE]" not in rest:
        *lines, rest = (rest + await up.read(65_536)).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                delta = orjson.loads(line[6:])["choices"][0]["delta"].get("content", "")
                writer.write(b"data: " + orjson.dumps({"type": "token", "content": delta}) + b"\n\n")
            elif line.startswith(b"data: [DONE]"):
                rest = line
        await writer.drain()
    writer.write(b'data: {"type": "end"}\n\n')
    writer.close()
    down.close()


async def main() -> None:
    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    print(f"on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
