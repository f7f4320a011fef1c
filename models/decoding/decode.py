"""Decoding runs: every validation example gets a reply, and the result files lie beside the checkpoint."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from dataset.dialogue import Example
from dataset.encoded import dialogues_of, lengths_of
from dataset.encoding import EncodedExample
from dataset.row_files import KeptRows
from models.conversation import ConversationModel
from models.decoding.batch_size import FIXED, choose_batch_size, depends_on_batch_size, within_memory
from models.decoding.generation import StopAtMarks, choose_prompts, generate_replies
from models.decoding.prefill import Targets
from models.decoding.results import Share, decoding_of, prompt_counts, result_row, result_text, rows_of
from models.decoding.resuming import kept_rows, recorded_batch_size, remove_rows, row_settings, rows_folder
from models.decoding.runs import load_run, read_run_config
from models.decoding.settings import SEED, DecodingSettings
from models.decoding.texts import DecodingTexts, encode_texts, text_encoder, texts_of_file
from models.reading import make_collator, texts_of
from models.routing.router import LinearRouter
from models.routing.saved import ROUTER, router_of
from models.settings import Config
from utils.distributed import DistributedContext
from utils.errors import UserError
from utils.files import check_writable, file_sha256, json_line, write_together
from utils.liveness import reason_of, together
from utils.metrics import score
from utils.precision import PRECISIONS, decide_precision


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How runs are decoded; the defaults are test.py's."""

    batch_size: int | None = None
    """examples per batch; None: chosen by free memory where it changes nothing but the speed"""
    valid_path: str | None = None
    skip_exists: bool = True
    selection_noise: float = 0.0
    assignments: tuple[str, ...] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    """nested sections of the configuration that the script's own flags set"""
    seed: int = SEED

    def paths(self, run: Path) -> tuple[Path, Path]:
        """The result files of a run: rows for programs, text for people (docs/method.md, section 6)."""
        noise = f"_selection_noise={self.selection_noise}" if self.selection_noise else ""
        rows_path, text_path = (run / f"evaluation_result{noise}.{end}" for end in ("jsonl", "txt"))
        return rows_path, text_path

    def described(self, run: Path, config: Config) -> dict[str, Any]:
        """What the replies depend on beside the run's trained part, for the result file."""
        fitted = config.decoding.router == "fitted"
        return {
            **config.decoding.model_dump(),
            **_text_settings(config),
            "selection_noise": self.selection_noise,
            "seed": self.seed,
            "load_bit": config.model.load_bit,
            "batch_size": self.batch_size or FIXED,
            "valid": config.dataset.valid,
            "valid_sha256": file_sha256(config.dataset.valid),
            **({"router_sha256": file_sha256(run / ROUTER)} if fitted else {}),
        }


def _text_settings(config: Config) -> dict[str, Any]:
    """What decides the text that is replied to, beside the validation file."""
    texts = config.dataset.model_dump(include=set(texts_of(config).keys))
    return {**texts, "fidelity": config.model.fidelity}


def decode_runs(
    runs: Sequence[Path], distributed: DistributedContext, options: DecodeOptions | None = None
) -> None:
    """Decode several runs in turn; one that fails does not stop the others.

    Raises:
        UserError: at the end, when some failed, with each one's reason.
    """
    options = options or DecodeOptions()
    transformers_logging.disable_progress_bar()
    runs = distributed.share(list(runs))
    failures = []
    for run in runs:
        try:
            decode_run(run, distributed, options)
        except Exception as error:  # whatever stops one run must not stop the others
            # what several ranks agreed on is a UserError; anything else comes from a rank that is lost
            if len(runs) == 1 or (distributed.size > 1 and not isinstance(error, UserError)):
                raise
            failures.append(f"{run}: {reason_of(error)}")
            distributed.say(f"failed: {failures[-1]}")
    if failures:
        raise UserError(f"{len(failures)} of {len(runs)} runs failed:", *failures)


