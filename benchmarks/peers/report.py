"""The generated part of docs/benchmarks.md: tables of medians out of the results of a run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import machine

from peers import limits
from peers.contenders import BY_NAME
from peers.results import Results
from peers.workloads import WORKLOADS

BEGIN, END = "<!-- make bench-peers: begin -->", "<!-- make bench-peers: end -->"
OURS, OURS_ALONE = "fastfeed", "fastfeed, one thread"

TITLES = {
    "images": "Images: ~95 KB JPEG, random-resized crop 224, flip, uint8 batches of 256",
    "images-center": "Images: resize 256, centre crop 224",
    "photos2048": "Originals of 2,048 pixels, random-resized crop 224, flip",
    "tokens": "Tokens: windows of 2,048 of a stream of 300 M, batches of 16, int64 out",
    "small": "Small: 1 M records of 200 to 1,000 bytes, batches of 512",
    "mixed": "Mixed: image, caption, embedding and label in one sample",
    "images-cold": "Images, page cache dropped before",
    "small-cold": "Small, page cache dropped before",
}
# What fastfeed is to reach: times the best peer, times the loop by hand, share of the limit.
WANTED = {
    "images": (1.6, None, 0.92), "images-center": (None, None, None), "photos2048": (2.5, None, 0.92),
    "tokens": (20, 1.2, 0.6), "small": (8, 1.5, 0.5), "mixed": (3, None, None),
    "images-cold": (1.5, None, 0.9), "small-cold": (1.5, None, 0.9),
}
BY_HAND = "numpy.memmap by hand"
DECODER = "simplejpeg alone, whole"


def page(results: Results) -> str:
    works = [work for work in TITLES if results.all(step="round", work=work)]
    parts = [machine_lines(results), summary(results, works), decoder_line(results),
             costs(results, works), scaling(results, works)]
    parts += [rates(results, work) for work in works]
    parts += [points(results), seconds(results, "start"), seconds(results, "resume"), written(results)]
    return "\n\n".join(part for part in parts if part)


def put(path: Path, text: str) -> None:
    """Replace what stands between the two markers."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{path} has no lines {BEGIN} and {END} between which the tables could stand.")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def machine_now() -> dict[str, Any]:
    return {"text": machine.describe("numpy", "pyarrow")}


def machine_lines(results: Results) -> str:
    said = results.all(step="machine")
    versions = {name: version for step in results.all(step="versions") for name, version in step.items()
                if name not in ("step", "adapter")}
    told = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    rounds = 1 + max((step["round"] for step in results.all(step="round")), default=0)
    lines = [*(said[-1]["text"].splitlines() if said else []), f"versions of the contenders: {told}",
             f"medians of {rounds} rounds, in which all take turns; in brackets the lowest and the highest"]
    return "\n".join(f"- {line}" for line in lines)


def medians(results: Results, work: str, figure: str) -> dict[str, float]:
    """Of all that have the figure in this workload, by name."""
    found: dict[str, list[float]] = {}
    for step in results.all(step="round", work=work):
        if figure in step:
            found.setdefault(step["contender"], []).append(step[figure])
    return {name: statistics.median(values) for name, values in found.items()}


def best_peer(figures: dict[str, float], best: Callable[[Iterable[float]], float] = max) -> float | None:
    of_peers = [value for name, value in figures.items() if name in BY_NAME and BY_NAME[name].peer]
    return best(of_peers) if of_peers else None


def limit_of(work: str, figures: dict[str, float]) -> float | None:
    return next((figures[limit.name] for limit in limits.LIMITS if work in limit.held and limit.name in figures), None)


