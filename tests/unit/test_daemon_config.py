"""The daemon's configuration: sources and their order, what is refused, what a running daemon takes over."""

from __future__ import annotations

import dataclasses
import getpass
import os
from pathlib import Path

import pytest

from fastfeed.daemon import defaults
from fastfeed.daemon.config import Change, Loaded, load, reload
from fastfeed.daemon.defaults import Machine
from fastfeed.errors import ConfigError
from fastfeed.storage.options import OriginOptions

GIB = 1 << 30
EVERYTHING = """
runtime = "/run/fastfeed"
http = "127.0.0.1:7463"
[limits]
ring = "4MiB"
[disks.nvme0]
path = "/mnt/nvme0/fastfeed"
readonly_path = "/run/fastfeed/ro/nvme0"
[disks.nvme1]
path = "/mnt/nvme1/fastfeed"
[origin]
region = "eu-central-1"
retries = 3
[pools.ml]
limit = "2TiB"
users = ["root", 1234]
groups = ["root"]
[pools.ml.origins.data]
url = "s3://data"
[pools.ml.origins.special]
url = "s3://data/special"
region = "us-east-1"
rate = "1GB"
[pools.web]
limit = "1TiB"
disks = ["nvme1"]
users = "*"
"""


def machine(
    environment: dict[str, str] | None = None, *, kind: str = "ext4", free: int = 1000 * GIB, euid: int = 1000
) -> Machine:
    """A machine whose file systems are all of one kind, /run and /dev/shm apart."""

    def file_system(folder: Path) -> str:
        return "tmpfs" if folder.is_relative_to("/run") or folder.is_relative_to("/dev/shm") else kind

    return Machine(
        environment={"HOME": "/tmp"} if environment is None else environment,
        euid=euid,
        file_system=file_system,
        free_bytes=lambda folder: free,
        writable=lambda folder: True,
    )


def written(folder: Path, text: str) -> Path:
    file = folder / "cache.toml"
    file.write_text(text)
    file.chmod(0o600)
    return file


def value(loaded: Loaded, key: str) -> tuple[str, str]:
    """Text and source of one setting."""
    return next((each.text, each.source) for each in loaded.provenance if each.key == key)


class TestSources:
    def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(self, tmp_path: Path) -> None:
        file = written(tmp_path, 'idle_exit = "1m"\ndrain = 1\n[limits]\nring = "1MiB"\nclients = 5\n')
        environment = {
            "HOME": "/tmp",
            "FASTFEED_CACHE_IDLE_EXIT": "2m",
            "FASTFEED_CACHE_LIMITS__RING": "2MiB",
            "FASTFEED_CACHE_CONFIG": str(file),
        }
        loaded = load(machine=machine(environment), flags={"limits.ring": ("4MiB", "--set limits.ring=4MiB")})
        assert value(loaded, "limits.ring") == ("4194304 (4.0 MiB)", "--set limits.ring=4MiB")
        assert value(loaded, "idle_exit") == ("120 s", "$FASTFEED_CACHE_IDLE_EXIT")
        assert value(loaded, "drain") == ("1 s", str(file))
        assert value(loaded, "limits.clients") == ("5", str(file))
        assert value(loaded, "limits.disk_queue") == ("64", "default")
        assert (loaded.config.limits.ring_bytes, loaded.config.idle_exit_s, loaded.file) == (4 << 20, 120.0, file)

    def test_short_names_mean_the_default_pool_and_disk(self) -> None:
        environment = {
            "HOME": "/tmp",
            "FASTFEED_CACHE_DIR": "/nvme",
            "FASTFEED_CACHE_LIMIT": "5GiB",
            "FASTFEED_CACHE_SOCKET": "/nvme/s",
            "FASTFEED_RUNTIME_DIR": "/nvme/run",
            "FASTFEED_CACHE_HTTP": "off",
        }
        config = load(machine=machine(environment)).config
        assert [disk.path for disk in config.disks] == [Path("/nvme")]
        assert [pool.limit_bytes for pool in config.pools] == [5 * GIB]
        assert (config.socket, config.runtime, config.http) == (Path("/nvme/s"), Path("/nvme/run"), None)

    def test_a_file_with_everything(self, tmp_path: Path) -> None:
        config = load(written(tmp_path, EVERYTHING), machine=machine()).config
        ml, web = config.pools
        assert (config.socket, config.words) == (Path("/run/fastfeed/cache.sock"), Path("/run/fastfeed"))
        assert config.http is not None
        assert str(config.http) == "127.0.0.1:7463"
        assert (ml.users, ml.groups, ml.limit_bytes, ml.any_origin) == ((0, 1234), (0,), 2048 * GIB, False)
        assert [disk.name for disk in config.disks_of(ml)] == ["nvme0", "nvme1"]
        assert [disk.name for disk in config.disks_of(web)] == ["nvme1"]
        data, special = ml.origins
        assert (data.region, data.retries_max, data.bytes_per_s_max) == ("eu-central-1", 3, None)
        assert (special.region, special.retries_max, special.bytes_per_s_max) == ("us-east-1", 3, 10**9)


