"""Fetches ConvAI2 and the authors' checkpoints: `python -m dataset.convai2.download [convai2|checkpoints|all]`.

A download goes to `NAME.part` first, is resumed from there, and takes its place only once its size and
checksum match. ConvAI2 is also published by ParlAI as one archive (`--source parlai`).
"""

import argparse
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import HfApi, errors, hf_hub_url

from utils.errors import UserError, run_main, shown
from utils.fetch import TIMEOUT, Remote, Unreachable, fetch, file_digest, unreachable
from utils.files import write_errors, write_whole

HUB_REPO = "hqsiswiliam/SPT"
PARLAI_URL = "http://parl.ai/downloads/convai2/convai2_fix_723.tgz"
PARLAI_SHA256 = "d0ae89defe2fd0b0a4221eaa642a457d7d40cef475f54798119c7f3b8dd9361d"


@dataclass(frozen=True)
class Known:
    """What is known beforehand of a ConvAI2 file: the counts that a loader must reproduce, and its md5."""

    dialogues: int
    turns: int
    md5: str | None = None


KNOWN = {
    "train_self_original_no_cands.txt": Known(17_878, 131_438),
    "valid_self_original_no_cands.txt": Known(1_000, 7_801, "d27c8cac40fc7c937fab999993ef2a9b"),
}


def count_turns(path: Path) -> tuple[int, int]:
    """(dialogues, turn lines) of a ConvAI2 text file: numbering restarts at 1, turn lines hold a tab."""
    dialogues = turns = 0
    with path.open("rb") as stream:
        for line in stream:
            dialogues += line.startswith(b"1 ")
            turns += b"\t" in line
    return dialogues, turns


def known_fault(path: Path, name: str) -> str | None:
    """Why the content of `path` is not that of the ConvAI2 file `name`; None when it is, or is not known."""
    known = KNOWN.get(name)
    if known is None:
        return None
    if known.md5 is not None and (md5 := file_digest(path, "md5")) != known.md5:
        return f"its md5 is {md5}, not {known.md5}"
    if (found := count_turns(path)) != (known.dialogues, known.turns):
        return f"it holds {found[0]} dialogues and {found[1]} turns, not {known.dialogues} and {known.turns}"
    return None


