"""Training on the shared trainer against the golden runs: `pretrain` and `control`, the release's and corrected."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from companions.personagpt.control import build_controlled
from companions.personagpt.model import build_personagpt
from companions.personagpt.released import WholeUpdates
from companions.personagpt.streams import StreamCollator, StreamSampler, joined
from companions.personagpt.tokens import make_tokenizer
from dataset.batch import Collator
from models.lm.language_model import load_language_model
from tests.companions.personagpt.golden import cases, content
from tests.companions.personagpt.training import PAD, FixedOrder, encoded, fixed_task, golden_config, groups
from tests.helpers import logged
from trainer.training import train

pytestmark = pytest.mark.slow

_FIRST = "_with_first_token"


def _variants(part: str) -> list[Any]:
    """(folder, variant) of each golden run: "release", or the name of a computed one."""
    found = []
    for case in cases(part, "*/"):
        expected = content(case / "expected.json")
        names = [*(["release"] if "release" in expected else []), *expected["computed"]]
        for name in names:
            # of the further cases the release's own numbers are enough, but for `make test-long`
            marks = [] if name == "release" or case == cases(part, "*/")[0] else [pytest.mark.long]
            found.append(pytest.param(case, name, id=f"{case.name}-{name}", marks=marks))
    return found


def _decay(variant: str) -> float:
    """`intended_decay_0.01_with_first_token`: 0.01."""
    found = re.search(r"_decay_([\d.]+)", variant)
    return float(found[1]) if found else 0.0


def _start() -> dict[str, torch.Tensor]:
    lm = load_language_model(golden_config().model)
    return {name: value.clone() for name, value in lm.model.named_parameters()}


def _assert_moved_as(wanted: dict[str, Any], end: dict[str, torch.Tensor]) -> None:
    """Compare fingerprints: norm and change of each tensor, and its first values."""
    start = _start()
    for name, row in wanted.items():
        if name == "wte_rows":
            continue
        value, change = end[name].double(), end[name].double() - start[name].double()
        norm, delta, expected = value.norm(), change.norm(), row
        if "query_value_part" in row:  # the key third moves by rounding noise
            width = value.numel() // 3
            keep = torch.cat([torch.arange(width), torch.arange(2 * width, 3 * width)])
            norm, delta, expected = value[keep].norm(), change[keep].norm(), row["query_value_part"]
        assert norm.item() == pytest.approx(expected["norm"], rel=2e-5), name
        assert delta.item() == pytest.approx(expected["delta_norm"], rel=5e-3, abs=1e-12), name
        assert end[name].flatten()[:4].tolist() == pytest.approx(row["first"], abs=1e-5), name


def _assert_rates(rows: list[dict[str, Any]], after: list[float], rate: float) -> None:
    """The rate before each update is the one after the update before it."""
    rates = [row["lr"][0] if isinstance(row["lr"], list) else row["lr"] for row in rows]
    assert rates == pytest.approx([rate, *after[:-1]], abs=1e-12)


@pytest.mark.parametrize(("case", "variant"), _variants("pretrain"))
def test_pretrain(case: Path, variant: str, distributed, tmp_path):
    """An update that is scaled, clipped, scheduled or grouped otherwise gives other weights than the method's."""
    expected, pairs = content(case / "expected.json"), content(case / "examples.json")
    settings, release = expected["settings"], variant.startswith("release")
    size = settings["accumulation"]
    training = {
        "learning_rate": settings["learning_rate"],
        "batch_size": size,
        "num_epochs": settings["epochs"],
        "weight_decay": settings["weight_decay"],
        "grad_clip": settings["clip"],
    }
    fidelity = "released_code" if release else "paper"
    config = golden_config(tmp_path, model={"fidelity": fidelity}, training=training)
    orders = expected["orders"]
    if release:
        sampler = WholeUpdates(len(pairs), size, orders.__getitem__)
    else:
        whole = variant.startswith("partial_discarded")
        sampler = FixedOrder([groups(order, size, whole) for order in orders])
    model = build_personagpt(config, make_tokenizer(config.model))
    examples = encoded(pairs, first_token=variant.endswith(_FIRST))
    run = train(fixed_task(config, model, examples, sampler), distributed, "golden")
    rows = logged(run, "train")
    if variant == "release":
        wanted = expected["release"]
        losses, after, final = wanted["loss_per_update"], wanted["lr_after_update"], wanted["final"]
    else:
        wanted = expected["computed"][variant]
        losses = [row["loss"] for row in wanted["stats"]]
        after, final = [row["lr_after"] for row in wanted["stats"]], wanted["final"]
    assert [row["pretrain_loss"] for row in rows] == pytest.approx(losses, abs=2e-4)
    _assert_rates(rows, after, settings["learning_rate"])
    _assert_moved_as(final, dict(model.lm.model.named_parameters()))


