"""A tokenizer to which the names of special tokens are text: data cannot smuggle in an end or a turn."""

import json

from tokenizers import Tokenizer


def plain_text_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer itself, or a copy whose vocabulary matches no special token; ids stay what they are.

    `encode_special_tokens`, which is to be set as well, keeps a tokenizer from looking for special tokens before it
    cuts a text. A Unigram model (sentencepiece) has them among the pieces that it cuts a text into, and finds them
    there again.
    """
    parts = json.loads(tokenizer.to_str())
    if parts["model"]["type"] != "Unigram":
        return tokenizer
    special = {token["content"] for token in parts["added_tokens"] if token["special"]}
    parts["added_tokens"] = [token for token in parts["added_tokens"] if not token["special"]]
    # no text has a line break in it
    parts["model"]["vocab"] = [
        [f"\n{piece}" if piece in special else piece, score] for piece, score in parts["model"]["vocab"]
    ]
    parts["post_processor"] = None  # which names them; nothing is added here
    return Tokenizer.from_str(json.dumps(parts))
