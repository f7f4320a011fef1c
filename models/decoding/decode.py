"""Decoding runs: every validation example gets a reply, and the result files lie beside the checkpoint."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from dataset.batch import Collator
from dataset.dialogue import Example
from dataset.encoded import dialogues_of, lengths_of
from dataset.encoding import EncodedExample
from models.conversation import ConversationModel
from models.decoding.generation import StopAtMarks, choose_prompts, generate_replies
from models.decoding.results import Share, decoding_of, prompt_counts, result_row, result_text, rows_of
from models.decoding.runs import load_run, read_run_config
from models.decoding.settings import SEED, DecodingSettings
from models.decoding.texts import DecodingTexts, encode_texts, text_encoder, texts_of_file
from models.reading import make_collator, texts_of
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

    batch_size: int = 16
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

    def described(self, config: Config) -> dict[str, Any]:
        """What the replies depend on beside the run itself, for the result file."""
        return {
            **config.decoding.model_dump(),
            **_text_settings(config),
            "selection_noise": self.selection_noise,
            "seed": self.seed,
            "load_bit": config.model.load_bit,
            "batch_size": self.batch_size,
            "valid": config.dataset.valid,
            "valid_sha256": file_sha256(config.dataset.valid),
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
        raise UserError(f"{len(failures)} of {len(runs)} runs failed:\n  " + "\n  ".join(failures))


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
    if distributed.share(done):
        distributed.say(f"{options.paths(run)[1]} exists, skipped (--skip_exists=no decodes it again)")
        return
    with together(distributed):  # before hours of decoding on the ranks that have no fault
        config, examples, model = _load(run, distributed, options)
    encoded = texts_of_file(model, config, examples, distributed)
    with together(distributed):
        rows = decode_examples(model, config, examples, distributed, options, encoded=encoded)
    shares = distributed.gather(Share(str(run), len(examples), options.described(config), rows))
    with together(distributed):
        if distributed.is_main:
            _write_results(run, shares, distributed, options)


def _is_done(run: Path, options: DecodeOptions) -> bool:
    """Whether the result files are there.

    Raises:
        UserError: they are of another validation file or of other settings, and would pass for what was asked for.
    """
    rows_path, text_path = options.paths(run)
    if not (rows_path.is_file() and text_path.is_file()):
        return False
    config, _ = _config(run, options)
    wanted = options.described(config)
    # a setting that the file does not name is younger than the file, and had its default's effect
    own = _text_settings(read_run_config(run))
    found = DecodingSettings().model_dump() | own | decoding_of(text_path)
    # batch size and the file's name change no reply in float32; in narrower precisions the batch size may
    unimportant = {"valid", "batch_size"} if config.model.load_bit == 32 else {"valid"}
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
) -> tuple[Config, list[Example], ConversationModel]:
    config, reason = _config(run, options)
    if reason:
        distributed.say(f"automatic choice: {reason}")
    examples = texts_of(config).read_examples(config.dataset.valid, config)
    if distributed.is_main:
        check_writable(run)
    model = load_run(run, config).to(distributed.device)
    if options.selection_noise and not model.has_retriever:
        raise UserError(
            f"{run} has no retriever: --selection_noise would change the file's name and nothing else"
        )
    distributed.say(f"{run}: {len(examples)} examples of {config.dataset.valid}")
    return config, examples, model


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
    encoded: DecodingTexts | None = None,
) -> dict[int, dict[str, Any]]:
    """Reply to this rank's share of the examples; a row of the result file by each example's number.

    Args:
        model: in evaluation mode.
        config: its configuration.
        examples: of all ranks.
        distributed: the processes that share the work.
        options: how.
        encoded: the texts of the examples; None: they are encoded here.
    """
    collator = make_collator(text_encoder(model, config), config, decoding=True)
    encoded = encoded or encode_texts(model, config, examples)
    texts, targets = encoded.texts, encoded.targets
    text_format = texts_of(config)
    stopping = [StopAtMarks(model, text_format.stop_characters)]
    rows = {}
    batches = decoding_batches(texts, options.batch_size, collator.reads_padding)[
        distributed.rank :: distributed.size
    ]
    bar = tqdm(total=len(texts), desc="decoding", unit="ex", disable=not distributed.is_main, mininterval=0.5)
    with bar:
        for numbers in batches:
            batch = collator.inference([texts[number] for number in numbers]).to(distributed.device)
            scores, choice = choose_prompts(model, batch, options.selection_noise, options.seed)
            replies = generate_replies(model, batch, scores, choice, config.decoding, stopping, options.seed)
            sums, counts = _target_losses(
                model, collator, [targets[number] for number in numbers], choice, distributed
            )
            for place, number in enumerate(numbers):
                rows[number] = result_row(
                    examples[number], replies[place], sums[place], counts[place], text_format.cut
                )
            bar.update(len(numbers) * distributed.size)
    return rows


def decoding_batches(texts: Sequence[EncodedExample], size: int, keep_order: bool = False) -> list[list[int]]:
    """Batches of example numbers: dialogues of like length together, their examples side by side.

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
    return [order[start : start + size] for start in range(0, len(order), size)]


def _target_losses(
    model: ConversationModel,
    collator: Collator,
    targets: list[EncodedExample],
    choice: Tensor | None,
    distributed: DistributedContext,
) -> tuple[list[float], list[int]]:
    """Cross-entropy and number of the target tokens; one row for a dialogue's examples with the same prompt."""
    groups = None
    if not collator.reads_padding:
        prompts = [0] * len(targets) if choice is None else choice.tolist()
        groups = [(target.dialogue, prompt) for target, prompt in zip(targets, prompts, strict=True)]
    batch = collator.train(targets, groups)
    sums, counts = (values.tolist() for values in model.target_losses(batch.to(distributed.device), choice))
    broken = next((number for number, value in enumerate(sums) if not math.isfinite(value)), None)
    if broken is not None:
        raise UserError(
            f"the LM's loss of example {targets[broken].index} of the file is {sums[broken]}: its weights or the "
            f"trained part hold no numbers, or {PRECISIONS[model.config.model.load_bit]} is too narrow for this "
            "LM (try --set model.load_bit=32)"
        )
    return sums, counts
