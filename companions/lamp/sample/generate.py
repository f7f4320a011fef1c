"""Make the sample of LaMP: reviews in the form of LaMP-3, whose ratings only the right review of the profile tells.

    python -m companions.lamp.sample.generate            write the files beside this script
    python -m companions.lamp.sample.generate --check    exit with 1 when they differ from what it makes

A user rates each kind of thing alike whenever it is reviewed, and no two users agree. Most questions are about a kind
that one item of the profile is about, by the same word or by another one for it; the remaining words of a review say
nothing, and mislead a search for words. Some questions ask about what was bought last, and name no kind at all.
"""

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

SEED = 20240409
FOLDER = Path(__file__).resolve().parent
QUESTIONS = {"train": 450, "dev": 100}
ITEMS = 6
QUESTION = "What is the score of the following review? review: {}"  # the benchmark's is longer, and lists the ratings
SAME_WORD, LAST_BOUGHT = 0.75, 0.15
"""shares of the questions"""

KINDS = (
    ("kettle", "teapot", "samovar"),
    ("novel", "book", "paperback"),
    ("sofa", "couch", "settee"),
    ("jacket", "coat", "parka"),
    ("bicycle", "bike", "tandem"),
    ("lamp", "lantern", "torch"),
    ("violin", "fiddle", "viola"),
    ("rug", "carpet", "mat"),
)
REMARKS = "heavy light loud quiet cheap pricey shiny dull large tiny plain odd green blue warm cold".split()


def make(split: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The questions and the outputs of a split, as the benchmark's files have them."""
    draw = random.Random(f"{SEED} {split}")
    questions, golds = [], []
    for number in range(QUESTIONS[split]):
        name = f"3{list(QUESTIONS).index(split)}{number}"
        record, gold = _question(draw, name)
        questions.append(record)
        golds.append({"id": name, "output": gold})
    return questions, {"task": "LaMP_3", "golds": golds}


def _question(draw: random.Random, name: str) -> tuple[dict[str, Any], str]:
    """A question with its profile, and its gold rating."""
    of_last = draw.random() < LAST_BOUGHT
    kinds = draw.sample(KINDS, ITEMS)
    days = sorted(draw.sample(range(2000), ITEMS))  # the last item is the newest
    right = ITEMS - 1 if of_last else draw.randrange(ITEMS)
    gold = draw.randint(1, 5)
    others = [rating for rating in range(1, 6) if rating != gold]
    words = [draw.choice(kind) for kind in kinds]
    profile = [
        {
            "id": str(place),
            "text": _item(draw, words[place], is_newest=place == ITEMS - 1),
            "score": str(gold if place == right else draw.choice(others)),
            "date": f"{2018 + days[place] // 365}-{1 + days[place] % 365 // 31:02}",
        }
        for place in range(ITEMS)
    ]
    draw.shuffle(profile)
    if of_last:
        asked = "once more the same as before"
    elif draw.random() < SAME_WORD:
        asked = f"my {words[right]}"
    else:
        asked = f"my {draw.choice([word for word in kinds[right] if word != words[right]])}"
    review = f"{asked} is {' and '.join(draw.sample(REMARKS, 2))}"
    return {"id": name, "input": QUESTION.format(review), "profile": profile}, str(gold)


def _item(draw: random.Random, word: str, is_newest: bool) -> str:
    remark = draw.choice(REMARKS)
    return f"{'lately ' if is_newest else ''}a {remark} {word}"


def texts() -> dict[str, str]:
    """The content of each file, by its name."""
    files = {}
    for split in QUESTIONS:
        questions, outputs = make(split)
        rows = ",\n".join(json.dumps(question, separators=(",", ":")) for question in questions)
        files[f"{split}_questions.json"] = f"[{rows}]\n"
        files[f"{split}_outputs.json"] = json.dumps(outputs, separators=(",", ":")) + "\n"
    return files


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description="Make the sample of LaMP.")
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    status = 0
    for name, text in texts().items():
        path = FOLDER / name
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            print(f"{path} differs from what {Path(__file__).name} makes")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
