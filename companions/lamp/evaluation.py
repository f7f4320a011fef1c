"""The official evaluation: predictions against golds by question id, of one task or of all seven in zip files."""

import argparse
import sys
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

from companions.lamp.json_stream import Document, JsonFile, read_object, starts_with
from companions.lamp.metrics import OutputError, Scored, compare, official_names, outside_scale
from companions.lamp.questions import read_outputs, stated_task
from companions.lamp.tasks import TASKS, Task
from utils.errors import UserError, existing_file, first_line, printable
from utils.files import to_json, write_whole

BENCHMARK = [task.name for task in TASKS.values() if task.name != "LaMP_2_old"]
_LARGEST = 1 << 28  # bytes of JSON in an archive; the outputs of all tasks have a few millions


def add_fidelity_flag(flags: argparse.ArgumentParser) -> None:
    """Add `--fidelity`, by which ratings outside the scale and golds that are no labels are scored."""
    flags.add_argument(
        "--fidelity",
        choices=["paper", "released_code"],
        default="paper",
        help="paper (default): what is no rating from 1 to 5 counts as the farthest one, and a gold that is no label "
        "is an error; released_code: the benchmark's own figures, in which a rating such as 100 counts as it is",
    )


def evaluate_task(
    task: Task, golds: JsonFile, predictions: JsonFile, released: bool = False
) -> dict[str, float]:
    """The official metrics of one task; arguments and errors as `compare_files`."""
    return official_names(task, compare_files(task, golds, predictions, released).corpus())


def compare_files(task: Task, golds: JsonFile, predictions: JsonFile, released: bool = False) -> Scored:
    """Compare the predictions of a file with the golds of another one, in the golds' order.

    Of several outputs with one id the last one counts.

    Args:
        task: the golds' and the predictions' own task, too.
        golds: outputs file with the right outputs.
        predictions: outputs file of a system, for the same questions in any order.
        released: see `companions.lamp.metrics.compare`.

    Raises:
        UserError: a file that is none, of another task, or without an output for each question.
    """
    right, predicted = _by_id(golds, task, "gold file"), _by_id(predictions, task, "prediction file")
    for some, others, message in (
        (right, predicted, f"{predictions}: no output for"),
        (predicted, right, f"{golds}: no gold for"),
    ):
        if missing := [name for name in some if name not in others]:
            first = ", ".join(f"'{name}'" for name in missing[:5])
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise UserError(f"{message} question {first}{more}")
    if not right:
        raise UserError(f"{golds}: no outputs")
    names = list(right)
    outputs = [predicted[name] for name in names]
    if task.scoring.kind == "rating" and (count := sum(map(outside_scale, outputs))):
        how = "as they are" if released else "as the farthest one, unlike in the benchmark's code"
        _note(f"{predictions}: {count} rating(s) outside 1 to 5 count {how}; see --fidelity")
    if released and task.scoring.kind == "labels":
        unknown = [name for name, gold in right.items() if gold.strip() not in task.labels]
        if unknown:
            _note(
                f"{golds}: {len(unknown)} gold(s), such as that of question '{unknown[0]}', are no label of "
                f"{task.option}; any prediction that is none either counts as right; see --fidelity"
            )
    try:
        return compare(task, outputs, list(right.values()), released)
    except OutputError as error:
        raise UserError(f"{predictions} and {golds}: question '{names[error.index]}': {error}") from None


def evaluate_all(
    golds_zip: str | Path, predictions_zip: str | Path, released: bool = False
) -> dict[str, dict[str, float]]:
    """The official metrics of all seven tasks, by task.

    The archives are read in memory, whatever folders are in them; nothing is unpacked.

    Args:
        golds_zip: archive with an outputs file per task.
        predictions_zip: likewise.
        released: see `companions.lamp.metrics.compare`.

    Raises:
        UserError: an archive that is none, without one file for each task, or as `compare_files`.
    """
    golds, predictions = _outputs_files(golds_zip), _outputs_files(predictions_zip)
    return {name: evaluate_task(TASKS[name], golds[name], predictions[name], released) for name in BENCHMARK}


def write_metrics(path: Path, metrics: object) -> None:
    """Write a metric object as JSON.

    Raises:
        UserError: it cannot be written.
    """
    write_whole(path, to_json(metrics, indent=4) + "\n")


def _by_id(path: JsonFile, task: Task, what: str) -> dict[str, str]:
    pairs = list(read_outputs(path, task, what))
    (name, times), *_ = Counter(name for name, _ in pairs).most_common(1) or [("", 0)]
    if times > 1:
        _note(f"{path}: question '{name}' has {times} outputs; of such ones the last counts")
    return dict(pairs)


def _outputs_files(path: str | Path) -> dict[str, Document]:
    """The outputs file of each task in an archive, by task."""
    found: dict[str, Document] = {}
    for document in _json_files(existing_file(path, "archive")):
        task = _stated_task(document)
        if task is None:
            _note(f"{document} is no outputs file and is not read")
        elif task.name in found:
            raise UserError(f"{document}: {task.name} is in {found[task.name]}, too")
        else:
            found[task.name] = document
    if missing := [name for name in BENCHMARK if name not in found]:
        raise UserError(f"{path}: no outputs file of {', '.join(missing)}; all seven tasks are needed")
    return found


def _json_files(path: Path) -> list[Document]:
    try:
        with zipfile.ZipFile(path) as archive:
            files = [info for info in archive.infolist() if _is_json(info.filename)]
            if sum(info.file_size for info in files) > _LARGEST:
                raise UserError(f"{path}: more than {_LARGEST} bytes of JSON, too many for outputs")
            return [Document(f"{path}/{info.filename}", archive.read(info)) for info in files]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise UserError(f"{path}: not a readable zip archive: {first_line(error)}") from None


def _is_json(name: str) -> bool:
    """Whether an archive's member is a JSON file; those that macOS adds beside each file have its name only."""
    path = PurePosixPath(name)
    return path.suffix == ".json" and not path.name.startswith("._") and "__MACOSX" not in path.parts


def _stated_task(document: Document) -> Task | None:
    """The task that an outputs file names; None for other JSON."""
    if starts_with(document, "outputs file") != "{":
        return None
    content = {key: value for key, value in read_object(document, "outputs file") if key in ("task", "golds")}
    named = content.get("task")
    return stated_task(named, document) if isinstance(named, str) and "golds" in content else None


def _note(message: str) -> None:
    print(printable(f"note: {message}"), file=sys.stderr)
