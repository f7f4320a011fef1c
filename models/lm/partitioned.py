"""Loading an LM of which each rank keeps a share only (ZeRO stage 3): transformers' way, read weight by weight.

transformers makes the modules one by one, and DeepSpeed partitions each before the next is made. Rank 0 would then
read all files into its memory and hand the weights out; here it reads each weight when its turn comes.
"""

from typing import Any, cast

import torch
from safetensors import safe_open
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel
from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

from utils.pretrained_files import weight_files


class StoredTensor:
    """A tensor of a safetensors file that is read anew at each use, and kept by nobody.

    Args:
        file: from `safe_open`.
        name: of the tensor.
    """

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name
        self.shape = torch.Size(file.get_slice(name).get_shape())

    def read(self) -> torch.Tensor:
        """The tensor, on the CPU."""
        return self._file.get_tensor(self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.read(), name)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What is given to a function of torch is read first."""
        args, kwargs = tree_map_only(cls, cls.read, (args, kwargs or {}))
        return function(*args, **kwargs)


def load_partitioned(
    like: PreTrainedModel, source: str, ds_config: dict[str, Any], local_files_only: bool
) -> PreTrainedModel:
    """An LM whose parameters are partitioned over the ranks. Every rank must call it.

    Args:
        like: the LM on the device `meta`: what is loaded has its class, configuration and precision, and has been
            compared with the files.
        source: its folder or name.
        ds_config: complete, of stage 3 and the LM's precision.
        local_files_only: whether the hub is not asked.

    Raises:
        Exception: whatever the libraries raise for files that cannot be read.
    """
    options: dict[str, Any] = {"config": like.config, "dtype": like.dtype}
    state = _stored_state(source, local_files_only)
    if state is not None:
        source, options["state_dict"] = cast(str, None), state
    partitioning = HfDeepSpeedConfig(ds_config)  # the library looks whether one is alive
    try:
        model = type(like).from_pretrained(
            source, local_files_only=local_files_only, trust_remote_code=False, **options
        )
    finally:
        unset_hf_deepspeed_config()
        del partitioning
    model.config.name_or_path = like.config.name_or_path
    return model


def _stored_state(source: str, local_files_only: bool) -> dict[str, Any] | None:
    """The weights by name: on rank 0 to be read, on the others their shapes; None where they are no safetensors."""
    paths = [path for path in weight_files(source, local_files_only) if path.suffix == ".safetensors"]
    # `pread`: what is mapped would count as this process's memory until all is loaded
    files = [safe_open(path, framework="pt", backend="pread") for path in paths]
    names = [(file, name) for file in files for name in file.keys()]  # noqa: SIM118 (no mapping)
    stored = {name: StoredTensor(file, name) for file, name in names}
    if torch.distributed.get_rank() == 0:
        return stored or None
    return {name: torch.empty(each.shape, device="meta") for name, each in stored.items()} or None
