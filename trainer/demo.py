"""`make demo`: the whole way on the embedded sample, by the project's own commands, each shown before it runs."""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError, run_main

ROOT = Path(__file__).resolve().parent.parent
CHAT = ["hello , how are you ?", "what is your favorite food ?", "where do you live ?", "exit"]


def run(title: str, command: Sequence[str], said: Sequence[str] = ()) -> None:
    """Show a command and run it.

    Args:
        title: what the step is for.
        command: arguments after `python`.
        said: lines for its standard input.

    Raises:
        UserError: it failed.
    """
    shown = f"python {shlex.join(command)}"
    if said:
        shown = f"printf '%s\\n' {shlex.join(said)} | {shown}"
    print(f"\n=== {title}\n$ {shown}", flush=True)
    text = "".join(f"{line}\n" for line in said) if said else None
    status = subprocess.run([sys.executable, *command], cwd=ROOT, input=text, text=True).returncode
    if status:
        raise UserError(f"the step '{title}' ended with status {status}")


def newest(folder: Path, prefix: str) -> str:
    """The run folder whose name starts with `prefix`, relative to the project."""
    return str(sorted((ROOT / folder).glob(f"{prefix}_*"))[-1].relative_to(ROOT))


def main() -> None:
    """Train a base LM, train SPT on it, decode, score, chat."""
    started = time.monotonic()
    log_dir = Path("runs_sample") / time.strftime("demo_%Y-%m-%d-%H%M%S")
    flags = [f"--log_dir={log_dir}"]
    run(
        "1. A small base LM from scratch on the sample's text (a pretrained one would stand here)",
        ["train.py", "--config=config/sample/base-lm.yml", *flags],
    )
    base_lm = newest(log_dir, "base-lm")
    run(
        "2. SPT on the frozen base LM: four soft prompts and the retriever that chooses among them",
        ["train.py", "--config=config/sample/spt.yml", f"--set=model.model_name={base_lm}", *flags],
    )
    spt = newest(log_dir, "spt")
    run("3. A reply to every validation example", ["test.py", f"--model_path={spt}", "--batch_size=64"])
    run("4. Scores", ["evaluate_runs_results.py", f"--main_path={log_dir}"])
    run(
        "5. A few exchanges; each reply shows the soft prompt that the retriever chose",
        ["interactive_test.py", f"--model_path={spt}", "--seed=1"],
        CHAT,
    )
    print(
        f"\nDone in {time.monotonic() - started:.0f} s. Everything lies in {log_dir}:\n"
        f"  {base_lm}/model                    the base LM, Hugging Face format\n"
        f"  {spt}/trained.safetensors          what SPT trained\n"
        f"  {spt}/evaluation_result.txt        every reply; .jsonl for programs\n"
        f"  {log_dir}/results.txt              the scores; results.csv for programs\n"
        f"Talk to it: python interactive_test.py --model_path={spt}\n"
        f"Curves:     tensorboard --logdir {log_dir}"
    )


if __name__ == "__main__":
    run_main(main)
