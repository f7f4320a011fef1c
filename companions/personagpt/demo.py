"""`make demo-personagpt`: the whole way of PersonaGPT on its sample, by its own commands, each shown before it runs."""

import time
from pathlib import Path

from trainer.demo import newest, run
from utils.errors import run_main

SAMPLE = Path("companions/personagpt/sample")
COMMANDS = "companions.personagpt"
FACTS = "i live with two old cats.; i work as a baker.; i will travel to japan.; my hobby is chess."
SAID = ["hello ! how are you ?", "do you have any pets ?", "what do you do for work ?", "exit"]
CHOSEN = ["1", "6", "4", "exit"]
REPLY = ["--max_new_tokens=32", "--top_k=1"]  # the likeliest words: an LM this small drifts when it samples


def main() -> None:
    """Prepare the data, train a base LM, train both stages on it, evaluate, score, talk in both modes."""
    started = time.monotonic()
    log_dir = Path("runs_sample") / time.strftime("personagpt_%Y-%m-%d-%H%M%S")
    data = log_dir / "data"
    run(
        "1. The data: what is left out is reported; the sample has every tenth dialogue from both sides, as ConvAI2",
        [
            *("-m", f"{COMMANDS}.preprocess_dataset", f"--out={data}"),
            *(f"--train={SAMPLE / 'train_both.txt'}", f"--valid={SAMPLE / 'valid_both.txt'}"),
            f"--actions={SAMPLE / 'actions.csv'}",
        ],
    )
    run(
        "2. A small base LM from scratch (DialoGPT or another pretrained one would stand here)",
        ["train.py", "--config=config/personagpt/sample-lm.yml", f"--log_dir={log_dir}"],
    )
    base_lm = newest(log_dir, "sample-lm")
    run(
        "3. PersonaGPT, two runs: dialogues of personas, then action codes with old dialogues beside them",
        [
            *("-m", f"{COMMANDS}.train", f"--log_dir={log_dir}"),
            *(
                "--config=config/personagpt/sample-pretrain.yml",
                "--config=config/personagpt/sample-control.yml",
            ),
            f"--set=model.model_name={base_lm}",
            *(
                f"--set=dataset.train={data / 'train_data.jsonl'}",
                f"--set=dataset.valid={data / 'valid_data.jsonl'}",
            ),
            f"--set=dataset.actions={data / 'active_data.jsonl'}",
        ],
    )
    trained = newest(log_dir, "sample-control")
    run(
        "4. Evaluation: true answers, generated replies, and how often a steered reply follows its action code",
        ["-m", f"{COMMANDS}.evaluate", f"--model_path={trained}", "--batch_size=64", "--openings=24"],
    )
    run("5. All metrics of the generated replies", ["evaluate_runs_results.py", f"--main_path={log_dir}"])
    talk = ["-m", f"{COMMANDS}.interact", f"--model_path={trained}", *REPLY, f"--facts={FACTS}"]
    run("6. You talk to the persona", [*talk, "--mode=0"], SAID)
    run("7. You pick action codes; interviewer and persona talk", [*talk, "--mode=1", "-turns", "3"], CHOSEN)
    print(
        f"\nDone in {time.monotonic() - started:.0f} s. Everything lies in {log_dir}:\n"
        f"  {trained}/model                    the LM, Hugging Face format\n"
        f"  {trained}/evaluation.json          the figures; evaluation_result.txt has every reply\n"
        "The LM is tiny and minutes old: its lines keep to the form and often to the subject, less to the facts.\n"
        f"Talk to it: python -m {COMMANDS}.interact --model_path={trained} --mode=1"
    )


if __name__ == "__main__":
    run_main(main)
