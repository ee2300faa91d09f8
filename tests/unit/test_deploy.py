"""What deploy/ holds: parsed, checked against the code, and linted where there is a tool for it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastfeed.cli.main import build_parser
from fastfeed.daemon import metrics
from fastfeed.daemon.config import Config, Loaded, load
from fastfeed.daemon.defaults import Machine
from tests.helpers.repository import ROOT

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "fastfeed-cache.service"
DASHBOARD = DEPLOY / "grafana" / "fastfeed-cache.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
DAEMON_SET = DEPLOY / "kubernetes" / "fastfeed-cache.yaml"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
NAME = re.compile(r"\bfastfeed_cache_\w+")


def machine() -> Machine:
    """A node where /run is in RAM and the disks are disks."""
    return Machine(
        environment={},
        euid=990,
        file_system=lambda folder: "tmpfs" if folder.is_relative_to("/run") else "ext4",
        free_bytes=lambda folder: 1 << 42,
        writable=lambda folder: True,
    )


def loaded(folder: Path, text: str) -> Loaded:
    """A configuration of deploy/, with users and groups that this machine knows."""
    file = folder / "cache.toml"
    file.write_text(text.replace('"prometheus"', "901").replace('["training"]', "[1500]"))
    return load(file, machine=machine())


def unit() -> dict[str, list[str]]:
    """Setting -> its values, of all sections."""
    values: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            values.setdefault(name, []).append(value)
    return values


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def daemon_set() -> dict[str, Any]:
    return next(each for each in documents(DAEMON_SET) if each["kind"] == "DaemonSet")


class TestConfiguration:
    def test_it_loads_and_says_what_the_unit_prepares(self, tmp_path: Path) -> None:
        config = loaded(tmp_path, (DEPLOY / "cache.toml").read_text()).config
        assert config.words == config.runtime == Path("/run/fastfeed/private")
        assert str(config.socket) == "/run/fastfeed/cache.sock"
        pool = config.pools[0]
        assert pool.admits(4711, [1500])
        assert not pool.admits(4711)
        assert pool.origin_of("s3://training-data/imagenet") is not None
        assert pool.origin_of("s3://elsewhere/x") is None
        mounts = dict(pair.split(":") for line in unit()["BindReadOnlyPaths"] for pair in line.split())
        disks = {str(disk.path): str(disk.readonly_path) for disk in config.disks}
        assert mounts == {str(config.words): str(config.words_readonly_path), **disks}
        assert unit()["ExecStartPre"][0].endswith(f"-m 0700 {config.words}")
        assert {str(disk.path) for disk in config.disks} == set(" ".join(unit()["ReadWritePaths"]).split())
        assert float(unit()["TimeoutStopSec"][0]) > config.drain_s

    def test_every_setting_in_it_is_still_a_setting(self, tmp_path: Path) -> None:
        text = (DEPLOY / "cache.toml").read_text()
        assert tomllib.loads(text)
        sources = {each.source for each in loaded(tmp_path, text).provenance}
        assert str(tmp_path / "cache.toml") in sources


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
class TestUnit:
    def test_systemd_finds_nothing_wrong_with_it(self, tmp_path: Path) -> None:
        """Its program is replaced by one that every machine has."""
        copy = tmp_path / UNIT.name
        copy.write_text(UNIT.read_text().replace("/opt/fastfeed/bin/fastfeed", "/bin/true"))
        done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
        ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
        assert (done.returncode, ours) == (0, [])

    def test_it_is_hardened(self) -> None:
        """systemd's own measure, 0 to 10: below 2 is what it calls OK."""
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(UNIT)],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-500:]

    def test_its_command_parses(self) -> None:
        command = shlex.split(unit()["ExecStart"][0])[1:]
        assert build_parser(*command[:2]).parse_args(command).config == Path("/etc/fastfeed/cache.toml")

    def test_its_user_is_made_by_sysusers(self) -> None:
        text = (UNIT.parent / "fastfeed-cache.sysusers").read_text()
        assert re.search(rf"^u {unit()['User'][0]} ", text, re.MULTILINE)

    def test_slot_words_and_socket_stay_over_a_restart(self) -> None:
        assert unit()["RuntimeDirectoryPreserve"] == ["yes"]