class TestDefaults:
    def test_an_embedded_daemon_leaves_when_idle_and_serves_its_own_user(self) -> None:
        config = load(machine=machine(), embedded=True).config
        assert config.idle_exit_s == 60
        assert load(machine=machine()).config.idle_exit_s is None
        (pool,) = config.pools
        assert pool.admits(1000)
        assert not pool.admits(0)
        assert pool.any_origin

    @pytest.mark.parametrize(
        ("environment", "kind", "folder", "why"),
        [
            ({"HOME": "/tmp"}, "ext4", "/tmp/.cache/fastfeed", "default"),
            ({"HOME": "/tmp", "XDG_CACHE_HOME": "/tmp/x"}, "xfs", "/tmp/x/fastfeed", "default"),
            ({"HOME": "/tmp"}, "nfs4", "/var/tmp/fastfeed-1000", "on nfs4, not on a local disk"),
            ({}, "ext4", "/var/tmp/fastfeed-1000", "there is no home"),
            ({"HOME": "relative"}, "ext4", "/var/tmp/fastfeed-1000", "there is no home"),
        ],
    )
    def test_the_cache_goes_to_the_home_only_if_that_is_a_local_disk(
        self, environment: dict[str, str], kind: str, folder: str, why: str
    ) -> None:
        path, source = defaults.disk(machine(environment, kind=kind))
        assert str(path) == folder
        assert why in source

    def test_a_home_that_cannot_be_written_is_passed_over(self) -> None:
        path, source = defaults.disk(dataclasses.replace(machine(), writable=lambda folder: False))
        assert path == Path("/var/tmp/fastfeed-1000")
        assert source == "default: /tmp/.cache is not writable"

    @pytest.mark.parametrize(
        ("environment", "runtime", "words"),
        [
            ({"FASTFEED_RUNTIME_DIR": "/run/user/7"}, "/run/user/7", "/run/user/7"),
            ({}, "/tmp/fastfeed-1000", "/dev/shm/fastfeed-1000/"),
            ({"FASTFEED_RUNTIME_DIR": "/x"}, "/x", "/dev/shm/fastfeed-1000/"),
        ],
    )
    def test_slot_words_are_in_ram_wherever_the_runtime_folder_is(
        self, environment: dict[str, str], runtime: str, words: str
    ) -> None:
        config = load(machine=machine({"HOME": "/tmp", **environment})).config
        assert (str(config.runtime), str(config.socket)) == (runtime, f"{runtime}/cache.sock")
        assert str(config.words).startswith(words)

    def test_two_runtime_folders_have_two_folders_of_words(self) -> None:
        one, other = (load(machine=machine({"FASTFEED_RUNTIME_DIR": path})).config.words for path in ("/a", "/b"))
        assert one != other

    @pytest.mark.parametrize(("free", "limit"), [(1000 * GIB, 64 * GIB), (100 * GIB, 50 * GIB), (3 << 20, 1 << 20)])
    def test_the_limit_is_at_most_half_of_what_is_free(self, free: int, limit: int) -> None:
        assert load(machine=machine({}, free=free)).config.pools[0].limit_bytes == limit

    def test_what_the_cache_holds_already_counts_as_free(self, tmp_path: Path) -> None:
        slab = tmp_path / "default" / "slab.0"
        slab.parent.mkdir()
        slab.write_bytes(bytes(8 << 20))
        loaded = load(machine=machine({"FASTFEED_CACHE_DIR": str(tmp_path)}, free=8 << 20))
        assert loaded.config.pools[0].limit_bytes == 8 << 20
        assert "half of the 16.0 MiB free" in value(loaded, "pools.default.limit")[1]

    def test_this_machine_has_a_configuration(self) -> None:
        here = Machine.here({"HOME": "/tmp"})
        assert here.euid == os.geteuid()
        assert load(machine=here).config.pools[0].limit_bytes > 0


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("limts = 1\n[limits]\nclients = 1", "there is no setting limts"),
            ("[limits]\nclient = 1", "Did you mean limits.clients?"),
            ("[limits]\nclients = 0", "limits.clients=0 is not a whole number"),
            ('[limits]\nclients = "many"', "not a whole number"),
            ('[limits]\nring = "8 potatoes"', "limits.ring='8 potatoes' is not a size"),
            ('drain = "soon"', "no span of time"),
            ("drain = []", "no span of time"),
            ('runtime = "run"', "relative path"),
            ("runtime = 7", "write some text"),
            ('http = "0.0.0.0:80"', "reachable from other machines"),
            ('http = "localhost:80"', "write an address and a port"),
            ('http = "127.0.0.1:99999"', "no port"),
            ("[pools.Default]\nlimit = 1", "'Default' is no name"),
            ('[pools.a]\nlimit = "1GiB"\nusers = ["nobody-here"]', "knows no user 'nobody-here'"),
            ('[pools.a]\nlimit = "1GiB"\nusers = [65534]', "nobody in particular"),
            ('[pools.a]\nlimit = "1GiB"\ngroups = ["*"]', "knows no group '*'"),
            ('[pools.a]\nlimit = "1GiB"\nusers = 3.5', "write a list of names"),
            ('[pools.a]\nlimit = "1GiB"\ndisks = ["sdz"]', "there is no disk 'sdz'"),
            ('[pools.a]\nlimit = "1GiB"\nany_origin = "maybe"', "write true or false"),
            ('[pools.a]\nlimit = "1GiB"\n[pools.b]\nusers = [0]', "pools.b.limit is not set"),
            ('[pools.a]\nlimit = "1GiB"\n[pools.a.origins.x]\nregion = "r"', "pools.a.origins.x.url is not set"),
            ('[disks.a]\npath = "/x"\n[disks.b]\npath = "/x/y"', "lies in the folder of another disk"),
            ("[origin]\nanonymous = true\naccess_key_id = 'me'", "origin: anonymous requests are not signed"),
            (
                '[pools.a]\nlimit = 1\n[pools.a.origins.x]\nurl = "s3://x"\nsecret_access_key = "hush"',
                "pools.a.origins.x: access_key_id and secret_access_key belong together",
            ),
            ("[disks.a]\n", "disks.a.path is not set"),
            ("[limts]\n", "there is no setting limts"),
            ("= broken", "this is no TOML"),
        ],
    )
    def test_a_mistake_in_the_file_names_the_setting_and_the_file(self, tmp_path: Path, text: str, words: str) -> None:
        file = written(tmp_path, text)
        with pytest.raises(ConfigError) as caught:
            load(file, machine=machine())
        assert words in str(caught.value)

    def test_a_pool_may_keep_nothing(self) -> None:
        environment = {"HOME": "/tmp", "FASTFEED_CACHE_LIMIT": "0"}
        assert load(machine=machine(environment)).config.pools[0].limit_bytes == 0

    def test_an_empty_table_is_a_pool_of_defaults(self, tmp_path: Path) -> None:
        (pool,) = load(written(tmp_path, "[pools.mine]\n"), machine=machine()).config.pools
        assert (pool.name, pool.limit_bytes, pool.users, pool.any_origin) == ("mine", 64 * GIB, (), False)

    def test_a_variable_that_nobody_reads_is_an_error_with_a_hint(self) -> None:
        with pytest.raises(ConfigError, match=r"\$FASTFEED_CACHE_LIMITS__RINGS: .* Did you mean limits.ring\?"):
            load(machine=machine({"HOME": "/tmp", "FASTFEED_CACHE_LIMITS__RINGS": "1"}))

    def test_a_network_file_system_is_no_place_for_a_cache(self) -> None:
        with pytest.raises(ConfigError, match="on nfs4, a network file system"):
            load(machine=machine({"FASTFEED_CACHE_DIR": "/data"}, kind="nfs4"))

    def test_a_long_socket_path_is_refused_before_bind_refuses_it(self) -> None:
        with pytest.raises(ConfigError, match="at most 107 bytes"):
            load(machine=machine({"FASTFEED_RUNTIME_DIR": "/" + "x" * 120}))

    def test_a_secret_in_a_file_that_others_read_is_refused_and_never_shown(self, tmp_path: Path) -> None:
        file = written(tmp_path, '[origin]\nsecret_access_key = "hush"\naccess_key_id = "me"\n')
        loaded = load(file, machine=machine())
        assert value(loaded, "origin.secret_access_key") == ("(hidden)", str(file))
        assert value(loaded, "origin.access_key_id") == ("me", str(file))
        file.chmod(0o640)
        with pytest.raises(ConfigError, match="chmod 600"):
            load(file, machine=machine())

    def test_a_file_that_is_not_there_is_the_systems_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "none.toml", machine=machine())


