"""Sets the last dialogues of a training file apart."""

from pathlib import Path

from dataset.lines import text_lines
from utils.errors import UserError
from utils.files import write_whole


def split_dialogues(source: Path, share: float, first: Path, last: Path) -> None:
    """Write the dialogues of a ConvAI2 file to two files; one that is there with the same text is left alone.

    Args:
        source: the file.
        share: share of its dialogues, the last ones, that `last` gets: one at least, and not all.
        first: gets the others.
        last: see `share`.

    Raises:
        UserError: it has fewer than two dialogues, or a file cannot be read or written; other dialogues were set
            apart before.
    """
    dialogues: list[list[str]] = []
    for line in filter(str.strip, text_lines(source)):
        if line.split(" ", 1)[0] == "1":
            dialogues.append([])
        if not dialogues:
            raise UserError(f"{source}:1: the first line of a dialogue is numbered 1")
        dialogues[-1].append(line)
    if len(dialogues) < 2:
        raise UserError(f"{source}: one dialogue cannot be split into two files")
    size = min(len(dialogues) - 1, max(1, round(len(dialogues) * share)))
    for path, part in ((first, dialogues[:-size]), (last, dialogues[-size:])):
        text = "".join(f"{line}\n" for dialogue in part for line in dialogue)
        if path.exists():
            if path.read_text(encoding="utf-8") != text:
                raise UserError(
                    f"{path} is there with other dialogues, which earlier results rest on; choose another data.folder"
                )
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
