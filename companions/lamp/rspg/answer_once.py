"""Answer questions with one call of the LM each: the scorer of RSPG-Pre chooses the strategy first.

python -m companions.lamp.rspg.answer_once --scorer RUN --task LaMP-3 --strategies none,bm25=merged_bm25.json \
    --model_name MODEL --num_retrieved 4 --output_dir FOLDER
"""

from pathlib import Path

from companions.lamp.lm.arguments import answering_parser, read_arguments
from companions.lamp.rspg.settings import AnsweringConfig
from utils.config.flags import Parser
from utils.console import quiet_libraries
from utils.errors import run_main

_WHAT = "Answer questions with one call of the LM each (RSPG-Pre)."


def parser() -> Parser:
    """The flags; those of the LM are the ones of retriever_utilization_scorer."""
    return answering_parser(AnsweringConfig, _WHAT)


def main() -> None:
    """Parse and answer."""
    args, config = read_arguments(AnsweringConfig, _WHAT)
    quiet_libraries()
    # what is wrong with flags or configuration is told before torch is imported, which takes seconds
    from companions.lamp.rspg.answering import answer
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        answer(config, Path(args.output_dir), distributed)


if __name__ == "__main__":
    run_main(main)
