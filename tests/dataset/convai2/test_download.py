"""Downloads: resumed, verified before they take their place, and one clear line when there is no network."""

import hashlib
import io
import json
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub.constants
import pytest

from dataset.convai2 import download
from dataset.convai2.download import HUB_REPO, KNOWN, Known, extract, main
from tests.helpers import launch
from utils import fetch as fetching
from utils.errors import UserError
from utils.fetch import Remote, Unreachable, fetch

REPO = Path(__file__).parents[3]
TRAIN, VALID = KNOWN
DIALOGUE = b"1 your persona: i ski.\n2 hello\thi .\n3 how are you ?\tfine .\n"
BODY = bytes(range(256)) * 40


def sha256(data):
    """The digest as Remote writes it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files` (path to bytes) with ranges; notes every request in `server.requests`."""

    def do_GET(self):
        """Answer from `server.files`."""
        path, server = urlsplit(self.path).path, self.server
        server.requests.append((path, self.headers.get("Range")))
        if path not in server.files:
            self.send_error(404)
            return
        body, start = server.files[path], 0
        if self.headers.get("Range") and server.ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : server.stop_at])

    def log_message(self, *args):
        """Nothing on stderr."""


@pytest.fixture
def server(monkeypatch):
    """A server on 127.0.0.1 with an empty hub repository; `server.add` puts a file into it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests, server.ranges, server.stop_at = {}, [], True, None
    server.url = f"http://127.0.0.1:{server.server_port}"
    siblings = []

    def add(name, data, lfs=False):
        entry = {"rfilename": name, "size": len(data)}
        entry["blobId"] = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        if lfs:
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 1}
        siblings.append(entry)
        listing = {"id": HUB_REPO, "sha": "c0ffee", "siblings": siblings}
        server.files[f"/api/models/{HUB_REPO}"] = json.dumps(listing).encode()
        server.files[f"/{HUB_REPO}/resolve/c0ffee/{name}"] = data

    server.add = add
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def small_convai2(monkeypatch):
    """Lets the two files of the released settings be one dialogue each."""
    md5 = hashlib.md5(DIALOGUE).hexdigest()
    monkeypatch.setattr(download, "KNOWN", {TRAIN: Known(1, 2), VALID: Known(1, 2, md5)})


@pytest.mark.parametrize("ranges", [True, False], ids=["range", "range ignored"])
def test_a_part_file_is_resumed(server, tmp_path, ranges):
    """A broken download of gigabytes must not start anew, nor be appended to what is sent from the start."""
    server.files["/x"], server.ranges = BODY, ranges
    target = tmp_path / "folder" / "x"
    target.parent.mkdir()
    (tmp_path / "folder" / "x.part").write_bytes(BODY[:1000])
    assert fetch(Remote(f"{server.url}/x", target, sha256(BODY), len(BODY)))
    assert target.read_bytes() == BODY
    assert [p.name for p in target.parent.iterdir()] == ["x"]
    assert server.requests == [("/x", "bytes=1000-")]


@pytest.mark.parametrize("size", [len(BODY), None])
def test_a_part_file_that_is_whole_only_moves(server, tmp_path, size):
    """Stopped between the last byte and the rename, the next run met "416 Range Not Satisfiable"."""
    server.files["/x"] = BODY
    (tmp_path / "x.part").write_bytes(BODY)
    assert fetch(Remote(f"{server.url}/x", tmp_path / "x", sha256(BODY), size))
    assert (tmp_path / "x").read_bytes() == BODY


def test_a_cut_connection_leaves_the_part_file(server, tmp_path):
    """A short answer looks like the end of the file; it must neither be installed nor thrown away."""
    server.files["/x"], server.stop_at = BODY, 3000
    remote = Remote(f"{server.url}/x", tmp_path / "x", sha256(BODY))
    with pytest.raises(UserError, match=f"cut short at 3000 of {len(BODY)} bytes; run again to resume"):
        fetch(remote)
    assert (tmp_path / "x.part").read_bytes() == BODY[:3000]
    server.stop_at = None
    assert fetch(remote)
    assert server.requests[-1] == ("/x", "bytes=3000-")


def test_an_interrupt_leaves_the_part_file(server, tmp_path, monkeypatch):
    """Ctrl-C is how long downloads end; what came so far is for the next run."""
    server.files["/x"] = BODY
    monkeypatch.setattr(fetching, "CHUNK", 1000)
    read, calls = fetching._read, []

    def read_twice(response, url):
        calls.append(url)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(response, url)

    monkeypatch.setattr(fetching, "_read", read_twice)
    with pytest.raises(KeyboardInterrupt):
        fetch(Remote(f"{server.url}/x", tmp_path / "x", sha256(BODY), len(BODY)))
    assert (tmp_path / "x.part").read_bytes() == BODY[:2000]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("size", "digest", "message"),
    [
        (len(BODY), sha256(b"other"), "its sha256 checksum is"),
        (len(BODY), "git:" + "0" * 40, "its git checksum is"),
        (7, sha256(BODY), f"it has {len(BODY)} bytes or more, not 7; stopped"),
    ],
)
def test_a_mismatch_is_not_put_in_place(server, tmp_path, size, digest, message):
    """Wrong weights or text under the right name would be trained on; a kept part would fail for ever."""
    server.files["/x"] = BODY
    (tmp_path / "x").write_bytes(b"what was here")
    with pytest.raises(UserError, match=message) as caught:
        fetch(Remote(f"{server.url}/x", tmp_path / "x", digest, size))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "x").read_bytes() == b"what was here"
    assert not (tmp_path / "x.part").exists()


def test_what_verifies_is_not_fetched_again(server, tmp_path):
    """A second run over gigabytes must cost a checksum, not a download."""
    (tmp_path / "x").write_bytes(BODY)
    assert not fetch(Remote(f"{server.url}/x", tmp_path / "x", sha256(BODY), len(BODY)))
    assert server.requests == []


def test_server_and_disk_errors_are_one_line(server, tmp_path):
    """A 404 or a folder that cannot be written is the user's to fix, not a traceback."""
    with pytest.raises(UserError, match="the server answers 404"):
        fetch(Remote(f"{server.url}/gone", tmp_path / "x", sha256(BODY)))
    server.files["/x"] = BODY
    (tmp_path / "file").write_bytes(b"a file where a folder is needed")
    with pytest.raises(UserError, match="cannot write .*file"):
        fetch(Remote(f"{server.url}/x", tmp_path / "file" / "x", sha256(BODY)))


