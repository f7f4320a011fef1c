"""Both stages go on with a run that was killed, as if it had never been, and a chain with the runs that follow."""

import pytest

from companions.personagpt.chain import read_chain, train_chain
from tests.companions.personagpt.test_task import FILES
from tests.companions.resumed import SETTINGS, killed, whole_and_resumed
from tests.trainer.test_resume import assert_equal_runs
from utils.errors import UserError


@pytest.fixture
def chain(lm_folder, distributed, tmp_path):
    """chain(*arguments): the folders of the runs of a command line; `chain.small` are flags of a small training."""
    dataset = FILES | {"max_token_length": 384, "valid": FILES["train"], "train": FILES["valid"]}
    keys = {f"dataset.{key}": value for key, value in dataset.items()}
    keys |= {f"training.{key}": str(value).lower() for key, value in SETTINGS.items()}
    keys |= {"model.model_name": lm_folder("gpt2"), "training.log_dir": tmp_path / "runs"}
    keys |= {"training.batch_size": 8, "training.num_epochs": 2, "training.learning_rate": 1e-3}
    for stage in ("pretrain", "control"):
        sections = f"model: {{model_type: personagpt}}\ntraining: {{stage: {stage}}}\n"
        (tmp_path / f"{stage}.yml").write_text(sections, encoding="utf-8")

    def run(*arguments):
        return train_chain(read_chain(arguments), distributed)

    run.small = [f"--set={key}={value}" for key, value in keys.items()]
    run.pretrain, run.control = (f"--config={tmp_path / stage}.yml" for stage in ("pretrain", "control"))
    return run


@pytest.mark.slow
def test_a_chain_that_is_killed_in_each_of_its_runs(chain):
    """Stage two would begin with another LM than that of a chain that was never stopped, or with the base LM."""
    whole = chain(chain.pretrain, chain.control, *chain.small)
    with killed(3, run="pretrain"):
        chain(chain.pretrain, chain.control, *chain.small)
    log_dir = whole[0].parent
    (first,) = set(log_dir.iterdir()) - set(whole)
    with killed(9, run="control"):
        chain(f"--resume={first}", chain.control, *chain.small)
    (second,) = set(log_dir.iterdir()) - {*whole, first}
    assert chain(f"--resume={second}") == [second]
    for run, resumed in zip(whole, (first, second), strict=True):
        assert_equal_runs(resumed, run)


def test_the_releases_updates(chain, tmp_path):
    """What an epoch leaves over comes into the next one's first update; lost with a kill, it is never learnt from."""
    released = ["--set=model.fidelity=released_code", "--set=dataset.drop_duplicates=false"]
    runs = whole_and_resumed(
        lambda: chain(chain.pretrain, *chain.small, *released)[0],
        lambda begun: chain(f"--resume={begun}")[0],
        9,
        tmp_path / "runs",
    )
    assert_equal_runs(*reversed(runs))


def test_other_settings_are_told(chain, tmp_path):
    """A run that goes on with another batch size is none that can be told of in a paper."""
    with killed(3):
        chain(chain.pretrain, *chain.small)
    (begun,) = (tmp_path / "runs").iterdir()
    with pytest.raises(UserError, match=r"config.yml: training.batch_size = 8, not 16: a resumed run keeps"):
        chain(f"--resume={begun}", "--batch=16")
    with pytest.raises(UserError, match="--resume nowhere: the run's configuration not found"):
        chain("--resume=nowhere")
