"""Train the retriever by policy gradient (ROPG-RL).

`python -m companions.lamp.ropg.train_rl --task LaMP-3 --train_data MERGED --scores_path FEEDBACK --name NAME`
"""

from functools import partial

from companions.lamp.ropg.arguments import ropg_parser
from companions.lamp.ropg.running import train_retriever
from companions.lamp.ropg.settings import RLConfig
from utils.errors import run_main

parser = partial(ropg_parser, RLConfig, "rl")
main = partial(train_retriever, RLConfig, "rl")


if __name__ == "__main__":
    run_main(main)
