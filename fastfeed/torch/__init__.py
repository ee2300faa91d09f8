"""The PyTorch adapter: the only importer of torch."""

from fastfeed.torch.batch import Batch, Ragged
from fastfeed.torch.iterable_dataset import IterableDataset
from fastfeed.torch.loader import Loader
from fastfeed.torch.map_dataset import MapDataset
from fastfeed.torch.profiling import export_chrome_trace

__all__ = ["Batch", "IterableDataset", "Loader", "MapDataset", "Ragged", "export_chrome_trace"]
