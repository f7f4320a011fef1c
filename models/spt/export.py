"""`python -m models.spt.export --model_path=RUN`: each soft prompt as a Hugging Face PEFT prompt-tuning adapter."""

from functools import partial
from pathlib import Path

from peft import PromptTuningConfig, TaskType
from safetensors.torch import save_file

from models.decoding.runs import read_run_config
from models.lm.language_model import lm_source
from models.trained_part import read_trained
from utils.config.flags import Parser
from utils.errors import UserError, run_main
from utils.files import to_json, write_errors, write_together
from utils.runs import find_runs


def export_run(run: Path, out: Path) -> list[Path]:
    """Write `prompt_{k}/adapter_config.json` and `adapter_model.safetensors` for every soft prompt of a run.

    `PeftModel.from_pretrained(base_lm, prompt_k)` then puts the prompt before every input. PEFT knows no
    retriever: which prompt to load is for its user to choose.

    Raises:
        UserError: the run has no soft prompts, or the files cannot be written.
    """
    config = read_run_config(run, [])
    state, source = read_trained(run)
    base_lm = config.model.base_lm
    if "soft_prompts.weight" not in state or base_lm is None:
        raise UserError(f"{source}: no soft prompts here (model_type {config.model.model_type})")
    if state["soft_prompts.weight"].dim() != 3:
        raise UserError(f"{source}: 'soft_prompts.weight' has no shape [K, V, D]")
    if any(name.startswith("router.") for name in state):
        raise UserError(
            f"{source}: a router scales these prompts for each text, which no adapter of PEFT can do"
        )
    folders = []
    for index, prompt in enumerate(state["soft_prompts.weight"]):  # [V, D]
        folder = out / f"prompt_{index}"
        adapter = PromptTuningConfig(
            task_type=TaskType.CAUSAL_LM,
            base_model_name_or_path=lm_source(base_lm),
            num_virtual_tokens=prompt.shape[0],
            token_dim=prompt.shape[1],
            inference_mode=True,
        )
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        save = partial(save_file, {"prompt_embeddings": prompt.contiguous()})
        text = to_json(adapter.to_dict(), indent=2) + "\n"
        write_together(folder, {"adapter_model.safetensors": save, "adapter_config.json": text})
        folders.append(folder)
    return folders


def main() -> None:
    """Parse and export."""
    parser = Parser("Write each soft prompt of a run as a PEFT prompt-tuning adapter.")
    parser.add_argument("--model_path", required=True, metavar="RUN", help="a run folder")
    parser.add_argument("--out", metavar="FOLDER", help="where to write (default: RUN/peft)")
    args = parser.parse_args()
    run, *others = find_runs(args.model_path)
    if others:
        raise UserError(
            f"--model_path {args.model_path} holds {1 + len(others)} runs: give one of them, such as {run}"
        )
    for folder in export_run(run, Path(args.out) if args.out else run / "peft"):
        print(folder)


if __name__ == "__main__":
    run_main(main)
