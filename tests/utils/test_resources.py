"""What a machine has: limits of containers, disk, open files, the hub; each fault is planted."""

import os
import shutil

import pytest
from huggingface_hub import HfApi, constants

from utils import resources
from utils.resources import (
    available_memory,
    disk_finding,
    hub_finding,
    machine_findings,
    memory_limit,
    processors,
    shared_memory_finding,
)

GIB = 2**30


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Make files of control groups: cgroups("0::/job", {"job/memory.max": "1"})."""

    def plant(own, files):
        (tmp_path / "own").write_text(own + "\n")
        for name, text in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        monkeypatch.setattr(resources, "OWN_CGROUP", tmp_path / "own")
        monkeypatch.setattr(resources, "CGROUPS", tmp_path / "fs")

    return plant


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        (
            "0::/a/b",
            {"a/b/memory.max": "max", "a/memory.max": str(GIB), "a/memory.current": "100"},
            (GIB, 100),
        ),
        ("0::/of/the/host", {"memory.max": str(GIB), "memory.current": "7"}, (GIB, 7)),
        (
            "4:cpu,memory:/a",
            {"memory/a/memory.limit_in_bytes": "5", "memory/a/memory.usage_in_bytes": "2"},
            (5, 2),
        ),
        ("4:memory:/a", {"memory/a/memory.limit_in_bytes": str(2**63 - 4096)}, None),
        (
            "0::/a",
            {"a/memory.max": "9", "a/memory.current": "8", "a/memory.stat": "anon 1\ninactive_file 6"},
            (9, 2),
        ),
        ("0::/a", {"a/memory.max": "max"}, None),
        ("nonsense", {}, None),
    ],
)
def test_the_limit_of_a_container_is_found(cgroups, own, files, limit):
    """The machine has 256 GiB, the container 8: the run is killed without a word once it takes the ninth."""
    cgroups(own, files)
    assert memory_limit() == limit


def test_available_memory_is_that_of_the_container(cgroups):
    """A batch size by the machine's free memory is one that the container is killed for."""
    cgroups("0::/", {"memory.max": str(3 * 2**20), "memory.current": str(2**20)})
    assert available_memory() == 2 * 2**20
    findings = {finding.subject: finding for finding in machine_findings(1)}
    assert findings["memory"].status == "warn"
    assert "the container may take 3 MiB" in findings["memory"].text


def test_a_quota_of_processors_counts(cgroups):
    """64 threads on a quota of two processors: each waits for the others, and a step takes ten times as long."""
    cgroups("0::/", {"cpu.max": "50000 100000"})
    assert processors() == 0.5
    finding = next(machine_findings(4))
    assert finding.status == "warn"
    assert "OMP_NUM_THREADS=1" in finding.text
    cgroups("2:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000", "cpu.max": "max 1"})
    assert processors() == len(os.sched_getaffinity(0))


def test_few_open_files_are_a_warning(monkeypatch):
    """Loaders with workers end in "too many open files" hours later."""
    monkeypatch.setattr(resources.resource, "getrlimit", lambda kind: (256, 256))
    (finding,) = [finding for finding in machine_findings(1) if finding.subject == "open files"]
    assert (finding.status, "ulimit -n" in finding.text) == ("warn", True)


@pytest.mark.parametrize(("free", "status"), [(0, "FAIL"), (15, "warn"), (2**40, "ok")])
def test_a_full_disk_is_found(tmp_path, monkeypatch, free, status):
    """The disk is full at the first checkpoint, and the epoch is lost."""
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 2**40 - free, free)
    )
    finding = disk_finding("log_dir", tmp_path / "not" / "there", 10, "give --log_dir")
    assert finding.status == status
    assert (status == "ok") != ("give --log_dir" in finding.text)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_found(tmp_path):
    """A folder of somebody else: the run ends when it makes its run folder, after the model was loaded."""
    (tmp_path / "file").write_text("")
    finding = disk_finding("log_dir", tmp_path / "file" / "runs", 0, "give --log_dir")
    assert finding.status == "FAIL"
    assert disk_finding("cache", "~nobody_of_this_name/x", 0, "give one").status == "FAIL"


def test_small_shared_memory_matters_to_workers_only(tmp_path, monkeypatch):
    """In a container of 64 MiB shared memory, workers die with a bus error that names nothing."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**26, 0, 2**26))
    assert shared_memory_finding(0, tmp_path) is None
    assert shared_memory_finding(2, tmp_path).status == "warn"
    assert "--shm-size" in shared_memory_finding(2, tmp_path).text


def test_a_hub_that_is_away_is_no_failure(monkeypatch):
    """Without a way to the hub everything works from folders: a failure would say otherwise."""

    def away(*_, **given):
        assert given["timeout"] <= 5
        raise OSError("no route")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", away)
    finding = hub_finding()
    assert (finding.status, "no route" in finding.text, "HF_HOME" in finding.text) == ("warn", True, True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub_finding().status == "ok"