def test_both_folders_of_the_repository_arrive(server, tmp_path, small_convai2, capsys):
    """Paths of the repository and of this project differ; each file must land where the configs look."""
    server.add(f"data_file/ConvAI2/{TRAIN}", DIALOGUE)
    server.add(f"data_file/ConvAI2/{VALID}", DIALOGUE, lfs=True)
    server.add("public_ckpt/OPT-125M-SPT/ds_ckpt/latest", b"best")
    server.add("README.md", b"not wanted")
    places = ["--data_dir", str(tmp_path / "d"), "--ckpt_dir", str(tmp_path / "c"), "--base_url", server.url]
    main(["all", *places])
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == [TRAIN, VALID]
    assert (tmp_path / "c/OPT-125M-SPT/ds_ckpt/latest").read_bytes() == b"best"
    count = len(server.requests)
    main(["all", *places])
    assert [path for path, _ in server.requests[count:]] == [f"/api/models/{HUB_REPO}"] * 2
    assert "0 files fetched, 2 already there" in capsys.readouterr().out


def test_the_hub_cannot_write_outside_the_folder(server, tmp_path):
    """The list of files comes from the network; a name with .. in it would overwrite anything."""
    server.add("public_ckpt/../../evil", b"x")
    with pytest.raises(UserError, match="would be written outside"):
        main(["checkpoints", "--ckpt_dir", str(tmp_path / "c"), "--base_url", server.url])
    assert not (tmp_path / "c").exists()


def test_content_of_another_convai2_is_refused(server, tmp_path):
    """Checksum and name may fit while the text is a revised version: the counts are what training needs."""
    server.add(f"data_file/ConvAI2/{TRAIN}", DIALOGUE)
    with pytest.raises(UserError, match="it holds 1 dialogues and 2 turns, not 17878 and 131438"):
        main(["convai2", "--data_dir", str(tmp_path), "--base_url", server.url])
    assert list(tmp_path.iterdir()) == []


def test_a_source_without_the_needed_files_says_so(server, tmp_path):
    """A repository that was rearranged would otherwise report success, and training fails later."""
    server.add("data_file/notes.txt", b"moved")
    with pytest.raises(UserError, match=f"'hub' holds no {TRAIN} and no {VALID}; try the other --source"):
        main(["convai2", "--data_dir", str(tmp_path), "--base_url", server.url])


