"""The command lines of the conversations: interact and learn."""

import argparse
from typing import Any

from companions.personagpt.settings import PersonaChatSettings
from utils.config.flags import (
    Parser,
    add_engine_flags,
    add_section_flags,
    boolean,
    given_flags,
    natural,
    positive,
)
from utils.config.schema import nested


def interact_parser() -> Parser:
    """Flags of interact: the original's, and ours."""
    parser = Parser("Talk to a persona bot, or let an interviewer who follows action codes talk to it.")
    _add_speaker(parser)
    parser.add_argument(
        "-M",
        "--mode",
        type=int,
        choices=(0, 1),
        default=1,
        help="0: you chat with the bot; 1: you pick action codes, both lines are generated (default 1)",
    )
    parser.add_argument(
        "--facts",
        metavar="TEXT|FILE",
        help="of the bot, 'fact; fact' or a file with one line each; else typed",
    )
    parser.add_argument(
        "--partner",
        metavar="TEXT|FILE",
        help="facts of a second bot, which opens: the two talk to each other, whatever the mode",
    )
    _add_settings(parser)
    return parser


def learn_parser() -> Parser:
    """Flags of learn."""
    parser = Parser(
        "Judge and correct conversations of an interviewer and a persona agent, and train on the corrections."
    )
    _add_speaker(parser)
    parser.add_argument(
        "--out", required=True, metavar="FILE.jsonl", help="corrections; what it holds already stays"
    )
    parser.add_argument(
        "--accepted",
        metavar="FILE.jsonl",
        help="whole conversations without a correction (default: OUT with .accepted before .jsonl)",
    )
    parser.add_argument(
        "--dialogues", type=positive, metavar="N", help="conversations to hold; else until you leave"
    )
    parser.add_argument(
        "--train",
        type=boolean,
        default=False,
        metavar="yes|no",
        help="train on the corrections at the end (default no: the command that does is shown)",
    )
    parser.add_argument(
        "--config",
        default="config/personagpt/learn.yml",
        metavar="FILE",
        help="of that training (default config/personagpt/learn.yml)",
    )
    parser.add_argument(
        "--log_dir", metavar="FOLDER", help="folder of its run folder; else the configuration's"
    )
    _add_settings(parser)
    return parser


def _add_speaker(parser: Parser) -> None:
    parser.add_argument(
        "--model_path",
        metavar="RUN|FOLDER",
        help="a run folder, or published weights in the Hugging Face format; or --set model.model_name=NAME",
    )
    parser.add_argument("--goals", metavar="FILE", help="phrases of action codes, one a line; else the 11")
    parser.add_argument("--profiles", metavar="FILE", help="a dialogue file that personas are drawn from")
    parser.add_argument("--seed", type=natural, help="makes what is drawn and sampled repeatable")


def _add_settings(parser: Parser) -> None:
    add_section_flags(parser, PersonaChatSettings, "chat.")
    add_engine_flags(parser)


def talk_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the flags give, as sections of the configuration."""
    goals = {} if args.goals is None else {"dataset.goals": args.goals}
    return nested({**given_flags(args, PersonaChatSettings, "chat."), **goals})
