#!/usr/bin/env python3
"""A TCP proxy that is far away, and can be cut.

    tcp_proxy.py --to HOST:PORT [--listen 127.0.0.1:0] [--delay-ms 10] [--control SOCKET]

Prints "ready HOST:PORT" once it serves. Every byte is delayed by --delay-ms each way, so a round trip
takes twice that; bandwidth is not limited. Connecting costs one round trip, as on a real line.
With --control, lines sent to that Unix socket steer it, each answered by "ok":

    cut          the network is gone: nothing passes, nothing is closed, new connections hang
    cut-hard     the same, and what was open is reset
    heal         it is back; what was held passes on
    delay MS     another delay, for what arrives from now on
    stats        answers "connections N bytes N" instead of "ok"
"""

import argparse
import asyncio
import contextlib
import os
import socket
import struct
import time

PIECE_BYTES = 256 * 1024
HELD_BYTES_MAX = 64 * 1024 * 1024  # on the line in one direction; more waits at the sender


class Line:
    """The state that all connections share."""

    def __init__(self, delay_s):
        self.delay_s = delay_s
        self.whole = asyncio.Event()
        self.whole.set()
        self.writers = set()
        self.connections = 0
        self.moved_bytes = 0

    def reset_all(self):
        for writer in list(self.writers):
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


async def pump(line, reader, writer):
    """Moves bytes one way: a reader stamps each piece with when it arrives at the other end."""
    pieces = asyncio.Queue()
    held = 0
    room = asyncio.Event()
    room.set()

    async def take():
        nonlocal held
        while True:
            try:
                data = await reader.read(PIECE_BYTES)
            except OSError:
                data = b""
            await pieces.put((time.monotonic() + line.delay_s, data))
            if not data:
                return
            held += len(data)
            if held > HELD_BYTES_MAX:
                room.clear()
            await room.wait()

    taker = asyncio.create_task(take())
    try:
        while True:
            due, data = await pieces.get()
            wait = due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            await line.whole.wait()
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
            line.moved_bytes += len(data)
            held -= len(data)
            if held <= HELD_BYTES_MAX:
                room.set()
    except OSError:
        pass  # one side is gone; the caller closes both
    finally:
        taker.cancel()


async def serve(line, target, reader, writer):
    line.connections += 1
    line.writers.add(writer)
    other_writer = None
    try:
        await asyncio.sleep(2 * line.delay_s)
        await line.whole.wait()
        other_reader, other_writer = await asyncio.open_connection(*target)
        line.writers.add(other_writer)
        for one in (writer, other_writer):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(pump(line, reader, other_writer), pump(line, other_reader, writer))
    except OSError:
        pass
    finally:
        for one in (writer, other_writer):
            if one is not None:
                line.writers.discard(one)
                one.close()


async def control(line, reader, writer):
    while command := (await reader.readline()).decode().split():
        answer = "ok"
        if command[0] in ("cut", "cut-hard"):
            line.whole.clear()
            if command[0] == "cut-hard":
                line.reset_all()
        elif command[0] == "heal":
            line.whole.set()
        elif command[0] == "delay" and len(command) == 2:
            line.delay_s = float(command[1]) / 1000
        elif command[0] == "stats":
            answer = f"connections {line.connections} bytes {line.moved_bytes}"
        else:
            answer = "unknown command"
        writer.write(answer.encode() + b"\n")
        await writer.drain()
    writer.close()


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


async def run(options):
    line = Line(options.delay_ms / 1000)
    target = address(options.to)
    host, port = address(options.listen)
    server = await asyncio.start_server(
        lambda r, w: serve(line, target, r, w), host, port, limit=1 << 20
    )
    if options.control:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(options.control)
        await asyncio.start_unix_server(lambda r, w: control(line, r, w), options.control)
    print("ready %s:%d" % server.sockets[0].getsockname()[:2], flush=True)
    await server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description="a TCP proxy with delay that can be cut")
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--delay-ms", type=float, default=0, help="one way")
    parser.add_argument("--control", metavar="SOCKET")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
