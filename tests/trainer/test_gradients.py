"""Gradients as DeepSpeed's reductions over the ranks take them."""

from deepspeed.runtime.engine import DeepSpeedEngine

from tests.helpers import logged, train


def test_a_lone_trained_tensor_is_reduced_at_stage_0(make_config, distributed, tmp_path, monkeypatch):
    """Prompt tuning with batches of 1 ended in its first step on two ranks: torch saw an overlap in the gradient.

    With one rank DeepSpeed reduces nothing, so that its copy of the reduced gradient is done here.
    """
    backward, copied = DeepSpeedEngine.backward, []

    def reducing(self, *args, **options):
        backward(self, *args, **options)
        gradients = [p.grad for p in self.module.parameters() if p.requires_grad]
        self.allreduce_and_copy(gradients, self.data_parallel_group)
        copied.append(len(gradients))

    monkeypatch.setattr(DeepSpeedEngine, "backward", reducing)
    path = tmp_path / "ds.json"
    path.write_text('{"zero_optimization": {"stage": 0}}', encoding="utf-8")
    sections = {"batch_size": 1, "training_ratio": 0.1, "save_model": False, "log_every": 1}
    run = train(
        make_config(model={"model_type": "prompt_tuning"}, training=sections),
        distributed,
        "alone",
        str(path),
    )
    assert copied == [1] * len(logged(run, "train"))
