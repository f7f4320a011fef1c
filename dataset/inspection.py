"""What is in a dialogue file, before anything is trained on it: counts, personas, lengths, and what is odd."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dataset.dialogue import SILENCE, Example, is_silence
from dataset.encoded import lengths_of
from dataset.encoding import EncodedExample, Encoder
from utils.errors import UserError
from utils.findings import Finding

# control characters, the replacement character, private ones, marks that nobody sees or that turn the direction of what
# follows, and UTF-8 that was read as Latin-1; joiners of emoji and of Persian, and marks of direction, are usual
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u2069\ufeff\ufffd\ue000-\uf8ff]|Ã[\x80-\xbf]|â€"
)
_SAYS_SOMETHING = re.compile(r"\w")
_MANY = 0.01  # share of a file above which cut texts are worth a warning


def text_findings(examples: Sequence[Example], cut: Callable[[str], str]) -> Iterator[Finding]:
    """What a file holds, and what of it is odd.

    Args:
        examples: all of the file, those of a dialogue side by side with the longest last.
        cut: gives the reply in a generated text, see `TextFormat.cut`.
    """
    last = {example.dialogue: example for example in examples}
    dialogues = list(last.values())
    turns = [len(example.context) + 1 for example in dialogues]
    text = f"{len(dialogues):,} dialogues, {len(examples):,} examples; utterances of a dialogue {quantiles(turns)}"
    yield Finding("ok", "dialogues", text)
    yield from _persona_findings(dialogues)
    seen: dict[object, Example] = {}
    repeated = [
        example
        for example in dialogues
        if seen.setdefault((example.persona, example.context, example.response), example) is not example
    ]
    if repeated:
        first = repeated[0]
        text = f"{len(repeated):,} stand in the file more than once, such as {first.where}"
        yield Finding("warn", "repetitions", f"{text}: they count double; take them out unless it is meant")
    yield from _of_some(
        "replies",
        [example for example in examples if not _SAYS_SOMETHING.search(example.response)],
        "replies have neither a letter nor a digit; the model learns to say nothing",
    )
    yield from _of_some(
        "replies",
        [example for example in examples if cut(example.response) != example.response],
        "replies hold a mark at which generated text is cut (such as `:`), so that no reply can be equal to them",
    )
    yield from _of_some(
        "characters",
        [
            example
            for example in dialogues
            if any(_ODD.search(text) for text in (*example.persona, *example.context, example.response))
        ],
        "dialogues hold control characters, invisible ones, or text in a wrong encoding; convert the file to UTF-8",
    )


def silence_findings(train: Sequence[Example], valid: Sequence[Example]) -> Iterator[Finding]:
    """How many dialogues open with `__SILENCE__`, where any does; of two files as `dataset.silence` leaves them.

    Args:
        train: the examples of the training file.
        valid: those of the validation file.
    """
    counts, totals = [], []
    for examples in (train, valid):
        last = {example.dialogue: example.context for example in examples}.values()
        counts.append(sum(bool(context) and is_silence(context[0]) for context in last))
        totals.append(len(last))
    if any(counts):
        shares = [f"{count:,} of {total:,}" for count, total in zip(counts, totals, strict=True)]
        text = f"{shares[0]} training dialogues open with {SILENCE}, and {shares[1]} validation dialogues"
        differ = not all(counts)
        fix = "; dataset.silence: drop or skip leaves it out (docs/data.md)" if differ else ""
        yield Finding("warn" if differ else "ok", "silence", text + fix)


def _of_some(subject: str, found: Sequence[Example], text: str) -> Iterator[Finding]:
    if found:
        yield Finding("warn", subject, f"{len(found):,} {text} (the first is the one at {found[0].where})")


def _persona_findings(dialogues: Sequence[Example]) -> Iterator[Finding]:
    personas = [example.persona for example in dialogues]
    given = [persona for persona in personas if persona]
    lines = quantiles([len(persona) for persona in given]) if given else "0"
    text = f"{len({frozenset(persona) for persona in given}):,} different ones, lines {lines}"
    without = len(personas) - len(given)
    if not given:
        yield Finding("warn", "personas", "no dialogue has one: nothing here can be personal")
    elif without:
        yield Finding("warn", "personas", f"{text}; {without:,} of {len(personas):,} dialogues have none")
    else:
        yield Finding("ok", "personas", text)
    doubled = [example for example in dialogues if len(set(example.persona)) < len(example.persona)]
    yield from _of_some("personas", doubled, "dialogues give a line of their persona twice")


@dataclass(frozen=True)
class Lengths:
    """The tokens of a file's examples."""

    tokens: np.ndarray
    """[n] of each example before anything is cut, reply included"""
    encoded: list[EncodedExample]
    """as training has them, without those that are refused; the index is the place among all of the file"""
    shortened: int
    """how many lose the beginning of their context, or are cut in another way"""
    refusals: list[str]
    """why each of the others cannot be used, with file and line"""


def measure_lengths(examples: Sequence[Example], unlimited: Encoder, encoder: Encoder) -> Lengths:
    """Encode a file as training would, without ending at the first example that does not fit.

    Args:
        examples: all of the file.
        unlimited: an encoder that never finds a text too long.
        encoder: that of the training.
    """
    encoded = unlimited.encode(examples, with_response=True)
    tokens = lengths_of(encoded)
    kept, refusals, shortened = [], [], 0
    for place, example in enumerate(encoded):
        if tokens[place] <= encoder.max_tokens:
            kept.append(example)
            continue
        try:
            (short,) = encoder.encode(examples[place : place + 1], with_response=True)
        except UserError as error:
            refusals.append(str(error))
            continue
        shortened += 1
        kept.append(dataclasses.replace(short, index=place))
    return Lengths(tokens, kept, shortened, refusals)


def length_findings(lengths: Lengths, limit: int) -> Iterator[Finding]:
    """Lengths in tokens, and what does not fit.

    Args:
        lengths: from `measure_lengths`.
        limit: of a text in tokens.
    """
    count = len(lengths.tokens)
    yield Finding("ok", "tokens", f"of an example {quantiles(lengths.tokens)}; the limit is {limit:,}")
    if lengths.shortened:
        text = f"{lengths.shortened:,} of {count:,} examples lose their oldest turns to fit into {limit:,} tokens"
        many = lengths.shortened > _MANY * count
        fix = "; raise dataset.max_token_length where the LM has positions for it" if many else ""
        yield Finding("warn" if many else "ok", "truncation", text + fix)
    elif not lengths.refusals:
        yield Finding("ok", "truncation", "every example fits whole")
    if lengths.refusals:
        text = f"{len(lengths.refusals):,} of {count:,} examples do not fit at all, and training would end at the first"
        yield Finding("FAIL", "truncation", f"{text}: {lengths.refusals[0]}")


def quantiles(values: Sequence[int] | np.ndarray) -> str:
    """`5 to 20 (half 9, nine tenths 14)`."""
    low, half, most, high = np.quantile(np.asarray(values), [0, 0.5, 0.9, 1]).round().astype(int)
    if low == high:
        return f"{low:,}"
    return f"{low:,} to {high:,} (half up to {half:,}, nine tenths up to {most:,})"