def summary(results: Results, works: list[str]) -> str:
    rows = []
    for work in works:
        figures = medians(results, work, "per_s")
        if OURS not in figures:
            continue
        held = (best_peer(figures), figures.get(BY_HAND), limit_of(work, figures))
        cells = [ratio_cell(figures[OURS], other, wanted) for other, wanted in zip(held, WANTED[work], strict=True)]
        rows.append([work, *cells])
    singles, manys = medians(results, "points", "single_per_s"), medians(results, "points", "many_per_s")
    for name, figures, wanted in (("point reads, single", singles, 4), ("point reads, 256 at once", manys, 15)):
        if OURS in figures:
            rows.append([name, ratio_cell(figures[OURS], best_peer(figures), wanted), "", ""])
    for work, wanted in (("start", 0.4), ("resume", 0.2)):
        figures = medians(results, work, "s")
        if OURS in figures and (fastest := best_peer(figures, min)):
            rows.append([f"{work}, seconds", f"{figures[OURS] / fastest:.2f} (at most {wanted})", "", ""])
    return "### fastfeed in ratios\n\n" + table(["workload", "to the best peer (wanted)", "to a loop by hand (wanted)",
                                                "of the limit (wanted)"], rows)


def costs(results: Results, works: list[str]) -> str:
    """What fastfeed takes of processors and memory, beside whoever takes least of both."""
    rows = []
    for work in works:
        runs = [step for step in results.all(step="round", work=work) if "cpu_s" in step]
        for step in runs:
            step["cpu_a_sample"] = step["cpu_s"] / step["samples"]
        cells = [cost_cell(medians(results, work, "cpu_a_sample"))]
        cells += [cost_cell(with_torch(medians(results, work, figure))) for figure in ("peak_own_mb", "peak_pss_mb")]
        rows.append([work, *cells])
    return "### fastfeed's costs, as shares of the least that a peer has (memory: of peers with torch)\n\n" + table(
        ["workload", "CPU seconds a sample", "private and shared memory", "all memory (PSS)"], rows)


def with_torch(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name in BY_NAME and BY_NAME[name].torch}


def cost_cell(figures: dict[str, float]) -> str:
    least = best_peer(figures, min)
    return f"{figures[OURS] / least:.2f}" if least and OURS in figures else ""


def scaling(results: Results, works: list[str]) -> str:
    rows = []
    for work in works:
        figures, memory = medians(results, work, "per_s"), medians(results, work, "peak_own_mb")
        if not {OURS, OURS_ALONE} <= figures.keys():
            continue
        held = next((limit.name for limit in limits.LIMITS if work in limit.held), "")
        alone = figures.get(held + limits.ONE_THREAD)
        rows.append([work, f"{figures[OURS] / figures[OURS_ALONE]:.2f}",
                     f"{figures[held] / alone:.2f}" if alone else "", f"{memory[OURS] - memory[OURS_ALONE]:+.0f}"])
    return "### From one thread to two\n\n" + table(["workload", "fastfeed", "its limit", "MB more"], rows)


def ratio_cell(ours: float, other: float | None, wanted: float | None) -> str:
    if other is None:
        return ""
    return f"{ours / other:.2f}" + (f" ({wanted})" if wanted is not None else "")


def rates(results: Results, work: str) -> str:
    warm = WORKLOADS[work.removesuffix("-cold")]
    made = results.all(step="bytes", data=warm.data)
    figures = medians(results, work, "per_s")
    rows = []
    for name, rate in sorted(figures.items(), key=lambda item: -item[1]):
        runs = [step for step in results.all(step="round", work=work, contender=name) if "per_s" in step]
        values = [step["per_s"] for step in runs]
        row = [name, f"{rate:,.0f} ({min(values):,.0f}–{max(values):,.0f})", f"{figures[OURS] / rate:.2f}"
               if OURS in figures else ""]
        if name in BY_NAME:
            bytes_a_sample = made[0]["bytes"] / made[0]["count"] if made else 0.0
            cpu = [step["cpu_s"] / step["samples"] / bytes_a_sample * 1e9 for step in runs] if made else []
            checked = results.all(step="check", contender=name, work=warm.name, variant=runs[0]["variant"])
            row += [f"{statistics.median(cpu):.2f}" if cpu else "",
                    f"{statistics.median(step['peak_own_mb'] for step in runs):,.0f}",
                    f"{statistics.median(step['peak_pss_mb'] for step in runs):,.0f}",
                    f"{runs[0]['workers']}" + (f", {runs[0]['variant']}" if runs[0]["variant"] else ""),
                    checked_cell(checked)]
        else:
            row += [""] * 5
        rows.append(row)
    rows += [[name, f"failed: {reason}", *[""] * 6] for name, reason in failures(results, work)]
    return f"### {TITLES[work]}\n\n" + table(
        [f"contender, {warm.unit}/s", "median", "fastfeed is", "CPU s a GB", "own MB", "PSS MB", "workers, variant",
         "every sample once; mean step"], rows)


