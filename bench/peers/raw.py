"""The machine's limit: bare asyncio that decodes each delta and sends what arrived together on together."""

import asyncio
import os
import re
import sys
from urllib.parse import urlsplit

import orjson

UPSTREAM = urlsplit(os.environ["UPSTREAM"])
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = LENGTH.search(head)
    body = await reader.readexactly(int(length[1]) if length else 0)
    up, down = await asyncio.open_connection(UPSTREAM.hostname, UPSTREAM.port)
    down.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    writer.write(HEAD)
    rest = b""
    try:
        while b"[DONE]" not in rest and (block := await up.read(65_536)):
            *lines, rest = (rest + block).split(b"\n")
            writer.write(b"".join(map(relayed, lines)))
            if b"data: [DONE]" in lines:
                break
            await writer.drain()
        writer.write(b'data: {"type": "end"}\n\n')
    except ConnectionError:
        pass  # the client has gone
    writer.close()
    down.close()


def relayed(line: bytes) -> bytes:
    if not line.startswith(b"data: {"):
        return b""
    text = orjson.loads(line[6:])["choices"][0]["delta"].get("content")
    return b"data: %b\n\n" % orjson.dumps({"type": "token", "content": text}) if text else b""


async def main() -> None:
    server = await asyncio.start_server(relay, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