def hub_files(folder: str, destination: Path, base_url: str | None) -> list[Remote]:
    """The files below `folder` of the authors' repository, pinned to its present commit.

    Raises:
        UserError: the hub refuses, lists nothing there, or lists a file outside `destination`.
        Unreachable: the network did not answer.
    """
    # Without a token: the repository is public, and --base_url may be anybody's server.
    api = HfApi(endpoint=base_url, token=False)
    where = f"{api.endpoint}/{HUB_REPO} ({folder}/)"
    try:
        info = api.model_info(HUB_REPO, files_metadata=True, timeout=TIMEOUT)
    except errors.HfHubHTTPError as error:
        raise UserError(f"{where}: the hub answers: {str(error).splitlines()[0]}") from error
    except (errors.HTTPError, OSError) as error:
        raise unreachable(where, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{where}: the answer is not a file list of the hub ({error})") from error
    remotes = []
    for sibling in info.siblings or []:
        if not sibling.rfilename.startswith(f"{folder}/"):
            continue
        if sibling.lfs is None and sibling.blob_id is None:
            raise UserError(f"{where}: no checksum is listed for {sibling.rfilename}")
        if not isinstance(sibling.size, int):
            raise UserError(f"{where}: no size is listed for {sibling.rfilename}")
        name = sibling.rfilename.removeprefix(f"{folder}/")
        if folder == "data_file":
            name = name.removeprefix("ConvAI2/")  # `destination` is that folder itself
        digest = f"git:{sibling.blob_id}" if sibling.lfs is None else f"sha256:{sibling.lfs.sha256}"
        url = hf_hub_url(HUB_REPO, sibling.rfilename, revision=info.sha, endpoint=base_url)
        remotes.append(Remote(url, inside(destination, name), digest, sibling.size))
    if not remotes:
        raise UserError(f"{where}: the repository lists no file there")
    return remotes


def extract(archive: Path, folder: Path) -> int:
    """Unpack a tar archive's files into `folder`, each put in place once whole; returns how many.

    Raises:
        UserError: a member that is a link or device or lies outside `folder` (then nothing is unpacked), a
            damaged archive, a ConvAI2 file of wrong content, or the disk cannot be written.
    """
    try:
        with write_errors(folder), tarfile.open(archive) as tar:
            members = [member for member in tar.getmembers() if not member.isdir()]
            for member in members:
                if not member.isfile():
                    raise UserError(f"{archive}: '{member.name}' is a link or device; nothing was unpacked")
                inside(folder, member.name)
            for member in members:
                target = inside(folder, member.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                write_whole(target, partial(_unpack, tar, member, archive))
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise UserError(f"{archive} is not a whole tar archive: {error}") from error
    return len(members)


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, archive: Path, part: Path) -> None:
    """One member of an archive into `part`; errors as `extract`."""
    source = tar.extractfile(member)
    if source is None:
        raise UserError(f"{archive}: '{member.name}' is no file")
    with source, part.open("wb") as out:
        shutil.copyfileobj(source, out)
    reason = known_fault(part, Path(member.name).name)
    if reason is not None:
        raise UserError(f"{archive}: {member.name} is not ConvAI2's: {reason}; not put in place")


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused when that leaves `folder` ("../x", "/etc/x", through a link)."""
    try:
        place = (folder / name).resolve()
    except (OSError, ValueError) as error:  # too long, or with a null byte in it
        raise UserError(f"{shown(name)} is no name of a file: {error}") from None
    if not place.is_relative_to(folder.resolve()):
        raise UserError(f"{shown(name)} would be written outside {folder}; refused, nothing was written")
    return folder / name


def missing_convai2(data_dir: Path) -> list[str]:
    """Names of the files behind the released settings that are absent or of other content."""
    with write_errors(data_dir):
        return [n for n in KNOWN if not (data_dir / n).is_file() or known_fault(data_dir / n, n)]


def get_folder(folder: str, destination: Path, base_url: str | None) -> None:
    """Fetch one folder of the authors' repository into `destination`; errors as `hub_files` and `fetch`."""
    fetched = [fetch(remote, known_fault) for remote in hub_files(folder, destination, base_url)]
    print(f"{destination}: {sum(fetched)} files fetched, {len(fetched) - sum(fetched)} already there")


def get_convai2(data_dir: Path, source: str, base_url: str | None) -> None:
    """Fetch ConvAI2 from the hub or from ParlAI; without network, content with verified files on disk.

    Raises:
        UserError: as `fetch`, or the source lacks the files that the released settings name.
    """
    try:
        if source == "parlai":
            archive = data_dir / Path(urlsplit(PARLAI_URL).path).name
            fetch(Remote(PARLAI_URL, archive, f"sha256:{PARLAI_SHA256}"), known_fault)
            print(f"{data_dir}: {extract(archive, data_dir)} files unpacked from {archive.name}")
        else:
            get_folder("data_file", data_dir, base_url)
    except Unreachable as error:
        if missing_convai2(data_dir):
            raise Unreachable(
                f"ConvAI2: {error}; by hand: put {' and '.join(KNOWN)} into {data_dir}/, "
                f"from https://huggingface.co/{HUB_REPO} or {PARLAI_URL}"
            ) from error
        print(f"{error}; not needed: {', '.join(KNOWN)} in {data_dir} are there and verify")
    if missing := missing_convai2(data_dir):
        raise UserError(f"the source '{source}' holds no {' and no '.join(missing)}; try the other --source")


def get_checkpoints(ckpt_dir: Path, base_url: str | None) -> None:
    """Fetch the authors' checkpoints from the hub; errors as `hub_files` and `fetch`."""
    try:
        get_folder("public_ckpt", ckpt_dir, base_url)
    except Unreachable as error:
        raise Unreachable(
            f"checkpoints: {error}; by hand: put the folders of public_ckpt from "
            f"https://huggingface.co/{HUB_REPO} into {ckpt_dir}/"
        ) from error


def main(argv: list[str] | None = None) -> None:
    """Command line of `python -m dataset.convai2.download`."""
    parser = argparse.ArgumentParser(
        prog="python -m dataset.convai2.download", description=__doc__.split("\n")[0]
    )
    parser.add_argument("what", nargs="?", choices=["convai2", "checkpoints", "all"], default="convai2")
    parser.add_argument("--source", choices=["hub", "parlai"], default="hub", help="where ConvAI2 comes from")
    parser.add_argument("--data_dir", type=Path, default=Path("data_file/ConvAI2"))
    parser.add_argument("--ckpt_dir", type=Path, default=Path("public_ckpt"))
    parser.add_argument("--base_url", help="a mirror of the Hugging Face hub, such as https://huggingface.co")
    args = parser.parse_args(argv)
    if args.base_url is not None:
        url = urlsplit(args.base_url)
        if url.scheme not in ("http", "https") or not url.netloc:
            raise UserError(
                f"--base_url: an address such as https://huggingface.co is needed: {args.base_url}"
            )
        args.base_url = args.base_url.rstrip("/")
    if args.what in ("convai2", "all"):
        get_convai2(args.data_dir, args.source, args.base_url)
    if args.what in ("checkpoints", "all"):
        get_checkpoints(args.ckpt_dir, args.base_url)


if __name__ == "__main__":
    run_main(main)