def decode_run(run: Path, distributed: DistributedContext, options: DecodeOptions) -> None:
    """Decode one run folder into `evaluation_result.jsonl` and `.txt`.

    The main process decides whether there is anything to do. When a rank fails, all of them do, together, and
    nothing is written.

    Raises:
        UserError: what is wrong with the run, its model or the validation file. Earlier results stay.
    """
    done = False
    with together(distributed):
        if distributed.is_main:
            done = options.skip_exists and _is_done(run, options)
            if done:
                rows_path, text_path = options.paths(run)
                remove_rows(rows_folder(rows_path), decoding_of(text_path))
    if distributed.share(done):
        distributed.say(f"{options.paths(run)[1]} exists, skipped (--skip_exists=no decodes it again)")
        return
    with together(distributed):  # before hours of decoding on the ranks that have no fault
        config, examples, sha256, model, router = _load(run, distributed, options)
        folder = rows_folder(options.paths(run)[0])
        settings = row_settings(run, config, options.described(run, config), distributed)
        automatic = options.batch_size is None
        if automatic:
            there = recorded_batch_size(folder, settings)
            own_size, reason = choose_batch_size(model, config, distributed)
    if automatic:
        # the same on all ranks, which take batches by their number
        found = distributed.gather(own_size if there is None else there)
        size = min(found)
        reason = reason if there is None else f"that of the rows in {folder}"
        distributed.say(f"automatic choice: batch size {size}: {reason} (--batch_size sets it)")
        options = replace(options, batch_size=size)
        settings["batch_size"] = size
    # smaller batches may have other replies where the batch size matters
    may_halve = automatic and depends_on_batch_size(config) is None
    encoded = texts_of_file(model, config, examples, sha256, distributed)
    with kept_rows(folder, settings, distributed, len(examples)) as kept:
        with together(distributed):
            rows = decode_examples(
                model, config, examples, distributed, options, may_halve, encoded, kept, router
            )
        shares = distributed.gather(Share(str(run), len(examples), options.described(run, config), rows))
        with together(distributed):
            if distributed.is_main:
                _write_results(run, shares, distributed, options)
                kept.remove()


def _is_done(run: Path, options: DecodeOptions) -> bool:
    """Whether the result files are there.

    Raises:
        UserError: they are of another validation file or of other settings, and would pass for what was asked for.
    """
    rows_path, text_path = options.paths(run)
    if not (rows_path.is_file() and text_path.is_file()):
        return False
    config, _ = _config(run, options)
    wanted = options.described(run, config)
    # a setting that the file does not name is younger than the file, and had its default's effect
    own = _text_settings(read_run_config(run))
    found = DecodingSettings().model_dump() | own | decoding_of(text_path)
    # the file's name changes no reply
    unimportant = {"valid"} if depends_on_batch_size(config) else {"valid", "batch_size"}
    differing = [
        key for key, value in found.items() if key not in unimportant and value != wanted.get(key, value)
    ]
    if differing:
        raise UserError(
            f"{text_path} is of another decoding ({', '.join(differing)} differ); --skip_exists=no replaces it"
        )
    return True


def _config(run: Path, options: DecodeOptions) -> tuple[Config, str | None]:
    """The run's configuration in the precision that this device has, and a sentence where it differs."""
    config = read_run_config(run, options.assignments, options.flags)
    precision, reason = decide_precision(config.model.load_bit, "model.load_bit")
    valid = options.valid_path or config.dataset.valid
    return config.replaced({"model": {"load_bit": precision}, "dataset": {"valid": valid}}), reason


def _load(
    run: Path, distributed: DistributedContext, options: DecodeOptions
) -> tuple[Config, list[Example], str | None, ConversationModel, LinearRouter | None]:
    """Configuration, examples, hash of their file before they were read, model and fitted router."""
    config, reason = _config(run, options)
    if reason:
        distributed.say(f"automatic choice: {reason}")
    sha256 = file_sha256(config.dataset.valid)
    examples = texts_of(config).read_examples(config.dataset.valid, config)
    if distributed.is_main:
        check_writable(run)
    model = load_run(run, config).to(distributed.device)
    router = router_of(run, model, config.decoding)
    if options.selection_noise and not (model.has_retriever or router):
        raise UserError(
            f"{run} has no retriever: --selection_noise would change the file's name and nothing else"
        )
    distributed.say(f"{run}: {len(examples)} examples of {config.dataset.valid}")
    return config, examples, sha256, model, router


def _write_results(
    run: Path, shares: Sequence[Share], distributed: DistributedContext, options: DecodeOptions
) -> None:
    rows_path, text_path = options.paths(run)
    rows = rows_of(shares, run)
    text = result_text(rows, shares[0].decoding)
    write_together(run, {rows_path.name: "".join(map(json_line, rows)), text_path.name: text})
    bleu = score(rows, ["bleu"])["bleu"].value
    distributed.say(f"{text_path}: corpus BLEU {bleu:.4f}, prompts {prompt_counts(rows)}")


