"""Rankings of the golden cases: queries, documents, scores and orders are those of the benchmark's own code."""

import json

import pytest

from companions.lamp.questions import read_questions
from companions.lamp.rankers import RankerOptions, ranker_kind
from companions.lamp.rankers.bm25 import bm25_scores
from companions.lamp.rankers.dense import DenseScorer
from companions.lamp.rankings import candidates, rank_file, read_rankings
from companions.lamp.tasks import task_of
from tests.companions.lamp.conftest import ENCODER
from tests.companions.lamp.golden import GOLDEN, cases, load
from utils.errors import UserError

RANKINGS = cases("1_ranking/*.json")
TOLERANCE = {"bm25": 1e-9, "contriever": 5e-5}


def ranked(case, questions, distributed, folder, released=False):
    """The ranking of a questions file with a case's settings, as the command writes it."""
    options = RankerOptions(encoder=str(ENCODER))
    task, ranker = task_of(case["task"]), case["ranker"]
    rank_file(
        questions, folder / "ranking.json", task, ranker, distributed, options, case["use_date"], released
    )
    return dict(read_rankings(folder / "ranking.json"))


def scores_of(case, question, encoder):
    """A question's query, documents and scores in the order of the file."""
    asked, _ = candidates(question, task_of(case["task"]), ranker_kind(case["ranker"]), case["use_date"])
    if case["ranker"] == "bm25":
        return asked.query, asked.documents, bm25_scores(asked.query, asked.documents).tolist()
    return (
        asked.query,
        asked.documents,
        DenseScorer(encoder).scores([asked.query], [asked.documents])[0].tolist(),
    )


def in_stated_order(tie_groups, profile):
    """The one order that groups of equal items have here: within a group, the later item of the file first."""
    position = {item["id"]: number for number, item in enumerate(profile)}
    return [item for group in tie_groups for item in sorted(group, key=position.get, reverse=True)]


def test_there_are_cases():
    """An empty folder would pass every test below."""
    assert len(RANKINGS) >= 6


@pytest.mark.parametrize("name", RANKINGS)
def test_the_orders(name, distributed, tmp_path):
    """Other first items make another prompt, and no result of the benchmark could be compared."""
    case = load(name)
    path = GOLDEN / "data" / case["task"] / "questions.json"
    expected = case["ranking"]
    if "tie_groups" in case:
        profiles = {question["id"]: question["profile"] for question in json.loads(path.read_text("utf-8"))}
        expected = {
            question: in_stated_order(groups, profiles[question])
            for question, groups in case["tie_groups"].items()
        }
    assert ranked(case, path, distributed, tmp_path) == expected


@pytest.mark.parametrize("name", [case for case in RANKINGS if "detail" in load(*case.values)])
def test_the_scores(name, encoder):
    """An order may agree by chance: a query or document of other words shows in the scores."""
    case = load(name)
    for question in read_questions(GOLDEN / "data" / case["task"] / "questions.json", task_of(case["task"])):
        query, documents, scores = scores_of(case, question, encoder)
        wanted = case["detail"][question.id]
        assert (query, documents) == (wanted["query"], wanted["documents"])
        assert scores == pytest.approx(
            wanted["scores_in_profile_order"], rel=0, abs=TOLERANCE[case["ranker"]]
        )


def edges():
    """Every edge question of every case."""
    for (name,) in (parameter.values for parameter in RANKINGS):
        case = load(name)
        questions = load(f"data/{case['task']}/edge_questions.json")
        inputs = {edge["question"]["id"]: edge["question"] for edge in questions}
        for edge in case["edge"]:
            yield pytest.param(case, edge, inputs[edge["id"]], id=f"{name.stem}.{edge['kind']}")


@pytest.mark.parametrize(("case", "edge", "question"), edges())
def test_the_edge_questions(case, edge, question, encoder, distributed, tmp_path):
    """One odd user among thousands ends the release's ranking with a traceback; here it is ranked, or named."""
    path = tmp_path / "questions.json"
    path.write_text(json.dumps([question]), encoding="utf-8")
    kind = ranker_kind(case["ranker"])
    if (edge["kind"] == "missing_marker" and kind.reads_query) or (
        edge["kind"] == "no_date" and (kind.reads_dates or case["use_date"])
    ):
        field = "input" if edge["kind"] == "missing_marker" else "date"
        with pytest.raises(UserError, match=f"questions.json: question '{edge['id']}'.*field '{field}'"):
            ranked(case, path, distributed, tmp_path)
        assert not (tmp_path / "ranking.json").exists()
        return
    groups = edge.get("corrected_tie_groups", edge.get("tie_groups"))
    found = ranked(case, path, distributed, tmp_path)[edge["id"]]
    if "release_ranking" in edge:
        expected = (
            in_stated_order(groups, question["profile"]) if groups is not None else edge["release_ranking"]
        )
    else:  # the release fails: nothing to tell the items apart by, or there are none
        assert case["ranker"] == "recency" or edge["kind"] in ("empty_profile", "all_documents_empty")
        expected = (
            found if case["ranker"] == "recency" else [item["id"] for item in question["profile"][::-1]]
        )
    assert found == expected
    if groups is not None:
        (read,) = read_questions(path, task_of(case["task"]))
        query, _, scores = scores_of(case, read, encoder)
        assert query == edge.get("corrected_query", edge["query"])
        wanted = edge.get("corrected_scores_in_profile_order", edge["scores_in_profile_order"])
        assert scores == pytest.approx(wanted, rel=0, abs=TOLERANCE[case["ranker"]])


@pytest.mark.parametrize(
    ("case", "edge", "question"), [edge for edge in edges() if "corrected_query" in edge.values[1]]
)
def test_the_release_reads_quotes_in_titles_otherwise(case, edge, question, distributed, tmp_path):
    """Its own rankings could not be made again for a comparison with published figures."""
    path = tmp_path / "questions.json"
    path.write_text(json.dumps([question]), encoding="utf-8")
    found = ranked(case, path, distributed, tmp_path, released=True)[edge["id"]]
    assert found == in_stated_order(edge["tie_groups"], question["profile"])
