"""Interaction against the golden scripts: prompts, replies and questions of the release."""

import pytest

from companions.personagpt.actions import GOALS
from companions.personagpt.agents import Interviewer, PersonaBot, self_play
from companions.personagpt.talks import BOT, USER, ChatTalk, SteeredTalk
from tests.companions.personagpt.golden import GOLDEN, cases, content
from tests.companions.personagpt.talking import hold, voice_with

SCRIPTS = [path for path in cases("interaction", "*.json") if "inputs" in content(path)]
WITH_B = [path for path in SCRIPTS if "computed_with_variant_B" in content(path)]
SMALL_GAP = 1e-4


def run(case, folder, **settings):
    """The lines of a script, and the questions of the shell."""
    given = case["settings"]
    voice = voice_with(
        top_k=given["top_k"],
        top_p=given["top_p"],
        max_length=given["max_length"],
        num_turns=given["length"],
        # the release keeps none; paper has room for more than these short scripts need
        reply_room=1,
        **settings,
    )
    talk = SteeredTalk(voice, None, GOALS) if case["documented_mode"] == 1 else ChatTalk(voice, None)
    asked, shown = hold(talk, [*case["facts"], *case["inputs"]], folder)
    return voice.lines, asked, shown, talk


def compare(lines, turns, gaps=()):
    """Prompts and replies equal, up to a reply whose two best tokens are nearly equal."""
    assert len(lines) == len(turns)
    for number, (line, turn) in enumerate(zip(lines, turns, strict=True)):
        assert list(line.prompt) == turn["prompt"], number
        gap = turn.get("min_top2_logit_gap", gaps[number] if number < len(gaps) else 1.0)
        if gap <= SMALL_GAP:
            return  # what follows depends on how sums are rounded
        assert list(line.ids) == turn["reply"], number
        if "text" in turn:
            assert line.text == turn["text"], number


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_released_code_gives_the_releases_lines(path, tmp_path):
    """A prompt that differs in one token, or another limit, would make published weights say other things."""
    case = content(path)
    lines, asked, shown, talk = run(case, tmp_path, fidelity="released_code", action_prompt="A")
    # where a prompt reaches the limit the pinned library stops, and the newer one gives a token per call
    newer = case["transformers_4_10_3"]
    compare(lines[: len(case["turns"])], case["turns"])
    gaps = [turn["min_top2_logit_gap"] for turn in case["turns"]]
    compare(lines, newer.get("turns", case["turns"]), gaps)
    assert asked[: len(case["input_prompts"])] == case["input_prompts"]
    printed = {line.removesuffix("<|endoftext|>") for line in case["stdout"].splitlines()}
    assert {line for line in printed if line.startswith((USER, BOT))} <= set("\n".join(shown).splitlines())
    if case["history"]:
        assert [list(turn) for turn in talk.turns] == case["history"]


@pytest.mark.parametrize("path", WITH_B, ids=lambda path: path.stem)
def test_the_corrected_prompt_gives_the_computed_lines(path, tmp_path):
    """Variant B is what the LM is trained with here; in variant A it would see a sequence that it does not know."""
    case = content(path)
    computed = case["computed_with_variant_B"]
    lines, asked, shown, talk = run(case, tmp_path, fidelity="paper", action_prompt="B")
    compare(lines, computed["turns"])
    assert [GOALS.index(note.removeprefix("action: ")) for note in talk.notes.values()] == computed[
        "action_indices"
    ]
    errors = [line for line in shown if line.startswith("error: ")]
    assert len(errors) == len(case["inputs"]) - len(computed["action_indices"])
    assert all(error.endswith("a number from 0 to 10 is needed") for error in errors)


@pytest.mark.parametrize("stem", ["chat_plain", "action_three", "action_transcript", "action_invalid_inputs"])
def test_without_defects_in_the_way_both_fidelities_agree(stem, tmp_path):
    """The corrected method changes what is wrong in the release; a plain conversation must not change."""
    case = content(GOLDEN / "interaction" / f"{stem}.json")
    compare(run(case, tmp_path, fidelity="paper", action_prompt="A")[0], case["turns"])


@pytest.mark.parametrize("fidelity", ["paper", "released_code"])
@pytest.mark.parametrize("path", cases("interaction", "self_play*.json"), ids=lambda path: path.stem)
def test_two_personas_talk(path, fidelity):
    """With the facts of the wrong speaker, or roles that do not take turns, the bots would answer themselves."""
    case = content(path)
    first, second = ([fact.removesuffix("<|endoftext|>") for fact in case[name]] for name in ("p1", "p2"))
    for max_length, replies in case["runs"].items():
        voice = voice_with(max_length=int(max_length), reply_room=1, fidelity=fidelity)
        lines = self_play(voice, first, second, len(replies) // 2)
        assert [list(line.ids) for line in lines] == replies


def test_prompts_of_convogyms_agents():
    """The gym's collected prompts are variant B with a history; a corrected reply must be stored after the same."""
    expected = content(GOLDEN / "actions" / "expected.json")
    gym = expected["convogym"]
    voice = voice_with()
    turns = [voice.turn(text) for text in expected["convogym_history"]]
    interviewer = Interviewer(voice)
    prompts = [voice.prompt(interviewer.prefix(goal), turns) for goal in expected["actions"]]
    assert prompts == gym["B_with_history"]
    # with facts the gym puts a persona prompt after goal and <|sep|>; without, variant B has an empty one there
    about = PersonaBot(voice, expected["convogym_facts"], 1).prefix()
    with_facts = [[*interviewer.prefix(goal)[:-2], *about] for goal in expected["actions"]]
    assert [[*prefix, voice.ids.start] for prefix in with_facts] == gym["with_facts"]
    for speaker, length in ((1, 2), (2, 1)):
        bot = PersonaBot(voice, expected["convogym_facts"], speaker)
        assert voice.prompt(bot.prefix(), turns[:length]) == gym[f"persona_p{speaker}"]


@pytest.mark.parametrize(("fidelity", "length"), [("paper", 3), ("released_code", 2)])
def test_the_releases_self_play_counts_tokens_twice(fidelity, length):
    """Its loop stops at half of what max_length leaves; the corrected limit is prompt and reply together."""
    case = content(GOLDEN / "interaction" / "self_play.json")
    first, second = ([fact.removesuffix("<|endoftext|>") for fact in case[name]] for name in ("p1", "p2"))
    prompt = self_play(voice_with(), first, second, 1)[0].prompt
    voice = voice_with(max_length=len(prompt) + 3, reply_room=3, fidelity=fidelity)
    turn = PersonaBot(voice, first, 1)
    line = voice.reply(turn.prefix(), [], 2 if voice.released else 1)
    assert line.ids == tuple(case["runs"]["1024"][0][:length])
    if fidelity == "released_code":
        assert self_play(voice, first, second, 1)[0].ids == line.ids