class TestPools:
    def test_a_pool_admits_its_users_and_the_members_of_its_groups(self, tmp_path: Path) -> None:
        ml, web = load(written(tmp_path, EVERYTHING), machine=machine()).config.pools
        assert ml.admits(1234)
        assert ml.admits(77, [5, 0])
        assert not ml.admits(77, [5])
        assert web.admits(77)

    def test_the_overflow_user_is_nobody(self, tmp_path: Path) -> None:
        ml, web = load(written(tmp_path, EVERYTHING), machine=machine()).config.pools
        assert not web.admits(65534)
        assert not ml.admits(77, [65534])

    def test_the_first_pool_that_admits_a_user_is_theirs(self, tmp_path: Path) -> None:
        config = load(written(tmp_path, EVERYTHING), machine=machine()).config
        assert [pool.name if (pool := config.pool_for(uid)) else None for uid in (1234, 77, 65534)] == [
            "ml",
            "web",
            None,
        ]

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("s3://data", "data"),
            ("s3://data/set/shards/x", "data"),
            ("s3://data/special", "special"),
            ("s3://data/special/x", "special"),
            ("s3://data/specialist", "data"),
            ("s3://database/x", None),
            ("s3://data/special/../../other", None),
            ("file:///etc/passwd", None),
        ],
    )
    def test_the_longest_prefix_names_the_origin(self, tmp_path: Path, url: str, name: str | None) -> None:
        ml, _ = load(written(tmp_path, EVERYTHING), machine=machine()).config.pools
        found = ml.origin_of(url)
        assert (found.name if found else None) == name

    def test_where_any_origin_may_be_named_the_rest_has_the_default_options(self) -> None:
        environment = {"HOME": "/tmp", "FASTFEED_CACHE_ORIGIN__ENDPOINT": "http://127.0.0.1:9000"}
        found = load(machine=machine(environment)).config.pools[0].origin_of("s3://anything/at/all")
        assert found is not None
        assert found.endpoint == "http://127.0.0.1:9000"
        assert found.options().endpoint == found.endpoint
        assert found.options() == dataclasses.replace(OriginOptions(), endpoint=found.endpoint)

    def test_users_are_found_by_name(self, tmp_path: Path) -> None:
        text = f'[pools.a]\nlimit = "1GiB"\nusers = ["{getpass.getuser()}"]'
        assert load(written(tmp_path, text), machine=machine()).config.pools[0].users == (os.getuid(),)