def test_offline_is_one_line(tmp_path):
    """Without network the script ended in the traceback of an HTTP library."""
    run = launch(
        *(sys.executable, "-m", "dataset.convai2.download", "convai2", "--data_dir", str(tmp_path / "data")),
        *("--base_url", "http://127.0.0.1:9"),
        variables={"NO_PROXY": "127.0.0.1"},
    )
    assert run.returncode == 1
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith(
        f"error: ConvAI2: http://127.0.0.1:9/{HUB_REPO} (data_file/): the network could not"
    )
    assert f"by hand: put {TRAIN} and {VALID} into {tmp_path / 'data'}/" in line


def test_offline_does_not_wait(tmp_path, monkeypatch):
    """The hub's client tries again and again, with longer and longer pauses, before it says a word."""
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(Unreachable):
        main(["convai2", "--data_dir", str(tmp_path), "--base_url", "http://127.0.0.1:9"])
    assert pauses == []


def test_offline_files_placed_by_hand_are_enough(tmp_path, small_convai2, capsys):
    """After following the advice to place the files by hand, the script must not fail again."""
    for name in (TRAIN, VALID):
        (tmp_path / name).write_bytes(DIALOGUE)
    arguments = ["convai2", "--data_dir", str(tmp_path), "--base_url", "http://127.0.0.1:9"]
    main(arguments)
    assert "are there and verify" in capsys.readouterr().out
    (tmp_path / VALID).write_bytes(DIALOGUE + b"4 more\tof it\n")
    with pytest.raises(Unreachable, match="the network could not be reached"):
        main(arguments)


def test_a_bad_base_url_is_named(tmp_path):
    """A forgotten https:// would surface as an exception of the HTTP library."""
    with pytest.raises(UserError, match="--base_url: an address .* is needed: huggingface.co"):
        main(["convai2", "--data_dir", str(tmp_path), "--base_url", "huggingface.co"])


def tar_bytes(*members):
    """A .tgz of (name, content) members, or of ready TarInfo objects."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return buffer.getvalue()


def test_the_published_archive_is_a_second_source(server, tmp_path, small_convai2, monkeypatch):
    """The archive must be verified before a byte of it is unpacked, and kept so that it is fetched once."""
    server.files["/convai2_fix_723.tgz"] = data = tar_bytes((TRAIN, DIALOGUE), (f"./{VALID}", DIALOGUE))
    monkeypatch.setattr(download, "PARLAI_URL", f"{server.url}/convai2_fix_723.tgz")
    arguments = ["convai2", "--source", "parlai", "--data_dir", str(tmp_path)]
    with pytest.raises(UserError, match="its sha256 checksum is"):
        main(arguments)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(download, "PARLAI_SHA256", hashlib.sha256(data).hexdigest())
    main(arguments)
    main(arguments)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["convai2_fix_723.tgz", TRAIN, VALID]
    assert len(server.requests) == 2


def link(kind, name, to):
    """A tar member that points elsewhere."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


@pytest.mark.parametrize(
    "bad",
    [
        ("../evil", b"x"),
        ("/tmp/spt-evil", b"x"),
        ("a/../../evil", b"x"),
        link(tarfile.SYMTYPE, "evil", "/etc"),
        link(tarfile.LNKTYPE, "evil", "../evil"),
        link(tarfile.FIFOTYPE, "evil", ""),
    ],
    ids=["dots", "absolute", "dots inside", "symlink", "hardlink", "fifo"],
)
def test_an_archive_cannot_write_outside_the_folder(tmp_path, bad):
    """Members such as ../evil, or a link followed by a file through it, overwrite the user's files."""
    archive, folder = tmp_path / "a.tgz", tmp_path / "data"
    archive.write_bytes(tar_bytes(("good.txt", b"x"), bad))
    with pytest.raises(UserError, match="outside|link or device"):
        extract(archive, folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tgz"]
    assert not Path("/tmp/spt-evil").exists()


def test_a_damaged_archive_is_named(tmp_path):
    """A cut archive raises EOFError or zlib.error from inside the standard library."""
    data = tar_bytes(("a.txt", BODY * 50))
    for broken in (data[: len(data) // 2], b"no archive"):
        (tmp_path / "a.tgz").write_bytes(broken)
        with pytest.raises(UserError, match="a.tgz is not a whole tar archive"):
            extract(tmp_path / "a.tgz", tmp_path / "data")
