"""An LM in which the rows of a few tokens are parameters of their own, so that they can learn at a rate of their own.

Adam moves every entry by about the learning rate, however its gradient is scaled: rows with another rate are another
parameter. In the forward pass they stand in the place of the token table's own rows, which get no gradient.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from models.lm.language_model import LanguageModel
from utils.errors import UserError


class SplitLanguageModel(LanguageModel):
    """A causal LM, all of it trained, with some rows of token table and head apart.

    Args:
        lm: the LM; the new one holds the same weights.
        tokens: T ids whose rows are apart.

    Raises:
        UserError: the LM does more with a token's row than to look it up.
    """

    tokens: Tensor  # [T]

    def __init__(self, lm: LanguageModel, tokens: Sequence[int]) -> None:
        super().__init__(lm.model, frozen=False)
        embeddings = lm.model.get_input_embeddings()
        if getattr(type(embeddings), "forward", None) is not nn.Embedding.forward:
            raise UserError(
                f"{lm.model.config.model_type}: rows of the token table cannot learn apart in an LM that scales them"
            )
        self.register_buffer("tokens", torch.tensor(tokens), persistent=False)
        self.rows = nn.Parameter(self.embedding_weight.detach()[self.tokens].clone())  # [T, D]
        head = super().head_weight
        self.head_rows = None  # [T, H], where the head is not the token table
        if head is not self.embedding_weight:
            self.head_rows = nn.Parameter(head.detach()[self.tokens].clone())

    @property
    def head_weight(self) -> Tensor:
        """[Vocab, H], with the rows that are apart."""
        rows = self.rows if self.head_rows is None else self.head_rows
        return super().head_weight.index_copy(0, self.tokens, rows)

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings [*, D] of ids [*], with the rows that are apart."""
        same = ids[..., None] == self.tokens  # [*, T]
        apart = same.to(self.rows.dtype) @ self.rows  # [*, D]
        return torch.where(same.any(-1, keepdim=True), apart, super().embed(ids))

    def apart(self) -> list[nn.Parameter]:
        """The rows that are apart."""
        return [rows for rows in (self.rows, self.head_rows) if rows is not None]

    def merged(self, state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """Parameters by name, with the rows in the tables that they belong to.

        Args:
            state: this module's parameters by name, each name after `prefix`.
            prefix: of the names, such as "lm.".
        """
        merged = {name: value for name, value in state.items() if name.startswith(f"{prefix}model.")}
        tables = {"rows": self.embedding_weight}
        if self.head_rows is not None:
            tables["head_rows"] = super().head_weight
        names = {id(parameter): name for name, parameter in self.named_parameters()}
        for name, table in tables.items():
            place = prefix + names[id(table)]
            merged[place] = merged[place].index_copy(0, self.tokens.cpu(), state[prefix + name])
        return merged
