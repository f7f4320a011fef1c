"""Decoding runs: every validation example gets a reply, and the result files lie beside the checkpoint."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from dataset.batch import Collator
from dataset.dialogue import Example
from dataset.encoding import EncodedExample
from dataset.loading import read_examples
from dataset.text import cut_response, label_turns
from models.conversation import ConversationModel
from models.decoding.generation import Reply, StopAtMarks, choose_prompts, generate_replies
from models.decoding.runs import load_run, read_run_config
from models.decoding.settings import DecodingSettings
from models.lm.precision import PRECISIONS
from models.reading import make_collator, make_encoder
from models.settings import Config
from utils.distributed import DistributedContext, decide_precision
from utils.errors import UserError
from utils.files import check_writable, file_sha256, json_line, write_together
from utils.liveness import reason_of, together
from utils.metrics import score


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
    seed: int = 3407

    def paths(self, run: Path) -> tuple[Path, Path]:
        """The result files of a run: rows for programs, text for people (docs/method.md, section 6)."""
        noise = f"_selection_noise={self.selection_noise}" if self.selection_noise else ""
        rows_path, text_path = (run / f"evaluation_result{noise}.{end}" for end in ("jsonl", "txt"))
        return rows_path, text_path

    def described(self, config: Config) -> dict[str, Any]:
        """What the replies depend on beside the run itself, for the result file."""
        return {
            **config.decoding.model_dump(),
            "selection_noise": self.selection_noise,
            "seed": self.seed,
            "load_bit": config.model.load_bit,
            "batch_size": self.batch_size,
            "valid": config.dataset.valid,
            "valid_sha256": file_sha256(config.dataset.valid),
        }


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
    with together(distributed):
        rows = decode_examples(model, config, examples, distributed, options)
    shares = distributed.gather(Share(str(run), len(examples), options.described(config), rows))
    with together(distributed):
        if distributed.is_main:
            _write_results(run, shares, distributed, options)


@dataclass(frozen=True, slots=True)
class Share:
    """What one rank decoded: rows of the result file by their example's number."""

    run: str
    num_examples: int
    """of the whole file"""
    decoding: dict[str, Any]
    """settings, see DecodeOptions.described"""
    rows: dict[int, dict[str, Any]]


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
    found = DecodingSettings().model_dump() | _decoding_of(text_path)
    # batch size and file name change no reply in float32; in bf16 and float16 another batch size may, and passes
    differing = [
        key
        for key, value in found.items()
        if key not in ("batch_size", "valid") and value != wanted.get(key, value)
    ]
    if differing:
        raise UserError(
            f"{text_path} is of another decoding ({', '.join(differing)} differ); --skip_exists=no replaces it"
        )
    return True


def _decoding_of(text_path: Path) -> dict[str, Any]:
    """What a result file says of its decoding; nothing where it is older than that line, or the authors'."""
    with text_path.open("rb") as file:
        head = [file.readline(1 << 16).decode("utf-8", "replace") for _ in range(3)]
    mark = "decoding: "
    try:
        found = json.loads(head[2].removeprefix(mark)) if head[2].startswith(mark) else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _config(run: Path, options: DecodeOptions) -> tuple[Config, str | None]:
    """The run's configuration in the precision that this device has, and a sentence where it differs."""
    config = read_run_config(run, options.assignments, options.flags)
    precision, reason = decide_precision(config.model.load_bit)
    valid = options.valid_path or config.dataset.valid
    return config.replaced({"model": {"load_bit": precision}, "dataset": {"valid": valid}}), reason


def _load(
    run: Path, distributed: DistributedContext, options: DecodeOptions
) -> tuple[Config, list[Example], ConversationModel]:
    config, reason = _config(run, options)
    if reason:
        distributed.say(f"automatic choice: {reason}")
    examples = read_examples(config.dataset.valid, config)
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
    rows = _rows_of(shares, run)
    text = result_text(rows, shares[0].decoding)
    write_together(run, {rows_path.name: "".join(map(json_line, rows)), text_path.name: text})
    bleu = score(rows, ["bleu"])["bleu"].value
    distributed.say(f"{text_path}: corpus BLEU {bleu:.4f}, prompts {_counts(rows)}")


def decode_examples(
    model: ConversationModel,
    config: Config,
    examples: Sequence[Example],
    distributed: DistributedContext,
    options: DecodeOptions,
) -> dict[int, dict[str, Any]]:
    """Reply to this rank's share of the examples; a row of the result file by each example's number."""
    encoder = make_encoder(model.tokenizer, config, model.text_limit(config.decoding.max_new_tokens))
    collator = make_collator(encoder, config, decoding=True)
    texts = encoder.encode(examples, with_response=False)
    # nothing is generated after a target, so it has the room of the new tokens too
    scorer = make_encoder(model.tokenizer, config, model.text_limit(0), response_only=True)
    targets = scorer.encode(examples, with_response=True)
    stopping = [StopAtMarks(model)]
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
                rows[number] = result_row(examples[number], replies[place], sums[place], counts[place])
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
        longest: dict[int, int] = {}
        for text in texts:
            longest[text.dialogue] = max(longest.get(text.dialogue, 0), len(text.ids))
        order.sort(key=lambda number: (-longest[texts[number].dialogue], texts[number].dialogue, number))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _target_losses(
    model: ConversationModel,
    collator: Collator,
    targets: list[EncodedExample],
    choice: Any,
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


def result_row(example: Example, reply: Reply, nll: float, nll_tokens: int) -> dict[str, Any]:
    """One line of `evaluation_result.jsonl`."""
    return {
        "persona": list(example.persona),
        "context": label_turns(example.context),
        "prediction": cut_response(reply.text),
        "raw_prediction": reply.text,
        "target": example.response,
        "prompt": reply.prompt,
        "scores": reply.scores,
        "turn": example.turn,
        "dialogue": example.dialogue,
        "nll": nll,
        "nll_tokens": nll_tokens,
    }


def _rows_of(shares: Sequence[Share], run: Path) -> list[dict[str, Any]]:
    """All ranks' rows in the order of the file.

    Raises:
        UserError: they are not those of every example of this run, each once.
    """
    for rank, share in enumerate(shares):
        if share.run != str(run):
            raise UserError(f"rank {rank} sent rows of {share.run}")
        if share.num_examples != shares[0].num_examples:
            raise UserError(f"the validation file of rank {rank} is not that of rank 0")
    numbered = sorted((number, rank) for rank, share in enumerate(shares) for number in share.rows)
    if [number for number, _ in numbered] != list(range(shares[0].num_examples)):
        raise UserError(f"the ranks sent {len(numbered)} rows that are not the file's examples, each once")
    return [shares[rank].rows[number] for number, rank in numbered]


def _counts(rows: Sequence[dict[str, Any]]) -> dict[int, int]:
    return dict(sorted(Counter(row["prompt"] for row in rows if row["prompt"] is not None).items()))


def result_text(rows: Sequence[dict[str, Any]], decoding: dict[str, Any]) -> str:
    """`evaluation_result.txt`: corpus BLEU, counts of the chosen prompts, decoding settings, then every example."""
    lines = [
        f"bleu: {score(rows, ['bleu'])['bleu'].value}",
        f"selected prompts: {_counts(rows)}",
        f"decoding: {json.dumps(decoding)}",
        "",
    ]
    for row in rows:
        lines += [
            f"context: {' '.join(row['context'])}",
            f"persona: {' '.join(row['persona'])}",
            f"pred: {row['prediction']}",
            f"gt: {row['target']}",
            f"selected prompt: {row['prompt']}",
            "",
        ]
    return "\n".join(lines)
