"""One message of each type, every field filled: what the golden bytes of the protocol are made from."""

from __future__ import annotations

from fastfeed.wire import hot
from fastfeed.wire import messages as m

HASH = bytes(range(16))
URL = "s3://bucket/imagenet/shards/é.ffs"

HOT: dict[str, hot.HotMessage] = {
    "get": hot.Get(set=3, object=70_000, offset=5 << 20, length=4096, flags=3, entry=0x0123456789ABCDEF,
                   deadline_ms=30_000),
    "in_slot": hot.InSlot(entry=(7 << 38) | 12),
    "in_ring": hot.InRing(at=8 << 20, length=65_536),
    "release": hot.Release(),
    "error": hot.Error(code=5, text="503 after 7 attempts: try later é"),
}  # fmt: skip

CONTROL: dict[str, m.Message] = {
    "hello": m.Hello(version_min=1, version_max=1, features=0, kind=1, pid=4242, job="resnet", pool="vision"),
    "hello_data": m.Hello(version_min=1, version_max=1, kind=2, pid=4242, token=HASH),
    "welcome": m.Welcome(version=1, features=0, daemon_epoch=99, token=HASH, pool="vision", daemon_pid=77,
                         daemon_version="0.1.0", sets_max=64),
    "welcome_data": m.Welcome(version=1, daemon_epoch=99, token=HASH, ring_bytes=8 << 20, slots=2048,
                              slabs=((0, 1024), (1024, 1024)), descriptors=5),
    "more": m.More(),
    "done": m.Done(),
    "ping": m.Ping(),
    "leaving": m.Leaving(again_ms=1500),
    "list": m.List(url=URL, deadline_ms=30_000, recursive=1),
    "listed": m.Listed(size_bytes=333, files=7, descriptors=1),
    "file": m.File(url=URL, deadline_ms=30_000, size_bytes=123, size_bytes_max=1 << 30),
    "file_here": m.FileHere(size_bytes=123, etag='"abc"', modified_us=1_700_000_000_000_000, descriptors=1),
    "head": m.Head(url=URL, deadline_ms=30_000),
    "head_of": m.HeadOf(size_bytes=123, etag='"abc"', modified_us=1_700_000_000_000_000),
    "open_dataset": m.OpenDataset(set=1, url=URL, snapshot=7, manifest_hash=HASH, deadline_ms=30_000),
    "open_url": m.OpenUrl(set=2, url=URL, etag='"abc"', deadline_ms=30_000),
    "opened": m.Opened(objects=12, chunks=3000, sizes_hash=HASH, size_bytes=99, etag='"abc"', modified_us=5,
                       descriptors=1),
    "close_set": m.CloseSet(set=2),
    "register": m.Register(set=1, recipe=b'{"kind":"opaque"}'),
    "registered": m.Registered(registration=5, forecast=b'{"hits":0.71}'),
    "unregister": m.Unregister(registration=5),
    "told": m.Told(text=b"{}", size_bytes=5, descriptors=1),
    **{f"ask_{command.name.lower()}": m.Ask(command=command, arguments=b'{"url":"x"}') for command in m.Command},
}  # fmt: skip


def golden_lines() -> list[str]:
    """A line each: name, the packet of request 0x0102030405060708 in hex."""
    request = 0x0102030405060708
    packets = {name: hot.pack_hot(message, request) for name, message in HOT.items()}
    packets |= {name: m.pack(message, request) for name, message in CONTROL.items()}
    return [f"{name} {packet.hex()}" for name, packet in packets.items()]
