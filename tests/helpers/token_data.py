"""A data set of tokens to classify, as a plug-in: which half of the vocabulary the first token is from."""

#: The source of its module; `{change}` may spoil `raw`.
PLUGIN = """
import attrs
import numpy as np
from tickdsl.extending import RawDataset

def words(root, train=96):
    rng = np.random.default_rng(0)
    def split(count):
        tokens = rng.integers(0, 12, (count, 6))
        return tokens, (tokens[:, 0] >= 6).astype(np.int64)
    raw = RawDataset(*split(train), *split(48), class_names=("low", "high"), vocabulary=12)
    {change}
    return raw
"""
#: The source of a network for it.
NETWORK = """
from torch import nn

class Reader(nn.Module):
    def __init__(self, outputs, tokens):
        super().__init__()
        self.embedding = nn.Embedding(tokens[1], 8)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(8 * tokens[0], 24), nn.ReLU())
        self.head = nn.Linear(24, outputs)

    def forward(self, tokens):
        return self.head(self.body(self.embedding(tokens)))

def reader(classes, shape):
    return Reader(classes, shape)
"""
