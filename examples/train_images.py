"""Trains on image shards, and goes on where it was stopped.

    python train_images.py SHARDS [--test SHARDS] [--checkpoint FILE] [--epochs 90]

What is worth copying: the loader's state is saved beside the model's, and a run that was stopped, on any number of
nodes, continues with the next sample that was not consumed. With torch.distributed initialised (torchrun), each
rank gets its share without a further argument.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

import fastfeed as ff
import fastfeed.torch as fft

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS_A_CHECKPOINT = 1000


def train_loader(ds: ff.Dataset, options: argparse.Namespace) -> fft.Loader:
    return fft.Loader(
        ds,
        batch_size=options.batch_size,
        columns=["image", "label"],
        transforms={
            "image": [
                ff.image.RandomResizedCrop(options.size),
                ff.image.RandomHorizontalFlip(),
                ff.image.Normalize(MEAN, STD),
            ]
        },
        seed=0,
    )


def test_loader(ds: ff.Dataset, options: argparse.Namespace) -> fft.Loader:
    """Every row once over all ranks, in the dataset's order."""
    return fft.Loader(
        ds,
        batch_size=options.batch_size,
        columns=["image", "label"],
        transforms={
            "image": [
                ff.image.Resize(options.size * 256 // 224),
                ff.image.CenterCrop(options.size),
                ff.image.Normalize(MEAN, STD),
            ]
        },
        shuffle=False,
        last="short",
    )


def network(classes: int) -> nn.Module:
    """Put your own here."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 7, stride=4, padding=3),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


def evaluate(model: nn.Module, loader: fft.Loader) -> float:
    right = seen = 0
    model.eval()
    with torch.inference_mode(), loader:
        for batch in loader:
            # A rank whose share of the last step is empty gets one masked row, so that collective steps never hang.
            valid = batch.valid
            right += int((model(batch["image"]).argmax(1) == batch["label"])[valid].sum())
            seen += int(valid.sum())
    model.train()
    return right / seen


def main() -> None:
    parser = argparse.ArgumentParser(description="Train on image shards made by `fastfeed convert`.")
    parser.add_argument("shards")
    parser.add_argument("--test", help="shards to evaluate on after each epoch")
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.pt"))
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()

    ds = ff.open(options.shards)
    model = network(len(ds.metadata["classes"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    with train_loader(ds, options) as loader:

        def save() -> None:
            states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "loader": loader.state_dict()}
            torch.save(states, options.checkpoint)

        if options.checkpoint.exists():
            saved = torch.load(options.checkpoint)
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            loader.load_state_dict(saved["loader"])
            print(f"going on from {saved['loader']}")

        for epoch in range(loader.epoch, options.epochs):
            loader.set_epoch(epoch)  # keeps a position that was loaded
            loss = torch.zeros(())
            for step, batch in enumerate(loader, start=1):
                loss = nn.functional.cross_entropy(model(batch["image"]), batch["label"])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                if step % STEPS_A_CHECKPOINT == 0:
                    save()
            save()
            tested = (
                f", test accuracy {evaluate(model, test_loader(ff.open(options.test), options)):.1%}"
                if options.test
                else ""
            )
            print(f"epoch {epoch}: loss {loss.item():.3f}{tested}")


if __name__ == "__main__":
    main()
