"""Questions files of any size in LaMP's form, made of random words."""

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from companions.lamp.json_stream import write_array

WORDS = (
    "warm baker kneads dough rusty robot drops wheel narrow ferry leaves harbour golden violin conducts choir shady "
    "pond shelters rose broken sensor measures circuit foggy anchor drifts toward lighthouse in the of a and with"
).split()


def text(stream: random.Random, words: int, spread: float = 0.0) -> str:
    """Between half as many words and half as many more; or with a `spread`, of log-normal length.

    Args:
        stream: what is drawn from.
        words: on average.
        spread: standard deviation of the length, in averages. Reviews of LaMP-3 have 1.14 (128 +- 146 tokens).
    """
    count = stream.randint(words // 2, words * 3 // 2)
    if spread:
        variance = math.log(1 + spread**2)
        drawn = stream.lognormvariate(math.log(words) - variance / 2, math.sqrt(variance))
        count = max(1, round(drawn))
    return " ".join(stream.choices(WORDS, k=count))


def questions(
    count: int, items: int, words: int = 20, per_user: int = 1, spread: float = 0.0
) -> Iterator[dict[str, Any]]:
    """Questions of LaMP-3, one at a time; `per_user` in a row have the same profile; see `text` for their words."""
    stream = random.Random(0)
    for number in range(count):
        if number % per_user == 0:
            profile = [
                {
                    "id": f"{number}-{item}",
                    "text": text(stream, words, spread),
                    "score": "3",
                    "date": f"{stream.randint(2000, 2020)}-{stream.randint(1, 12):02}",
                }
                for item in range(items)
            ]
        yield {"id": str(number), "input": f"review: {text(stream, words, spread)}", "profile": profile}


def write_questions(
    path: Path, count: int, items: int, words: int = 20, per_user: int = 1, spread: float = 0.0
) -> Path:
    """Write such a file."""
    write_array(path, questions(count, items, words, per_user, spread))
    return path


def write_outputs(path: Path, count: int) -> Path:
    """Write the golds of such a file, in another order."""
    write_array(path, ({"id": str(number), "output": "4"} for number in reversed(range(count))))
    return path
