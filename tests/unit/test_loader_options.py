"""Keywords of a loader: each is honoured or refused, none is ignored."""

import logging

import pytest

from fastfeed.errors import ConfigError
from fastfeed.loader.options import Last, LoaderOptions, OnError, PythonMode, read_options
from fastfeed.order import ShuffleMode


def options(**arguments: object) -> LoaderOptions:
    return read_options({"batch_size": 8, **arguments})


def test_the_defaults_are_those_of_the_documentation():
    got = options()
    assert got.shuffle is ShuffleMode.WINDOW
    assert (got.shuffle_window, got.seed, got.epoch) == (1024, 0, 0)
    assert got.last is Last.DROP
    assert got.on_error is OnError.RAISE
    assert got.python_mode is PythonMode.THREADS
    assert got.prefetch_bytes == 256 << 20
    assert got.timeout_s == 300
    assert got.columns is None


def test_a_batch_size_is_of_a_rank_and_a_global_batch_size_of_all():
    assert read_options({"batch_size": 8}).global_batch(4) == 32
    assert read_options({"global_batch_size": 10}).global_batch(4) == 10


@pytest.mark.parametrize("arguments", [{}, {"batch_size": 8, "global_batch_size": 8}, {"batch_size": None}])
def test_exactly_one_of_the_two_batch_sizes_is_needed(arguments):
    with pytest.raises(ConfigError, match="either batch_size="):
        read_options(arguments)


@pytest.mark.parametrize(("given", "kind"), [(True, ShuffleMode.WINDOW), ("window", ShuffleMode.WINDOW),
                                             ("full", ShuffleMode.FULL), (False, ShuffleMode.NONE),
                                             (None, ShuffleMode.NONE)])
def test_shuffle_takes_names_and_truth_values(given, kind):
    assert options(shuffle=given).shuffle is kind


def test_shuffle_says_what_the_order_calls_it():
    assert [kind.argument for kind in ShuffleMode] == [False, "full", "window"]


@pytest.mark.parametrize(("alias", "name", "value"), [
    ({"shuffle_seed": 7}, "seed", 7),
    ({"drop_last": True}, "last", Last.DROP),
    ({"drop_last": False}, "last", Last.SHORT),
    ({"prefetch_factor": 4}, "prefetch_batches", 4),
    ({"predownload": 1000}, "prefetch_samples", 1000),
    ({"collate_fn": len}, "collate_fn", len),
    ({"pin_memory": False}, "batch_size", 8),
    ({"cache_limit": "500gb"}, "batch_size", 8),
])
def test_names_of_other_loaders_mean_the_same_here(alias, name, value):
    assert getattr(options(**alias), name) == value


@pytest.mark.parametrize("name", ["num_workers", "num_canonical_nodes"])
def test_keywords_without_a_meaning_are_accepted_with_one_note(name, caplog):
    with caplog.at_level(logging.WARNING, logger="fastfeed"):
        options(**{name: 4})
    assert [record.getMessage().split("=")[0] for record in caplog.records] == [name]


def test_keywords_without_a_meaning_that_are_none_give_no_note(caplog):
    options(num_workers=None)
    assert not caplog.records


@pytest.mark.parametrize("pair", [{"seed": 1, "shuffle_seed": 1}, {"last": "pad", "drop_last": True},
                                  {"prefetch": "1MiB", "prefetch_factor": 2}, {"prefetch_factor": 2, "predownload": 9}])
def test_two_names_for_the_same_thing_are_an_error(pair):
    with pytest.raises(ConfigError, match="give one of them"):
        options(**pair)


@pytest.mark.parametrize(("name", "value", "message"), [
    ("batch_size", 0, "whole number from 1"),
    ("batch_size", True, "whole number"),
    ("batch_size", 2.5, "whole number"),
    ("seed", -1, "whole number from 0"),
    ("epoch", 1 << 63, "whole number"),
    ("seed", 1 << 64, "whole number"),
    ("shuffle", "sorted", "use 'window'"),
    ("shuffle_window", 0, "whole number"),
    ("last", "keep", "choose one of 'drop', 'pad', 'short'"),
    ("deal", "random", "choose one of"),
    ("nodes", "abc", "each rank's node"),
    ("nodes", ["a", ""], "each rank's node"),
    ("nodes", [], "each rank's node"),
    ("all_gather", 3, "cannot be called"),
    ("io", "mmap", "choose one of"),
    ("on_error", "ignore", "choose one of"),
    ("pin_memory", True, "fastfeed.torch.Loader"),
    ("cache_limit", "many", "cache_limit"),
    ("drop_last", "yes", "True"),
    ("threads", 0, "whole number"),
    ("prefetch", "0", "prefetch"),
    ("prefetch", "lots", "prefetch"),
    ("timeout_s", 0, "above 0"),
    ("timeout_s", float("nan"), "above 0"),
    ("columns", "label", "list of column names"),
    ("columns", [], "one or more"),
    ("columns", ["a", "a"], "different"),
    ("transforms", ["a"], "mapping"),
    ("map_sample", 3, "cannot be called"),
    ("python_mode", "fork", "choose one of"),
    ("sampler", object(), "MapDataset"),
    ("timeout", 3, "timeout_s"),
    ("bach_size", 3, "Did you mean batch_size"),
    ("qqq", 3, "no keyword qqq="),
])
def test_what_cannot_be_honoured_is_refused_with_a_remedy(name, value, message):
    with pytest.raises(ConfigError, match=message):
        options(**{name: value})


@pytest.mark.parametrize("pair", [{"rank": 0}, {"world_size": 2}])
def test_rank_and_world_size_come_together(pair):
    with pytest.raises(ConfigError, match="both or neither"):
        options(**pair)


def test_a_single_transform_needs_no_list():
    assert options(transforms={"a": len, "b": [len, str]}).transforms == {"a": (len,), "b": (len, str)}
