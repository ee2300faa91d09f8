"""fastfeed: feeds training from sharded datasets.

This module is the public door and runs nothing else: a name is imported when it is first asked for, so that
`import fastfeed` costs milliseconds and never brings torch or pyarrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastfeed.errors import (
    CacheFullError,
    CommitConflictError,
    ConfigError,
    CorruptDataError,
    DaemonUnavailableError,
    DatasetNotFoundError,
    FastfeedError,
    FormatVersionError,
    LoaderTimeoutError,
    OriginChangedError,
    OriginDeniedError,
    OriginError,
    TransformError,
)

if TYPE_CHECKING:
    from fastfeed.dataset.batch import Batch, Ragged
    from fastfeed.dataset.dataset import Dataset, open
    from fastfeed.dataset.delete import delete
    from fastfeed.dataset.gc import gc
    from fastfeed.dataset.merge import merge
    from fastfeed.dataset.writer import DatasetWriter, TokenWriter
    from fastfeed.format.schema import Array, Bytes, Image, Json, Scalar, Schema, Tensor, Text
    from fastfeed.loader import image
    from fastfeed.loader.loader import Loader
    from fastfeed.loader.mixture import Mixture
    from fastfeed.loader.transforms import Cast
    from fastfeed.order import Order

__version__ = "0.1.0"

# Where each lazy name lives. "" stands for the module itself.
_HOMES = {
    "Array": ("fastfeed.format.schema", "Array"),
    "Batch": ("fastfeed.dataset.batch", "Batch"),
    "Bytes": ("fastfeed.format.schema", "Bytes"),
    "Cast": ("fastfeed.loader.transforms", "Cast"),
    "Dataset": ("fastfeed.dataset.dataset", "Dataset"),
    "DatasetWriter": ("fastfeed.dataset.writer", "DatasetWriter"),
    "Image": ("fastfeed.format.schema", "Image"),
    "Json": ("fastfeed.format.schema", "Json"),
    "Loader": ("fastfeed.loader.loader", "Loader"),
    "Mixture": ("fastfeed.loader.mixture", "Mixture"),
    "Order": ("fastfeed.order", "Order"),
    "Ragged": ("fastfeed.dataset.batch", "Ragged"),
    "Scalar": ("fastfeed.format.schema", "Scalar"),
    "Schema": ("fastfeed.format.schema", "Schema"),
    "Tensor": ("fastfeed.format.schema", "Tensor"),
    "Text": ("fastfeed.format.schema", "Text"),
    "TokenWriter": ("fastfeed.dataset.writer", "TokenWriter"),
    "delete": ("fastfeed.dataset.delete", "delete"),
    "gc": ("fastfeed.dataset.gc", "gc"),
    "image": ("fastfeed.loader.image", ""),
    "merge": ("fastfeed.dataset.merge", "merge"),
    "open": ("fastfeed.dataset.dataset", "open"),
}

__all__ = [
    "Array",
    "Batch",
    "Bytes",
    "CacheFullError",
    "Cast",
    "CommitConflictError",
    "ConfigError",
    "CorruptDataError",
    "DaemonUnavailableError",
    "Dataset",
    "DatasetNotFoundError",
    "DatasetWriter",
    "FastfeedError",
    "FormatVersionError",
    "Image",
    "Json",
    "Loader",
    "LoaderTimeoutError",
    "Mixture",
    "Order",
    "OriginChangedError",
    "OriginDeniedError",
    "OriginError",
    "Ragged",
    "Scalar",
    "Schema",
    "Tensor",
    "Text",
    "TokenWriter",
    "TransformError",
    "delete",
    "gc",
    "image",
    "merge",
    "open",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fastfeed' has no attribute {name!r}")
    module = import_module(home[0])
    value = getattr(module, home[1]) if home[1] else module
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
