"""The sections of a configuration that say how replies are generated: `decoding` for test.py, `chat` for the chat."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from utils.config.schema import Flag, Positive, Section

SEED = 3407  # of what is drawn, as in the release


Beams = Annotated[int, Field(ge=1, le=1000)]  # each is one more text in memory


class DecodingSettings(Section):
    """How replies are generated; the defaults are those of the release's test.py (docs/method.md, section 6).

    Nothing is taken from the LM's own generation_config.json: with a repetition penalty of its own, "greedy" would
    mean something else for each LM.
    """

    name: ClassVar[str] = "decoding"
    """of the section, for messages"""

    max_new_tokens: Annotated[Positive, Flag("max_new_tokens")] = 32
    """tokens of a reply, at most"""
    num_beams: Annotated[Beams, Flag("num_beams")] = 1
    """beams of the search; 1 is greedy decoding, or sampling with do_sample"""
    do_sample: Annotated[bool, Flag("do_sample")] = False
    """draw each token from the LM's distribution instead of taking the likeliest"""
    temperature: Annotated[float, Field(ge=1e-6), Flag("temperature")] = 1.0
    """of the distribution that is drawn from; below 1 it is sharper"""
    top_k: Annotated[int, Field(ge=0), Flag("top_k")] = 0
    """draw from the k likeliest tokens only; 0 for no such limit"""
    top_p: Annotated[float, Field(gt=0, le=1), Flag("top_p")] = 1.0
    """draw from the likeliest tokens that have this probability together; 1 for no such limit"""
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100), Flag("repetition_penalty")] = 1.0
    """above 1, tokens that the reply already has become less likely; 1 for no penalty"""
    no_repeat_ngram_size: Annotated[int, Field(ge=0), Flag("no_repeat_ngram_size")] = 0
    """n-grams of this size come once in a reply at most; 0 for no such rule"""
    router: Annotated[Literal["trained", "fitted"], Flag("router")] = "trained"
    """what chooses the soft prompt: the run's own choice, or the router that trainer.fit_router --save has put there"""

    def rules(self) -> list[tuple[bool, str]]:
        """Sampling excludes beams; temperature, top_k and top_p need sampling."""
        drawing = self.temperature != 1 or self.top_k != 0 or self.top_p != 1
        return [
            (
                self.do_sample and self.num_beams > 1,
                f"{self.name}.do_sample draws one token at a time: it needs {self.name}.num_beams: 1 (--num_beams=1)",
            ),
            (
                drawing and not self.do_sample,
                f"{self.name}: temperature, top_k and top_p change only what is drawn: they need do_sample: true "
                "(--do_sample=yes)",
            ),
        ]


class ChatSettings(DecodingSettings):
    """The same for the chat, with the defaults of the release's interactive_test.py."""

    name: ClassVar[str] = "chat"

    num_beams: Annotated[Beams, Flag("num_beams")] = 10
    """beams of the search; 1 is greedy decoding, or sampling with do_sample"""
    no_repeat_ngram_size: Annotated[int, Field(ge=0), Flag("no_repeat_ngram_size")] = 4
    """n-grams of this size come once in a reply at most; 0 for no such rule"""