@pytest.mark.parametrize(("case", "variant"), _variants("control"))
def test_control(case: Path, variant: str, distributed, tmp_path):
    """The steering tokens' rows must learn, the others must not: the release's code froze all of them."""
    expected, pairs = content(case / "expected.json"), content(case / "examples.json")
    settings, release = expected["settings"], variant.startswith("release")
    size, (old, new) = settings["accumulation"], (pairs["old"], pairs["new"])
    training = {
        "stage": "control",
        "learning_rate": settings["learning_rate"],
        "batch_size": size,
        "special_rows_rate": settings["special_rows"],
        "other_rows_rate": settings["other_rows"],
        "positions_rate": settings["positions"],
        "grad_clip": settings["clip"],
        "weight_decay": _decay(variant),
    }
    fidelity = "released_code" if release else "paper"
    config = golden_config(tmp_path, model={"fidelity": fidelity}, training=training)
    if release:
        sampler: Any = WholeUpdates(len(old), size, lambda epoch: expected["old_order"])
    else:
        sampler = FixedOrder([groups(expected["old_order"], size, whole=True)])
    both = StreamSampler(sampler, len(old), lambda epoch: iter(expected["new_order"]))
    first_token = variant.endswith(_FIRST)
    examples = joined(encoded(old, first_token), encoded(new, first_token))
    collate = StreamCollator(Collator(PAD).train, len(old)).train
    model = build_controlled(config, make_tokenizer(config.model))
    run = train(fixed_task(config, model, examples, both, collate), distributed, "golden")
    if variant == "release":
        wanted = expected["release"]
        found = {"new": wanted["loss_new_per_update"], "old": wanted["loss_old_per_update"]}
        after = wanted["lr_after_update"]
    else:
        wanted = expected["computed"][variant]
        found = {
            stream: [row[name] for row in wanted["stats"]]
            for stream, name in (("new", "ctrl_loss"), ("old", "persona_loss"))
        }
        after = [row["lr_after"] for row in wanted["stats"]]
    names = {"new": "ctrl_loss", "old": "persona_loss"}
    if release:  # its names are swapped; the golden files have put them right
        names = {"new": "persona_loss", "old": "ctrl_loss"}
    rows = logged(run, "train")
    for stream, losses in found.items():
        assert [row[names[stream]] for row in rows] == pytest.approx(losses, abs=2e-4), stream
    assert [row["total"] for row in rows] == pytest.approx(
        [old + new for old, new in zip(found["old"], found["new"], strict=True)], abs=4e-4
    )
    _assert_rates(rows, after, settings["learning_rate"])
    end = {f"lm.{name}": value.detach() for name, value in model.lm.named_parameters()}
    if not release:
        end = model.lm.merged(end, "lm.")
    end = {name.removeprefix("lm.model."): value for name, value in end.items()}
    _assert_moved_as(wanted["final"], end)
    if rows_wanted := wanted["final"].get("wte_rows"):
        table = "transformer.wte.weight"
        change = (end[table] - _start()[table]).double()
        special = {int(token): norm for token, norm in rows_wanted["special_delta_norm"].items()}
        for token, norm in special.items():
            assert change[token].norm().item() == pytest.approx(norm, rel=5e-3), token
        others = torch.ones(len(change), dtype=torch.bool)
        others[list(special)] = False
        moved = change[others]
        assert moved.norm().item() == pytest.approx(rows_wanted["other_rows_delta_norm"], rel=5e-3)
        assert moved.abs().max().item() <= 1.01 * rows_wanted["other_rows_max_abs_delta"]
