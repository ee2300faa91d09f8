"""A program that writes a dataset and says how far it is: `python -m tests.helpers.writing_program PLACE ROWS`."""

from __future__ import annotations

import sys

import fastfeed as ff

# Every so many rows a line; the first comes before the first row.
LINE_EVERY_ROWS = 2000
SCHEMA = ff.Schema({"id": ff.Scalar("int64"), "blob": ff.Bytes()})


def sample(row: int) -> dict[str, object]:
    return {"id": row, "blob": b"%d" % row * 40}


def main(place: str, rows: int) -> None:
    with ff.DatasetWriter(place, SCHEMA, shard_size="256KiB") as writer:
        for row in range(rows):
            if row % LINE_EVERY_ROWS == 0:
                print(row, flush=True)
            writer.write(sample(row))
        print("closing", flush=True)
    print("closed", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
