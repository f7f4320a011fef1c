"""Downloads from a server that lies, beside another download, and into a folder that somebody prepared."""

import fcntl
import hashlib
import io
import os
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from dataset.convai2.download import extract, hub_files, inside
from utils import fetch as fetching
from utils.errors import UserError
from utils.fetch import Remote, fetch

BODY = bytes(range(256)) * 40
DIGEST = "sha256:" + hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Sends `server.length` as the content's length, and then `server.pieces`, which may have no end."""

    def do_GET(self):
        """Send until there is no more, or the other side has hung up."""
        self.send_response(200)
        if self.server.length is not None:
            self.send_header("Content-Length", self.server.length)
        self.end_headers()
        try:
            for piece in self.server.pieces():
                self.wfile.write(piece)
        except (BrokenPipeError, ConnectionResetError):
            self.server.hung_up.set()

    def log_message(self, *args):
        """Nothing on stderr."""


@pytest.fixture
def server(monkeypatch):
    """A server on 127.0.0.1 that sends BODY."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.length, server.pieces, server.hung_up = str(len(BODY)), lambda: iter([BODY]), threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/x"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def names(folder):
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [len(BODY), None])
def test_a_server_that_does_not_stop(server, tmp_path, monkeypatch, size):
    """It used to fill the disk: without a length, what comes was written as long as it came."""

    def endless():
        while True:
            yield b"x" * 65536

    server.length, server.pieces = None, endless
    monkeypatch.setattr(fetching, "UNKNOWN_SIZE", 300_000)
    most = 300_000 if size is None else size
    with pytest.raises(UserError, match=f"bytes or more, not {most}; stopped"):
        fetch(Remote(server.url, tmp_path / "x", DIGEST, size))
    assert names(tmp_path) == []
    assert server.hung_up.wait(30)


@pytest.mark.parametrize("size", [len(BODY), None])
def test_a_server_that_offers_too_much(server, tmp_path, size):
    """A terabyte that is announced need not be waited for."""
    server.length = str(1 << 40)
    with pytest.raises(UserError, match=f"it has {1 << 40} bytes or more, not "):
        fetch(Remote(server.url, tmp_path / "x", DIGEST, size))
    assert names(tmp_path) == []


def test_a_server_whose_length_is_no_number(server, tmp_path):
    """It was a ValueError; the size that is known does as well."""
    server.length = "many"
    assert fetch(Remote(server.url, tmp_path / "x", DIGEST, len(BODY)))
    assert (tmp_path / "x").read_bytes() == BODY


@pytest.mark.parametrize("plant", ["link", "hard link", "fifo", "folder"])
def test_a_planted_part_file(server, tmp_path, plant):
    """Its owner would have another file of ours overwritten, or the download wait for ever."""
    mine, part = tmp_path / "mine", tmp_path / "data" / "x.part"
    mine.write_bytes(b"precious")
    part.parent.mkdir()
    if plant == "link":
        part.symlink_to(mine)
    elif plant == "hard link":
        part.hardlink_to(mine)
    elif plant == "fifo":
        os.mkfifo(part)
    else:
        part.mkdir()
    with pytest.raises(
        UserError, match=r"x\.part is a link; remove|x\.part is no plain file|cannot write .*x: "
    ):
        fetch(Remote(server.url, tmp_path / "data" / "x", DIGEST, len(BODY)))
    assert mine.read_bytes() == b"precious"
    assert names(tmp_path / "data") == ["x.part"]


def test_two_downloads_of_one_file(server, tmp_path):
    """Both appended to one part file, whose checksum then never was right."""
    waiting, go_on = threading.Event(), threading.Event()

    def slowly():
        yield BODY[:1000]
        waiting.set()
        go_on.wait(60)
        yield BODY[1000:]

    server.pieces = slowly
    remote = Remote(server.url, tmp_path / "x", DIGEST, len(BODY))
    done = []
    first = threading.Thread(target=lambda: done.append(fetch(remote)))
    first.start()
    assert waiting.wait(60)
    try:
        with pytest.raises(UserError, match=r"x\.part: another download of this file is under way"):
            fetch(remote)
    finally:
        go_on.set()
        first.join()
    assert done == [True]
    assert (tmp_path / "x").read_bytes() == BODY
    assert names(tmp_path) == ["x"]
    assert fetch(remote) is False


def test_a_download_that_ended_in_between(server, tmp_path, monkeypatch):
    """The other one has renamed its part file while this one was about to claim it: that file is finished."""
    part, target = tmp_path / "x.part", tmp_path / "x"
    part.write_bytes(b"whole, as the other download has checked")
    claim = fcntl.flock

    def finish_first(descriptor, flags):
        if part.exists() and part.stat().st_size:
            part.rename(target)
        claim(descriptor, flags)

    monkeypatch.setattr(fetching.fcntl, "flock", finish_first)
    with fetching._claimed(part) as out:
        out.write(b"new")
    assert target.read_bytes() == b"whole, as the other download has checked"
    assert part.read_bytes() == b"new"


def test_a_failure_leaves_no_empty_part(server, tmp_path):
    """A file of no bytes says of a download that it can be resumed."""
    server.pieces = lambda: iter([])
    with pytest.raises(UserError, match=f"cut short at 0 of {len(BODY)} bytes"):
        fetch(Remote(server.url, tmp_path / "x", DIGEST))
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["a\0b", "../x", "/etc/x"])
def test_names_of_the_hub_that_no_file_can_have(tmp_path, name):
    """The list of files comes from the network: a null byte in it was a traceback."""
    with pytest.raises(UserError, match="is no name of a file|would be written outside") as caught:
        inside(tmp_path, name)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_too_long(server, tmp_path):
    """The system refuses it at the first look at the file."""
    with pytest.raises(UserError, match="cannot write .*: File name too long"):
        fetch(Remote(server.url, tmp_path / ("x" * 300), DIGEST, len(BODY)))


@pytest.mark.parametrize(
    ("sibling", "message"),
    [
        ({"size": "many"}, "no size is listed for public_ckpt/x"),
        ({"size": None}, "no size is listed for public_ckpt/x"),
        ({"blob_id": None}, "no checksum is listed for public_ckpt/x"),
    ],
)
def test_a_list_of_files_that_lacks_something(tmp_path, monkeypatch, sibling, message):
    """Without a size nothing limits the download; without a checksum nothing vouches for it."""
    listed = SimpleNamespace(
        **({"rfilename": "public_ckpt/x", "lfs": None, "blob_id": "0", "size": 1} | sibling)
    )
    info = SimpleNamespace(siblings=[listed], sha="c0ffee")
    monkeypatch.setattr("dataset.convai2.download.HfApi.model_info", lambda *arguments, **options: info)
    with pytest.raises(UserError, match=message):
        hub_files("public_ckpt", tmp_path, None)


def test_an_archive_over_a_planted_link(tmp_path):
    """Unpacking through a link of the part's name would write where the link points."""
    mine, folder = tmp_path / "mine", tmp_path / "data"
    mine.write_bytes(b"precious")
    folder.mkdir()
    (folder / "a.txt.part").symlink_to(mine)
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        info = tarfile.TarInfo("a.txt")
        info.size = len(BODY)
        tar.addfile(info, io.BytesIO(BODY))
    assert extract(tmp_path / "a.tgz", folder) == 1
    assert (folder / "a.txt").read_bytes() == BODY
    assert mine.read_bytes() == b"precious"
