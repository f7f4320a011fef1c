"""The benchmark's metrics. Each is a function of means over examples, so that one arithmetic serves a whole file, a
single example and a resampled file.

Accuracy and macro F1 over all labels of the task; mean absolute and root mean squared error of ratings; ROUGE
F-measures without stemming (LaMP, section 3). The release reports ROUGE as the median of random resamples; here it is
the mean that these scatter around.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from companions.lamp.tasks import HIGHEST, LOWEST, Task
from utils.errors import shown
from utils.untrusted import check_comparable

if TYPE_CHECKING:
    from utils.metrics import Corpus

ROUGE = {"rouge-1": "rouge1", "rouge-2": "rouge2", "rouge-L": "rougeL", "rouge-LSum": "rougeLsum"}
T = TypeVar("T")


class OutputError(ValueError):
    """One of the outputs cannot be scored; `index` says which."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


@dataclass(frozen=True)
class Scored:
    """Predictions compared with their golds."""

    values: np.ndarray
    """[N, S]: S numbers of each of N examples, whose means are all that the metrics depend on"""
    combine: Callable[[np.ndarray], dict[str, np.ndarray]]
    """from such means [.., S] to metrics [..]"""

    def corpus(self) -> dict[str, float]:
        """The metrics of all examples together."""
        return {name: float(value) for name, value in self.combine(self.values.mean(axis=0)).items()}

    def per_example(self) -> dict[str, list[float]]:
        """The metrics of each example alone: RMSE is its absolute error, macro F1 one label's share or 0."""
        return {name: value.tolist() for name, value in self.combine(self.values).items()}


def compare(task: Task, predictions: Sequence[str], golds: Sequence[str], released: bool = False) -> Scored:
    """Compare predictions with golds, at least one, by the headline metrics of a task and what comes with them.

    Args:
        task: which metrics, labels and scale.
        predictions: the outputs; blanks around them do not count, case does.
        golds: the outputs that are right, in the same order.
        released: ratings outside the scale and golds that are no label count as in the release, see `rating_error`
            and `_labels`.

    Raises:
        OutputError: an output that cannot be scored.
    """
    predictions = [text.strip() for text in predictions]
    golds = [text.strip() for text in golds]
    if task.scoring.kind == "labels":
        return _labels(task.labels, predictions, golds, released)
    return (
        _ratings(predictions, golds, released)
        if task.scoring.kind == "rating"
        else _texts(predictions, golds)
    )


class TrainingMetrics:
    """The metrics that training and evaluation of an LM report, of outputs that come part by part.

    Only sums are held: they take the same memory however many outputs there are, and those of several processes add up.
    For texts corpus BLEU (0 to 100) comes along, and METEOR (0 to 1) where WordNet is installed.

    Args:
        task: see `compare`.
        released: see `compare`.
    """

    def __init__(self, task: Task, released: bool = False) -> None:
        self.task, self.released = task, released
        self.sums: dict[str, np.ndarray] = {}

    def add(self, predictions: Sequence[str], golds: Sequence[str]) -> None:
        """Add some outputs; for errors see `compare`."""
        if not predictions:
            return
        scored = compare(self.task, predictions, golds, self.released)
        self.add_sums({"count": np.array(len(predictions)), "values": scored.values.sum(axis=0)})
        if self.task.scoring.kind == "text":
            self.add_sums({"bleu": _bleu_counts(predictions, golds)})
            if meteor := _meteor(predictions, golds):
                self.add_sums({"meteor": np.array(sum(meteor))})

    def add_sums(self, sums: Mapping[str, np.ndarray]) -> None:
        """Add the sums of another process."""
        for name, value in sums.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def result(self) -> dict[str, float]:
        """The metrics of all outputs, at least one, by their names in training."""
        count = self.sums["count"]
        means = self.sums["values"] / count
        combined = compare(self.task, [], [], self.released).combine(means)
        metrics = {name: float(value) for name, value in combined.items()}
        if "bleu" in self.sums:
            metrics["bleu"] = _bleu_of_counts(self.sums["bleu"])
        if "meteor" in self.sums:
            metrics["meteor"] = float(self.sums["meteor"] / count)
        return metrics


def training_metrics(
    task: Task, predictions: Sequence[str], golds: Sequence[str], released: bool = False
) -> dict[str, float]:
    """`TrainingMetrics` of outputs that are all at hand."""
    metrics = TrainingMetrics(task, released)
    metrics.add(predictions, golds)
    return metrics.result()


def metrics_of_each(
    task: Task, predictions: Sequence[str], golds: Sequence[str], released: bool = False
) -> list[dict[str, float]]:
    """`training_metrics` of each example alone, in one pass: what the feedback of an LM is made of."""
    if not predictions:
        return []
    columns = compare(task, predictions, golds, released).per_example()
    if task.scoring.kind == "text":
        columns["bleu"] = [
            _bleu_of_counts(_bleu_counts([text], [gold]))
            for text, gold in zip(predictions, golds, strict=True)
        ]
        if meteor := _meteor(predictions, golds):
            columns["meteor"] = meteor
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def official_names(task: Task, metrics: Mapping[str, T]) -> dict[str, T]:
    """The headline metrics under their names in the official evaluation."""
    return {
        name: metrics[key] for key, name in zip(task.scoring.headline, task.scoring.official, strict=True)
    }