def decoder_line(results: Results) -> str:
    """How good the limit of images is, in a measure that any machine has."""
    figures = medians(results, "images", "per_s")
    limit, whole = limit_of("images", figures), figures.get(DECODER)
    if limit is None or whole is None:
        return ""
    return f"The limit of images is {limit / whole:.2f} times what simplejpeg decodes of the same files, whole."


def checked_cell(checked: list[dict[str, Any]]) -> str:
    if not checked or "failed" in checked[0]:
        return "not checked"
    one = checked[0]
    once = "yes" if one["once"] else f"{one['delivered'] / one['wanted']:.0%} looked at, none twice"
    return f"{once}; {one['mean_step']:.3f}"


def failures(results: Results, work: str) -> list[tuple[str, str]]:
    """Of checks, since what is wrong is not measured, and of rounds; a contender is told once."""
    found: dict[str, str] = {}
    saves = results.all(step="save") if work == "resume" else []
    for step in (*results.all(step="round", work=work), *results.all(step="check", work=work), *saves):
        if "failed" in step:
            found.setdefault(step["contender"], step["failed"].splitlines()[-1][:120].replace("|", "/"))
    measured = medians(results, work, "per_s") | medians(results, work, "s")
    return [(name, reason) for name, reason in found.items() if name not in measured]


def points(results: Results) -> str:
    singles, manys = medians(results, "points", "single_per_s"), medians(results, "points", "many_per_s")
    rows = [[name, f"{singles[name]:,.0f}", f"{manys[name]:,.0f}"]
            for name in sorted(singles, key=lambda name: -singles[name])]
    return "### Point reads of small records\n\n" + table(["contender", "one by one, records/s",
                                                          "256 at once, records/s"], rows) if rows else ""


def seconds(results: Results, work: str) -> str:
    title = {"start": "From the start of the process to the first batch",
             "resume": "From load_state_dict in mid-epoch to the next batch"}[work]
    figures = medians(results, work, "s")
    rows = []
    for name, value in sorted(figures.items(), key=lambda item: item[1]):
        values = [step["s"] for step in results.all(step="round", work=work, contender=name) if "s" in step]
        rows.append([name, f"{value:.3f} ({min(values):.3f}–{max(values):.3f})", again(results, work, name)])
    rows += [[name, f"failed: {reason}", ""] for name, reason in failures(results, work)]
    return f"### {title}\n\n" + table(["contender", "seconds", "remarks"], rows) if rows else ""


def again(results: Results, work: str, name: str) -> str:
    if work != "resume":
        return ""
    repeated = max(step.get("again", 0) for step in results.all(step="round", work=work, contender=name))
    seen = results.one(step="save", contender=name)["seen"]
    return f"after {seen:,} records" + (f"; gave {repeated} again" if repeated else "; gave none again")


def written(results: Results) -> str:
    steps = [step for step in results.all(step="write") if "samples" in step]
    rows = [[step["adapter"], step["work"], f"{step['samples'] / step['s']:,.0f}", f"{step['bytes'] / 1e6:,.0f}",
             f"{step['files']:,}"] for step in sorted(steps, key=lambda step: (step["work"], step["adapter"]))]
    return "### Storing it\n\n" + table(["contender", "what", "samples/s", "MB", "files"], rows) if rows else ""


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)