class TestDockerfile:
    def instructions(self, name: str) -> list[str]:
        lines = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
        return [line.partition(" ")[2].strip() for line in lines if line.startswith(f"{name} ")]

    def test_what_it_copies_is_there(self) -> None:
        for line in self.instructions("COPY"):
            *sources, _ = line.split()
            if sources[0].startswith("--from="):
                continue
            for source in sources:
                assert (ROOT / source).exists(), source

    def test_it_copies_all_that_the_build_reads(self) -> None:
        copied = " ".join(self.instructions("COPY"))
        for name in ("pyproject.toml", "setup.py", "csrc", "fastfeed", "docs/licenses", "README.md", "LICENSE"):
            assert name in copied

    def test_its_images_have_a_version_and_its_last_user_is_not_root(self) -> None:
        assert all(re.fullmatch(r"python:\d+\.\d+-slim-\w+( AS \w+)?", each) for each in self.instructions("FROM"))
        assert self.instructions("USER")[-1] == "990:990"

    def test_its_programs_are_lists_and_parse(self) -> None:
        entry, command = json.loads(self.instructions("ENTRYPOINT")[0]), json.loads(self.instructions("CMD")[0])
        words = [*entry, *command][1:]
        assert build_parser(*words[:2]).parse_args(words).subcommand == "serve"
        check = json.loads(self.instructions("HEALTHCHECK")[0].partition("CMD ")[2])[1:]
        assert build_parser(*check[:2]).parse_args(check).timeout == 5

    def test_every_step_of_apt_leaves_no_lists(self) -> None:
        for line in self.instructions("RUN"):
            assert ("apt-get" in line) == ("rm -rf /var/lib/apt/lists/*" in line)


class TestKubernetes:
    def config(self, folder: Path) -> Config:
        mapped = next(each for each in documents(DAEMON_SET) if each["kind"] == "ConfigMap")
        return loaded(folder, mapped["data"]["cache.toml"]).config

    def test_the_socket_is_where_clients_look_in_both_pods(self, tmp_path: Path) -> None:
        pod = daemon_set()["spec"]["template"]["spec"]
        (cache,) = pod["containers"]
        mounts = {each["mountPath"]: each for each in cache["volumeMounts"]}
        paths = {each["name"]: each["hostPath"]["path"] for each in pod["volumes"] if "hostPath" in each}
        config = self.config(tmp_path)
        assert paths[mounts[str(config.socket.parent)]["name"]] == "/run/fastfeed"
        (training,) = documents(DEPLOY / "kubernetes" / "training-pod.yaml")
        (volume,) = training["spec"]["volumes"]
        assert volume["hostPath"]["path"] == "/run/fastfeed"
        assert config.pool_for(training["spec"]["securityContext"]["runAsUser"]) is not None

    def test_each_disk_is_mounted_twice_once_read_only(self, tmp_path: Path) -> None:
        (cache,) = daemon_set()["spec"]["template"]["spec"]["containers"]
        mounts = {each["mountPath"]: each for each in cache["volumeMounts"]}
        for disk in self.config(tmp_path).disks:
            written, read = mounts[str(disk.path)], mounts[str(disk.readonly_path)]
            assert written["name"] == read["name"]
            assert read["readOnly"]
            assert not written.get("readOnly")
        config = self.config(tmp_path)
        assert config.words_readonly_path is not None
        again = config.words_readonly_path.relative_to("/readonly/run")
        assert config.words == config.socket.parent / again
        assert mounts["/readonly/run"]["name"] == mounts[str(config.socket.parent)]["name"]
        assert mounts["/readonly/run"]["readOnly"]

    def test_the_daemon_has_no_privileges_and_time_to_drain(self, tmp_path: Path) -> None:
        pod = daemon_set()["spec"]["template"]["spec"]
        (cache,) = pod["containers"]
        context = cache["securityContext"]
        assert context["runAsNonRoot"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert pod["terminationGracePeriodSeconds"] > self.config(tmp_path).drain_s
        assert not any(pod.get(each) for each in ("hostNetwork", "hostPID", "hostIPC"))

    def test_its_commands_parse_and_its_volumes_exist(self) -> None:
        pod = daemon_set()["spec"]["template"]["spec"]
        (cache,) = pod["containers"]
        args = ["cache", *cache["args"]]
        assert build_parser(*args[:2]).parse_args(args).subcommand == "serve"
        for probe in ("startupProbe", "livenessProbe"):
            words = cache[probe]["exec"]["command"][1:]
            assert build_parser(*words[:2]).parse_args(words).timeout < cache[probe]["timeoutSeconds"]
        volumes = {each["name"] for each in pod["volumes"]}
        for container in (*pod["containers"], *pod["initContainers"]):
            assert {each["name"] for each in container["volumeMounts"]} <= volumes

    def test_selector_and_labels_agree(self) -> None:
        spec = daemon_set()["spec"]
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]


