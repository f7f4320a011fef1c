"""Answer questions with one call of the LM each: the scorer of RSPG-Pre chooses the strategy first.

python -m companions.lamp.rspg.answer_once --scorer RUN --task LaMP-3 --strategies none,bm25=merged_bm25.json \
    --model_name MODEL --num_retrieved 4 --output_dir FOLDER
"""

from pathlib import Path

from utils.console import quiet_libraries
from utils.errors import run_main


def main() -> None:
    """Parse and answer."""
    quiet_libraries()
    # what is wrong with flags or configuration is told before torch is imported, which takes seconds
    from companions.lamp.lm.arguments import read_arguments
    from companions.lamp.rspg.settings import AnsweringConfig

    args, config = read_arguments(
        AnsweringConfig, "Answer questions with one call of the LM each (RSPG-Pre)."
    )
    from companions.lamp.rspg.answering import answer
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        answer(config, Path(args.output_dir), distributed)


if __name__ == "__main__":
    run_main(main)
