"""From a trained run to replies: decoding, chat, and the scores of what was decoded."""