class TestReload:
    def loaded(self, folder: Path, text: str, free: int = 1000 * GIB) -> Loaded:
        return load(written(folder, text), machine=machine(free=free))

    def test_limits_rates_and_users_are_taken(self, tmp_path: Path) -> None:
        before = self.loaded(tmp_path, EVERYTHING)
        text = EVERYTHING.replace("2TiB", "1TiB").replace('"1GB"', '"2GB"').replace("1234", "1235")
        after, changes = reload(before, self.loaded(tmp_path, text))
        assert after.config.pools[0].limit_bytes == 1024 * GIB
        assert changes == [
            Change("pools.ml.limit", "2199023255552 (2.0 TiB)", "1099511627776 (1.0 TiB)"),
            Change("pools.ml.origins.special.rate", "1000000000 (953.7 MiB)", "2000000000 (1.9 GiB)"),
            Change("pools.ml.users", "0, 1234", "0, 1235"),
        ]

    def test_the_same_file_changes_nothing(self, tmp_path: Path) -> None:
        before = self.loaded(tmp_path, EVERYTHING)
        after, changes = reload(before, self.loaded(tmp_path, EVERYTHING))
        assert changes == []
        assert after.config == before.config

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ('runtime = "/run/fastfeed"', 'runtime = "/run/other"', "runtime"),
            ("127.0.0.1:7463", "127.0.0.1:7464", "http: 127.0.0.1:7463 -> 127.0.0.1:7464 needs a restart"),
            ("/mnt/nvme1/fastfeed", "/mnt/nvme2/fastfeed", "disks.nvme1.path"),
            ('region = "us-east-1"', 'region = "us-east-2"', "pools.ml.origins.special.region"),
            ("[pools.web]", "[pools.net]", "pools.web is gone"),
        ],
    )
    def test_what_needs_a_restart_is_an_error_that_says_so(
        self, tmp_path: Path, old: str, new: str, words: str
    ) -> None:
        before = self.loaded(tmp_path, EVERYTHING)
        after = self.loaded(tmp_path, EVERYTHING.replace(old, new))
        with pytest.raises(ConfigError, match=words):
            reload(before, after)

    def test_a_new_pool_is_taken_with_all_its_settings(self, tmp_path: Path) -> None:
        before = self.loaded(tmp_path, EVERYTHING)
        after, changes = reload(before, self.loaded(tmp_path, EVERYTHING + '[pools.new]\nlimit = "1GiB"\n'))
        assert [pool.name for pool in after.config.pools] == ["ml", "web", "new"]
        assert {change.key for change in changes} >= {"pools.new.limit", "pools.new.growth"}

    def test_a_default_limit_does_not_move_with_the_free_space(self, tmp_path: Path) -> None:
        """The cache itself fills the disk: the limit would shrink with each reload."""
        before = self.loaded(tmp_path, "", free=100 * GIB)
        after, changes = reload(before, self.loaded(tmp_path, "", free=60 * GIB))
        assert (after.config.pools[0].limit_bytes, changes) == (50 * GIB, [])
        assert value(after, "pools.default.limit") == value(before, "pools.default.limit")

    def test_a_limit_that_somebody_sets_replaces_the_default(self, tmp_path: Path) -> None:
        before = self.loaded(tmp_path, "", free=100 * GIB)
        after, _ = reload(before, self.loaded(tmp_path, '[pools.default]\nlimit = "5GiB"'))
        assert after.config.pools[0].limit_bytes == 5 * GIB
