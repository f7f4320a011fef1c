"""The whole chain of LaMP, ROPG and RSPG: what stands is not made again, and a table of all systems is printed.

python -m companions.lamp.pipeline --config config/lamp/sample.yml
"""

import time
from pathlib import Path

from utils.config.flags import Parser
from utils.console import quiet_libraries
from utils.errors import run_main


def parser() -> Parser:
    """The flags."""
    flags = Parser(description="Rank, merge, train, score, choose, and compare.")
    flags.add_argument("--config", required=True, metavar="FILE", help="YAML configuration")
    flags.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="assignments",
        help="override any key of the configuration; may be given several times",
    )
    flags.add_argument("--local_rank", type=int, default=-1, help="set by the launcher")
    return flags


def main() -> None:
    """Parse and run."""
    started = time.monotonic()
    args = parser().parse_args()
    quiet_libraries()
    # what is wrong with flags or configuration is told before torch is imported, which takes seconds
    from companions.lamp.pipeline.settings import read_config

    config = read_config(args.config, args.assignments)
    from companions.lamp.pipeline.running import run_pipeline
    from utils.liveness import distributed_context

    with distributed_context(args.local_rank) as distributed:
        text = run_pipeline(config, distributed)
        distributed.say(
            f"\n{text}\nDone in {time.monotonic() - started:.0f} s. Everything lies in {Path(config.data.folder)}."
        )


if __name__ == "__main__":
    run_main(main)