def rating_error(prediction: str, gold: float, released: bool = False) -> float:
    """How far a predicted rating is from the gold one.

    What is no rating from 1 to 5 counts as the end of the scale that is farthest from the gold one (5 for a gold 3),
    so that no other output does worse. In the release that holds for what is no number; numbers outside the scale
    count as they are.

    Raises:
        ValueError: `released`, and the number is infinite or NaN.
    """
    farthest = LOWEST if gold - LOWEST > HIGHEST - gold else HIGHEST
    try:
        value = float(prediction)
    except ValueError:
        value = farthest
    if released and not math.isfinite(value):
        raise ValueError(f"a rating must be finite: {prediction!r}")
    if not released and not LOWEST <= value <= HIGHEST:
        value = farthest
    return abs(value - gold)


def outside_scale(prediction: str) -> bool:
    """Whether a predicted rating is a number, and none from 1 to 5."""
    try:
        return not LOWEST <= float(prediction) <= HIGHEST
    except ValueError:
        return False


def _labels(labels: Sequence[str], predictions: list[str], golds: list[str], released: bool) -> Scored:
    """S = 1 + 2L: whether an example is right, and for each label whether it is, and in how many of the two it is.

    In the release any two outputs that are no label are equal; otherwise a gold must be one.
    """
    place = {label: number for number, label in enumerate(labels)}
    count = len(labels)
    values = np.zeros((len(golds), 1 + 2 * count))
    for row, (prediction, gold) in enumerate(zip(predictions, golds, strict=True)):
        predicted, true = place.get(prediction), place.get(gold)
        if true is None and not released:
            raise OutputError(row, f"the gold {shown(gold)} is none of the labels {', '.join(labels)}")
        values[row, 0] = predicted == true
        if predicted is not None:
            values[row, 1 + predicted] = predicted == true
            values[row, 1 + count + predicted] += 1
        if true is not None:
            values[row, 1 + count + true] += 1

    def combine(means: np.ndarray) -> dict[str, np.ndarray]:
        right, either = means[..., 1 : 1 + count], means[..., 1 + count :]
        # a label that is nowhere has an F1 of 0
        f1 = np.divide(2 * right, either, out=np.zeros_like(right), where=either > 0)
        return {"accuracy": means[..., 0], "f1": f1.mean(axis=-1)}

    return Scored(values, combine)


def _ratings(predictions: list[str], golds: list[str], released: bool) -> Scored:
    """S = 2: the absolute error and its square."""
    values = np.zeros((len(golds), 2))
    for row, (prediction, gold) in enumerate(zip(predictions, golds, strict=True)):
        try:
            true = float(gold)
        except ValueError:
            true = math.nan
        if not LOWEST <= true <= HIGHEST:
            raise OutputError(row, f"the gold {shown(gold)} is no rating from 1 to 5")
        try:
            error = rating_error(prediction, true, released)
        except ValueError as wrong:
            raise OutputError(row, str(wrong)) from None
        values[row] = error, error**2
    return Scored(values, lambda means: {"mae": means[..., 0], "rmse": np.sqrt(means[..., 1])})


def _texts(predictions: list[str], golds: list[str]) -> Scored:
    """S = 4: the ROUGE F-measures."""
    from rouge_score.rouge_scorer import RougeScorer

    for row, (prediction, gold) in enumerate(zip(predictions, golds, strict=True)):
        try:
            check_comparable(prediction, gold)
        except ValueError as wrong:
            raise OutputError(row, str(wrong)) from None
    scorer = RougeScorer(list(ROUGE.values()), use_stemmer=False)
    values = np.array(
        [
            [score.fmeasure for score in scorer.score(gold, prediction).values()]
            for prediction, gold in zip(predictions, golds, strict=True)
        ]
    )
    return Scored(values, lambda means: {name: means[..., column] for column, name in enumerate(ROUGE)})


def _bleu_counts(predictions: Sequence[str], golds: Sequence[str]) -> np.ndarray:
    """What corpus BLEU depends on, and adds up: both lengths, n-grams that match and n-grams, for n of 1 to 4 [10]."""
    from sacrebleu.metrics import BLEU

    corpus = _corpus(predictions, golds)
    # force only silences the warning that the text looks tokenised
    found = BLEU(force=True).corpus_score(corpus.predictions, [corpus.targets])
    return np.array([found.sys_len, found.ref_len, *found.counts, *found.totals])


def _bleu_of_counts(counts: np.ndarray) -> float:
    """Corpus BLEU, 0 to 100."""
    from sacrebleu.metrics import BLEU

    length, of_golds, *ngrams = map(int, counts)
    return BLEU.compute_bleu(ngrams[:4], ngrams[4:], length, of_golds, smooth_method="exp").score


def _meteor(predictions: Sequence[str], golds: Sequence[str]) -> list[float]:
    """METEOR of each example, 0 to 1; of none where WordNet is not installed."""
    from utils.metrics import Unavailable
    from utils.metrics.meteor import meteor

    try:
        return [value / 100 for value in meteor(_corpus(predictions, golds))]
    except Unavailable:
        return []


def _corpus(predictions: Sequence[str], golds: Sequence[str]) -> "Corpus":
    from utils.metrics import Corpus

    pairs = zip(predictions, golds, strict=True)
    return Corpus(
        [{"prediction": prediction.strip(), "target": gold.strip()} for prediction, gold in pairs], {}
    )
