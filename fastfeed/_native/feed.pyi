"""The reader: rows in, batches out (csrc/feed). The only way from a dataset's bytes to values, for every caller.

`Snapshot` describes where rows are; `Reader` turns row numbers into batches, with threads of its own (submit/next)
or in the calling thread (take, sample).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .cache import CacheClient
from .frames import ColumnSpec
from .image import ImageProgram

Buffer = Any

class ShardTable(NamedTuple):
    """Columns over the shards of one snapshot; numpy views of the mapped manifest where possible.

    Borrowed: `Snapshot` keeps them alive."""

    root: str  # folder that relative paths are relative to
    path_offsets: npt.NDArray[np.int32]  # [S + 1], Arrow string offsets into path_data
    path_data: Buffer  # uint8
    uids: npt.NDArray[np.uint8]  # [S * 16]
    file_bytes: npt.NDArray[np.uint64]  # [S]
    row_ends: npt.NDArray[np.int64]  # [S]: cumulative rows (streams: cumulative documents)
    payload_ends: npt.NDArray[np.uint64]  # [S]
    index_file: npt.NDArray[np.uint32]  # [S] into index_maps
    row_index_at: npt.NDArray[np.uint64]  # [S] byte offset in that map; 0: none (fixed stride)
    page_checksums_at: npt.NDArray[np.uint64]  # [S]; streams
    dictionary_set: npt.NDArray[np.uint32]  # [S]
    index_maps: Sequence[Buffer]  # mapped index files, whole
    # one per set: {column index: dictionary bytes}
    dictionary_sets: Sequence[dict[int, bytes]]
    token_ends: npt.NDArray[np.int64] | None = None  # [S]: cumulative tokens; streams only

class Snapshot:
    """Immutable. Opens shard files as rows need them and keeps at most `open_files_max` open.

    Each file is checked once when it is opened (size, header crc, uid, flags): a missing or damaged shard is a
    CorruptDataError, an unknown flag a FormatVersionError. Thread-safe. A forked child makes its own: using this one
    there is a FastfeedError.

    With `cache` no file is opened, and no header read: bytes come through the client, which this keeps alive, and the
    crcs of frames and pages, seeded with the manifest's uids, say that they are the shard's. What fails them is asked
    for again, past the slot it came from, before it is an error. ConfigError where the set's objects have other sizes
    than the shards."""

    def __init__(
        self,
        table: ShardTable,
        specs: Sequence[ColumnSpec],  # rows layout; empty for a stream
        *,
        token_bytes: int = 0,  # stream: 2 or 4
        window: int = 0,  # stream: tokens a window; 0: a row is a document
        stride: int = 0,  # stream: tokens from the start of one window to the next
        open_files_max: int = 512,
        io: str = "auto",  # "auto" | "pread" | "uring" | "fault:<script>"
        direct: bool = False,  # the data is larger than the page cache: io_uring reads past it
        # read through the node's cache: (client, number of a set whose objects are these shards, in order)
        cache: tuple[CacheClient, int] | None = None,
    ) -> None: ...
    def __len__(self) -> int: ...

class OutputSpec(NamedTuple):
    """One column of the batches to make. `dtype` and `shape` are how items are stored, from the schema:
    a scalar has shape (), a tensor its shape, an array its shape with one None, a stream () and uint16 or uint32;
    bytes, text, json and images leave both as they are."""

    column: int  # index into specs (streams: 0)
    image: ImageProgram | None = None  # image columns: None gives the encoded bytes
    # numpy dtype name for scalar, tensor, array and token columns. Floats become integers by truncation (saturating;
    # NaN becomes 0), integers wrap as in C, anything but 0 is True.
    cast: str | None = None
    dtype: str = "uint8"  # numpy dtype name of one stored item: bool, int8 .. uint64, float16, float32, float64
    shape: tuple[int | None, ...] = ()

class RaggedArrays(NamedTuple):
    """n values of different sizes.

    values: uint8 for bytes, text, json and encoded images; the item type for arrays; pixels (flat) for decoded
    images. offsets: int64 [n + 1] in items. shapes: int64 [n, ndim] for arrays of more than one dimension and decoded
    images, else None."""

    values: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    shapes: npt.NDArray[np.int64] | None

class NativeBatch(NamedTuple):
    """Arrays own their slot together; it is reused after the last view of any of them is dropped."""

    columns: list[npt.NDArray[Any] | RaggedArrays]  # as the OutputSpecs; fixed shapes: [n, ...]
    nulls: list[npt.NDArray[np.bool_] | None]  # per column: bool [n], None where not nullable
    rows: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]
    whole: bool  # whether every row is valid
    spent_s: tuple[float, ...]  # thread-seconds that this batch took, as STAGES

STAGES: tuple[str, ...]  # locate, read, verify, decode, place

class Pulse(NamedTuple):
    """What a loader looks at in every step."""

    batch_bytes: int  # mean bytes of one finished batch's buffers so far, 0 before the first
    idle_s: float  # thread-seconds in which decoders had nothing to do
    slots_held: int  # batches that are held by views of their arrays

class Pinner(Protocol):
    """Registers the pages of batches with a device, so that it copies from them by itself. Called with the GIL by
    threads that take or drop batches, one call at a time for a reader."""

    def pin(self, address: int, size_bytes: int) -> bool:
        """Whether the pages are registered now. Called once for pages that are, again with the next batch for others.
        """
    def unpin(self, address: int) -> None:
        """The pages at `address` go back to the system after this."""
    def hold(self, memory: object) -> None:
        """Nobody refers to a batch any more. It is used again when `memory` is dropped: not before the device has
        read it."""

class Reader:
    """Reads, verifies, decodes and places. Threads (readers and decoders) start at the first submit().

    Reads one snapshot, or several: then each row of a batch names its source, and is checked against, located in and
    decoded by that source's snapshot alone. The outputs of all must agree in the type and shape that they deliver
    (ConfigError names the column); codecs, stored types and column numbers may differ.

    A bad sample raises CorruptDataError, or OSError (EIO) with the file's name: of the batch's bad samples, the one at
    the lowest position. With on_error="skip" these become holes; what would hit every sample (version, memory,
    descriptors) is still raised.

    Batches come out of next() in the order of submit(). A row of -1 is a hole: zeros, valid False. Randomness of image
    programs is keyed by (seed, epoch, position, row). close() is idempotent, joins the threads, and makes waiting
    next() calls raise. In a forked child every method raises FastfeedError except close(), which then only forgets.
    """

    def __init__(
        self,
        snapshots: Snapshot | Sequence[Snapshot],  # one, or up to 4,096
        outputs: Sequence[OutputSpec] | Sequence[Sequence[OutputSpec]],  # of the one, or of each
        *,
        threads: int = 1,  # decoders
        reader_threads: int = 1,  # at most: as many read ahead as reads wait for storage, measured
        on_error: str = "raise",  # "raise" | "skip": a bad sample becomes a hole, counted
        pinner: Pinner | None = None,
        marks: tuple[int, int] | None = None,  # addresses of nvtxRangePushA and nvtxRangePop: a range for each stage
    ) -> None: ...
    def submit(
        self,
        rows: npt.NDArray[np.int64],
        positions: npt.NDArray[np.int64],
        seed: int,
        epoch: int,
        valid: npt.NDArray[np.bool_] | None = None,  # False: delivered but marked (padding)
        sources: npt.NDArray[np.int32] | None = None,  # number of each row's snapshot; None: all of the first
    ) -> None:
        """Queue one batch. Copies its arguments. Never blocks."""
    def pending(self) -> int:
        """Batches submitted and not yet returned by next()."""
    def ready(self) -> int:
        """Batches that next() would return at once."""
    def next(self, timeout_s: float) -> NativeBatch:
        """The oldest submitted batch. Waits without the GIL, and lets signals through within 50 ms.

        LoaderTimeoutError names stage, shard and row of what it waits for. A batch with a bad sample raises its error
        (on_error="raise"), once; later batches go on."""
    def cancel(self) -> None:
        """Forget all submitted batches; running work is waited for (bounded by one sample a thread)."""
    def take(
        self,
        rows: npt.NDArray[np.int64],
        positions: npt.NDArray[np.int64] | None = None,
        seed: int = 0,
        epoch: int = 0,
        sources: npt.NDArray[np.int32] | None = None,
    ) -> NativeBatch:
        """One batch, made in the calling thread without starting threads. `positions` are the rows where not given.
        Releases the GIL. Thread-safe."""
    def sample(self, row: int, source: int = 0) -> tuple[Any, ...]:
        """One row of a source as Python values in column order, None for nulls: bytes for bytes and encoded images, str
        for text, the text as str for json (the caller parses), int/float/bool for scalars, np.ndarray for tensors,
        arrays and windows.
        Neither image programs nor casts are applied. Thread-safe."""
    def pulse(self) -> Pulse:
        """What changes from step to step, cheaply."""
    def set_trace(self, on: bool) -> None:
        """Whether to keep which thread did which stage when."""
    def take_spans(self) -> list[tuple[str, int, int, int]]:
        """What was kept since the last call: (stage, thread, begin, end) in nanoseconds of time.monotonic_ns(). At most
        65,536; what came after them is lost."""
    def stats(self) -> dict[str, Any]:
        """Since creation: samples, batches, frame_bytes, holes; locate_s, read_s, verify_s, decode_s, place_s (thread
        seconds by stage), idle_s and read_wait_s (of decoders without work, and of reads that waited for storage),
        readers (threads that read ahead at the moment); slots, slots_held, slot_bytes; "images": the ImageCounts as a
        dict; "first_errors": up to 8 messages of skipped samples. Of files, since their snapshots were made: "io": the
        engine ("pread", "uring", "uring direct", "cache"), "io_choice": why that one, both of the first snapshot;
        "io_bytes": {"cached": from the page cache, "device": waited for}, "io_device_reads": reads that waited."""
    def close(self) -> None:
        """Stop and join the threads. Batches that were handed out stay valid."""

def io_uring_refusal() -> str | None:
    """Why this process cannot use io_uring; None where it can. Sets one up and reads a file with it."""
