"""A head's chains and trees are what the head says without a cache, and a tree keeps its likeliest nodes."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lib.generators.speculative import eagle_tree
from lib.generators.speculative.common import Decoding
from lib.generators.speculative.drafting import Rows
from tests.toys import drafter, prompt, tiny_head, tiny_model

VOCAB, K = 8, 4
DECODING = Decoding(max_new_tokens=20)


def guess(head, ids, features):
    """The head's guess of the next feature [h], from all rows at once and no cache."""
    x = head.fuse(ids[None], features[None])
    query, keys, values = head.project(x, *head.rotary(torch.arange(len(ids))))
    attended = F.scaled_dot_product_attention(query, keys, values, is_causal=True, enable_gqa=True)
    return head.finish(x, attended)[0, -1]


def laws(head, text, features, path):
    """Log-probabilities [V] behind the text and behind each token of a path that goes on from it."""
    ids, found = torch.tensor(text[1:]), []
    for token in [*path, 0]:
        latest = guess(head, ids, features)
        found.append(head.logits(latest).log_softmax(-1))
        ids, features = torch.cat([ids, torch.tensor([token])]), torch.cat([features, latest[None]])
    return found


def grown(name, m, text, second):
    """A drafter that has drafted behind `text` and then read `second`, tokens that were kept; its rows."""
    features = m.base_model(torch.tensor([text + second])).last_hidden_state
    asked, rows = drafter(name, m, DECODING, K), Rows([text], DECODING, 3 * K, [])
    asked.start(rows, features[:, : len(text) - 1])
    asked.propose(rows, room=99)
    rows.append(np.array([second]), np.array([len(second)]))
    asked.observe(rows, features[:, len(text) - 1 : -1], np.array([len(second)]))
    return asked, rows, features[0, :-1]


@pytest.mark.parametrize("name", ["eagle", "tree2", "tree3"])
@torch.inference_mode()
def test_a_draft_is_what_the_head_says_of_every_path(name):
    m = tiny_model(vocab=VOCAB)
    head, deepest = tiny_head(m), 0
    for seed in range(4):
        text, second = prompt(9, VOCAB, seed).tolist(), prompt(3, VOCAB, seed + 50).tolist()
        asked, rows, features = grown(name, m, text, second)
        if name == "eagle":
            pick, said = asked._pick, []
            asked._pick = lambda logits, *place, pick=pick, said=said: (said.append(logits[0]), pick(logits, *place))[1]
            tokens = asked.propose(rows, room=99).tokens[0].tolist()
            expected = torch.stack(laws(head, text + second, features, tokens)[:-1])
            torch.testing.assert_close(torch.stack(said).log_softmax(-1), expected, atol=1e-4, rtol=1e-4)
            assert tokens == expected.argmax(-1).tolist()
            continue
        tokens, scores, parents = asked._grow(rows)
        for node in range(len(tokens)):
            path = _path(tokens, parents, node)
            each = laws(head, text + second, features, path)
            expected = sum(float(law[token]) for law, token in zip(each, path, strict=False))
            assert scores[node] == pytest.approx(expected, abs=1e-4)
            deepest = max(deepest, len(path))
    assert name == "eagle" or deepest == K


def _path(tokens, parents, node):
    path = [int(tokens[node])]
    while parents[node]:
        node = parents[node] - 1
        path.insert(0, int(tokens[node]))
    return path


@torch.inference_mode()
def test_a_tree_follows_the_likeliest_nodes_of_each_depth():
    text = prompt(9, VOCAB).tolist()
    asked, rows, _ = grown("tree2", tiny_model(vocab=VOCAB), text, [1, 2])
    tokens, scores, parents = asked._grow(rows)
    assert len(tokens) == 2 + 3 * 4
    for first in range(2, 14, 4):  # a depth's candidates are the children of the best two of the depth before
        best = sorted(range(max(0, first - 4), first), key=lambda node: -scores[node])[:2]
        assert set(parents[first : first + 4] - 1) == set(best)


@torch.inference_mode()
@pytest.mark.parametrize(("room", "nodes"), [(99, 2 * K), (K, 2 * K), (K - 1, 0)])
def test_a_tree_needs_room_for_its_depth_only(room, nodes):
    asked, rows, _ = grown("tree2", tiny_model(vocab=VOCAB), prompt(9, VOCAB).tolist(), [1, 2])
    assert asked.propose(rows, room).lengths == [nodes]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=25), st.integers(1, 10))
def test_what_stays_of_a_tree_is_its_likeliest_part_and_hangs_together(nodes, count):
    """Random trees in which a child may be exactly as likely as its parent."""
    parents = np.array([place % (i + 1) for i, (place, _) in enumerate(nodes)])
    scores = np.zeros(len(nodes))
    for i, (_, loss) in enumerate(nodes):
        scores[i] = (scores[parents[i] - 1] if parents[i] else 0) - loss
    draft = eagle_tree._likeliest(np.arange(len(nodes)), scores, parents, count)
    kept = draft.tokens[0]  # a node's token is its number
    assert len(kept) == draft.lengths[0] == min(count, len(nodes))
    assert sorted(scores[kept]) == sorted(scores)[-len(kept) :]
    for place, (node, parent) in enumerate(itertools.zip_longest(kept, draft.parents)):
        assert parent <= place, "parents stand before their children"
        assert (kept[parent - 1] + 1 if parent else 0) == parents[node]
