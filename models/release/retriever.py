"""The release's transformer retriever, which attends across the batch (docs/departures.md)."""

from torch import Tensor, nn

from models.spt.retriever import Retriever


class ReleasedRetriever(Retriever):
    """As in the release: without `batch_first` its encoder takes the examples of a batch for positions of a text."""

    batch_first = False

    def encode(self, encoder: nn.Module, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Every position, padding included."""
        return encoder(embeddings)