class TestMetricsInUse:
    def test_every_metric_of_the_dashboard_exists_and_every_metric_has_a_panel(self) -> None:
        used = set(NAME.findall(DASHBOARD.read_text()))
        assert used - metrics.names() == set()
        latency = {metrics.LATENCY_NAME + suffix for suffix in ("_sum", "_count")}
        # An epoch is a number that no chart makes clearer, nor is a bound.
        assert metrics.names() - used == {*latency, "fastfeed_cache_job_epoch", "fastfeed_cache_request_fetches_max"}

    def test_every_metric_and_label_of_an_alert_exists_and_is_explained_in_the_docs(self) -> None:
        labels = {described.name: set(described.labels) for described in metrics.METRICS}
        page = (ROOT / "docs" / "operating.md").read_text()
        rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
        assert len({rule["alert"] for rule in rules}) == len(rules)
        for rule in rules:
            assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
            assert rule["alert"] in page, f"{rule['alert']} is not in docs/operating.md"
            for name in NAME.findall(rule["expr"]):
                known = labels[name] | {"instance"}
                assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= known
                matchers = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", rule["expr"])
                assert set(matchers) <= known

    def test_every_metric_is_in_the_docs(self) -> None:
        page = (ROOT / "docs" / "operating.md").read_text()
        missing = [described.name for described in metrics.METRICS if f"`{described.name}`" not in page]
        assert not missing

    def test_labels_that_the_dashboard_groups_by_exist(self) -> None:
        labels = {described.name: {*described.labels, "instance"} for described in metrics.METRICS}
        labels[metrics.LATENCY_NAME + "_bucket"] = {"pool", "origin", "le", "instance"}
        labels[metrics.INFO_NAME] = {"version", "instance"}
        for panel in json.loads(DASHBOARD.read_text())["panels"]:
            for target in panel.get("targets", []):
                known = set.intersection(*(labels[name] for name in NAME.findall(target["expr"])))
                grouped = re.findall(r"\bby \(([^)]*)\)", target["expr"])
                assert {label.strip() for each in grouped for label in each.split(",")} <= known, panel["title"]
                shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                outer = re.match(r"\w+ by \(([^)]*)\)", target["expr"])
                assert shown <= ({each.strip() for each in outer[1].split(",")} if outer else known), panel["title"]

    def test_panels_have_ids_of_their_own_and_do_not_overlap(self) -> None:
        panels = json.loads(DASHBOARD.read_text())["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert place["x"] + place["w"] <= 24
            assert not cells & taken, panel["title"]
            taken |= cells


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*")), ids=lambda path: path.name)
def test_every_file_is_named_in_the_readme(path: Path) -> None:
    page = (DEPLOY / "README.md").read_text()
    if path.is_file() and path.name != "README.md":
        relative = path.relative_to(DEPLOY)
        assert f"({relative})" in page or f"({relative.parent}/)" in page
