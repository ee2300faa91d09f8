"""`fastfeed preview`: samples in the terminal, images included where it has colours."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.console import Console, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from fastfeed.cli.common import add_command, add_snapshot_option, print_json
from fastfeed.dataset.dataset import Dataset
from fastfeed.dataset.dataset import open as open_dataset
from fastfeed.errors import ConfigError
from fastfeed.format.image_file import describe, thumbnail
from fastfeed.format.schema import Kind
from fastfeed.format.sizes import format_size

if TYPE_CHECKING:
    from fastfeed.cli.common import Subparsers

# With a thumbnail each they fill a terminal.
ROWS_BY_DEFAULT = 4
# A thumbnail is at most this many characters wide and half as many lines high: two pixels a character.
THUMBNAIL_WIDTH = 40
# Of one value: about five lines of text, one line of numbers.
TEXT_CHARACTERS_SHOWN = 400
ITEMS_SHOWN = 8
UPPER_HALF = "▀"


def add_parser(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers,
        "preview",
        description="Show samples in the terminal: text and numbers as they are, arrays in short, images as small\n"
        "pictures where the terminal has colours.",
        example="fastfeed preview out/photos\nfastfeed preview out/photos 0 17 -1 --columns image,label",
    )
    parser.add_argument("url", metavar="URL", help="the dataset's folder")
    parser.add_argument(
        "rows",
        metavar="ROW",
        type=int,
        nargs="*",
        help=f"which rows (default: the first {ROWS_BY_DEFAULT}); -1 is the last",
    )
    parser.add_argument("--columns", metavar="A,B", help="only these columns")
    add_snapshot_option(parser)


def run(args: argparse.Namespace) -> int:
    dataset = open_dataset(args.url, snapshot=args.snapshot)
    rows = chosen_rows(args.rows, len(dataset))
    columns = chosen_columns(args.columns, dataset)
    samples = [{name: sample[name] for name in columns} for sample in map(dataset.__getitem__, rows)]
    if args.json:
        print_json(report_json(dataset, rows, samples))
    else:  # also with --quiet: samples are what was asked for, not a summary
        console = Console()
        for row, sample in zip(rows, samples, strict=True):
            console.print(sample_table(dataset, row, sample, colours=console.color_system is not None))
    return 0


def chosen_rows(asked: list[int], row_count: int) -> list[int]:
    """The rows to show, counted from the start. ConfigError where one is not there."""
    for row in asked:
        if not -row_count <= row < row_count:
            raise ConfigError(f"row {row}: the dataset has {row_count:,} rows, 0 to {row_count - 1:,}.")
    if not asked:
        return list(range(min(ROWS_BY_DEFAULT, row_count)))
    return [row % row_count for row in asked]


def chosen_columns(asked: str | None, dataset: Dataset) -> list[str]:
    """The columns that --columns names, or all. ConfigError for one that is not there."""
    names = list(dataset.schema.names)
    if asked is None:
        return names
    wanted = asked.split(",")
    for name in wanted:
        if name not in names:
            raise ConfigError(f"there is no column {name!r}; the dataset has {', '.join(names)}.")
    return wanted


def is_image(dataset: Dataset, name: str) -> bool:
    """Whether the column holds images."""
    return getattr(dataset.schema[name], "kind", None) is Kind.IMAGE


def class_name(dataset: Dataset, name: str, value: Any) -> str | None:
    """The name of a class, where `value` is an index into the dataset's list of classes."""
    classes = dataset.metadata.get("classes")
    if name != "label" or not isinstance(classes, list) or not isinstance(value, int):
        return None
    return str(classes[value]) if 0 <= value < len(classes) else None


def report_json(dataset: Dataset, rows: list[int], samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The values stand by themselves: a column may be called "row"."""
    described = [
        {"row": row, "values": sample_json(dataset, sample)} for row, sample in zip(rows, samples, strict=True)
    ]
    return {"url": dataset.url, "snapshot": dataset.snapshot, "samples": described}


def sample_json(dataset: Dataset, sample: dict[str, Any]) -> dict[str, Any]:
    """A sample as JSON: bytes, images and arrays are described, everything else is itself."""
    return {name: value_json(value, image=is_image(dataset, name)) for name, value in sample.items()}


def value_json(value: Any, *, image: bool) -> Any:
    """A value as JSON can hold it: of bytes and arrays what they are, and how they begin."""
    if isinstance(value, bytes):
        return describe(value) if image else {"bytes": len(value), "begins": value[:ITEMS_SHOWN].hex()}
    if isinstance(value, np.ndarray):
        return {
            "dtype": str(value.dtype),
            "shape": list(value.shape),
            "begins": value.reshape(-1)[:ITEMS_SHOWN].tolist(),
        }
    return value


def sample_table(dataset: Dataset, row: int, sample: dict[str, Any], *, colours: bool) -> Table:
    table = Table(title=f"row {row:,}", title_justify="left", show_header=False, box=None, padding=(0, 2, 1, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in sample.items():
        if isinstance(value, bytes) and is_image(dataset, name):
            table.add_row(name, image_text(value, colours=colours))
            continue
        label = class_name(dataset, name, value)
        table.add_row(name, value_text(value) if label is None else Text(f"{value} ({label})"))
    return table


def value_text(value: Any) -> Text:
    """One value in short."""
    if value is None:
        return Text("null", style="dim")
    if isinstance(value, bytes):
        return Text(
            f"{format_size(len(value))}: {value[:ITEMS_SHOWN].hex(' ')}{' …' if len(value) > ITEMS_SHOWN else ''}"
        )
    if isinstance(value, np.ndarray):
        shown = ", ".join(
            f"{item:.4g}" if isinstance(item, float) else str(item) for item in value.reshape(-1)[:ITEMS_SHOWN].tolist()
        )
        shape = "x".join(map(str, value.shape))
        return Text(f"{value.dtype} [{shape}]: {shown}{', …' if value.size > ITEMS_SHOWN else ''}")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Text(text if len(text) <= TEXT_CHARACTERS_SHOWN else text[:TEXT_CHARACTERS_SHOWN] + " …")


def image_text(encoded: bytes, *, colours: bool) -> RenderableType:
    """A line about the image, and below it a small picture where there are colours."""
    facts = describe(encoded)
    line = Text(f"{facts['encoding']} {facts['width']} x {facts['height']}, {format_size(len(encoded))}")
    if not colours:
        return line
    width = min(THUMBNAIL_WIDTH, facts["width"])
    # Even, and at most as high as wide: a character is two pixels.
    height = max(2, min(THUMBNAIL_WIDTH, round(width * facts["height"] / facts["width"])) // 2 * 2)
    return Text("\n").join([line, *picture_lines(thumbnail(encoded, height, width))])


def picture_lines(pixels: npt.NDArray[np.uint8]) -> list[Text]:
    """Pixels [2n, width, 3] as n lines of half blocks: the upper pixel in front, the lower behind."""
    lines = []
    for upper, lower in zip(pixels[0::2].tolist(), pixels[1::2].tolist(), strict=True):
        line = Text()
        for front, behind in zip(upper, lower, strict=True):
            line.append(
                UPPER_HALF, Style.parse(f"rgb({','.join(map(str, front))}) on rgb({','.join(map(str, behind))})")
            )
        lines.append(line)
    return lines
