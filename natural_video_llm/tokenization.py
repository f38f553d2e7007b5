"""Tokenizers told apart."""

import hashlib

from transformers import PreTrainedTokenizerBase


def tokenizer_sha256(tokenizer: PreTrainedTokenizerBase) -> str:
    """Fingerprint of a fast tokenizer: where it agrees, the same text is cut alike."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
