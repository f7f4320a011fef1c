"""Train the retriever by distillation of the LM's preference (ROPG-KD).

`python -m companions.lamp.ropg.train_kd --task LaMP-3 --train_data MERGED --scores_path FEEDBACK --name NAME`
"""

from functools import partial

from companions.lamp.ropg.arguments import ropg_parser
from companions.lamp.ropg.running import train_retriever
from companions.lamp.ropg.settings import KDConfig
from utils.errors import run_main

parser = partial(ropg_parser, KDConfig, "kd")
main = partial(train_retriever, KDConfig, "kd")


if __name__ == "__main__":
    run_main(main)
