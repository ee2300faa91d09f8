"""Programs that change or read a dataset, told line by line: `python -m tests.helpers.changing_program WHAT PLACE ...`.

append PLACE FIRST: for each line on stdin, a writer is opened, two rows are written, "ready" is said; the next line
lets it commit, and the number of its snapshot is said.
hold PLACE: opens the newest snapshot, reads a row and a batch of a loader, says "ready"; the next line lets it read
everything, and it says the ids that it found, by indexing and by the loader.
"""

from __future__ import annotations

import json
import sys

import fastfeed as ff

ROWS_A_ROUND = 2


def say(what: object) -> None:
    print(json.dumps(what), flush=True)


def append(place: str, first: int) -> None:
    number = first
    while sys.stdin.readline():
        with ff.DatasetWriter(place, append=True) as writer:
            for _ in range(ROWS_A_ROUND):
                writer.write({"id": number, "blob": b"x"})
                number += 1
            say("ready")
            sys.stdin.readline()
        say(writer.snapshot)


def hold(place: str) -> None:
    dataset = ff.open(place)
    with ff.Loader(dataset, batch_size=1, shuffle=False, prefetch="1KiB") as loader:
        batches = iter(loader)
        found = [int(next(batches)["id"][0])]
        say("ready")
        sys.stdin.readline()
        found += [int(batch["id"][0]) for batch in batches]
    say([[one["id"] for one in dataset], found])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["append", place, first]:
            append(place, int(first))
        case ["hold", place]:
            hold(place)