def decode_examples(
    model: ConversationModel,
    config: Config,
    examples: Sequence[Example],
    distributed: DistributedContext,
    options: DecodeOptions,
    may_halve: bool = False,
    encoded: DecodingTexts | None = None,
    kept: KeptRows | None = None,
    router: LinearRouter | None = None,
) -> dict[int, dict[str, Any]]:
    """Reply to this rank's share of the examples; a row of the result file by each example's number.

    Batches are those of the whole file, so that a decoding that goes on has the same ones as one that never stopped.

    Args:
        model: in evaluation mode.
        config: its configuration.
        examples: of all ranks.
        distributed: the processes that share the work.
        options: how; without a batch size the one that is the same everywhere.
        may_halve: go on with smaller batches where the device's memory is too small.
        encoded: the texts of the examples; None: they are encoded here.
        kept: gets the rows batch by batch; those that it has are not decoded again.
        router: chooses the prompts instead of the model.

    Raises:
        UserError: a loss is no number, memory is too small, or a row cannot be kept.
    """
    collator = make_collator(text_encoder(model, config), config, decoding=True)
    encoded = encoded or encode_texts(model, config, examples)
    texts, targets = encoded.texts, encoded.targets
    text_format = texts_of(config)
    stopping = [StopAtMarks(model, text_format.stop_characters)]
    rows: dict[int, dict[str, Any]] = {} if kept is None else kept.rows

    def decode(numbers: Sequence[int]) -> None:
        batch = collator.inference([texts[number] for number in numbers]).to(distributed.device)
        routed = None
        if router is not None:
            routed = router.scores_of(model.lm, [texts[number] for number in numbers])
        scores, choice = choose_prompts(model, batch, options.selection_noise, options.seed, routed)
        scored = [targets[number] for number in numbers]
        # their last token predicts nothing
        wanted = Targets(
            [target.ids[:-1] for target in scored], collator.train(scored).to(distributed.device)
        )
        replies = generate_replies(
            model, batch, scores, choice, config.decoding, stopping, options.seed, wanted
        )
        made = {}
        for number, reply in zip(numbers, replies, strict=True):
            _check_loss(model, targets[number], reply.nll)
            made[number] = result_row(examples[number], reply, text_format.cut)
        if kept is None:
            rows.update(made)
        else:
            kept.add(made)

    planned = decoding_batches(texts, options.batch_size or FIXED, collator.reads_padding)
    batches = (
        planned[distributed.rank :: distributed.size] if kept is None else kept.left(planned, distributed)
    )
    bar = tqdm(
        total=len(texts),
        initial=len(kept.done) if kept else 0,
        desc="decoding",
        unit="ex",
        disable=not distributed.is_main,
        mininterval=0.5,
    )
    with bar:
        for count in within_memory(batches, decode, may_halve):
            bar.update(count * distributed.size)
    return rows


def decoding_batches(texts: Sequence[EncodedExample], size: int, keep_order: bool = False) -> list[list[int]]:
    """Batches of example numbers: dialogues of like length together, all their examples in one as far as it has room.

    Within a batch the shortest example comes first.

    Args:
        texts: the examples of a file.
        size: of a batch.
        keep_order: leave the examples in the order of the file, for a retriever that reads the padding.
    """
    order = list(range(len(texts)))
    if not keep_order:
        lengths, dialogues = lengths_of(texts).tolist(), dialogues_of(texts).tolist()
        longest: dict[int, int] = {}
        for dialogue, length in zip(dialogues, lengths, strict=True):
            longest[dialogue] = max(longest.get(dialogue, 0), length)
        order.sort(key=lambda number: (-longest[dialogues[number]], dialogues[number], number))
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    if keep_order:
        return batches
    # short texts side by side have less of the cache to read
    return [sorted(batch, key=lambda number: (lengths[number], number)) for batch in batches]


def _check_loss(model: ConversationModel, target: EncodedExample, loss: float | None) -> None:
    if loss is not None and not math.isfinite(loss):
        raise UserError(
            f"the LM's loss of example {target.index} of the file is {loss}: its weights or the trained part hold no "
            f"numbers, or {PRECISIONS[model.config.model.load_bit]} is too narrow for this LM (try --set "
            "model.load_bit=32)"
        )
