"""Which face belongs to which words: figures with known answers, and what must not count."""

import math
from dataclasses import replace
from statistics import mean

import pytest
import torch
from torch import Tensor

from natural_video_llm.models.face import SeenFace
from natural_video_llm.models.loss import ContrastiveHead, next_token_loss, token_log_probs
from natural_video_llm.models.timed_attention import RelativeTime

TEXT_SIZE, FACE_SIZE, WINDOW_S = 16, 12, 2.0
TOKENS, FRAMES = 3, 20


def make_head(seed: int = 0) -> ContrastiveHead:
    torch.manual_seed(seed)
    return ContrastiveHead(TEXT_SIZE, FACE_SIZE, 4, RelativeTime(WINDOW_S)).eval()


Batch = tuple[Tensor, Tensor, Tensor, Tensor, SeenFace]


def make_batch(rows: int, seed: int = 0) -> Batch:
    """ids, words, pieces, query times, face: a row is one piece of three tokens, with a face for two seconds around."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randn(rows, TOKENS, TEXT_SIZE, generator=generator)
    pieces = torch.arange(rows)[:, None].expand(-1, TOKENS)
    times = torch.tensor([2.0, 2.2, 2.4], dtype=torch.float64).expand(rows, -1)
    encodings = torch.randn(rows, 1, FACE_SIZE, generator=generator).expand(-1, FRAMES, -1)
    seen_s = (1.0 + torch.arange(FRAMES, dtype=torch.float64) / 10).expand(rows, -1)
    ids = torch.arange(rows * TOKENS).reshape(rows, TOKENS)
    return ids, words, pieces, times, SeenFace(encodings, seen_s, torch.ones(rows, FRAMES, dtype=torch.bool))


def take(batch: Batch, rows: list[int]) -> Batch:
    ids, words, pieces, times, face = batch
    return ids[rows], words[rows], pieces[rows], times[rows], face.rows(torch.tensor(rows))


@torch.no_grad()
@pytest.mark.parametrize("rows", [8, 64])
def test_random_pairs_cost_about_the_logarithm_of_their_number(rows: int) -> None:
    loss = mean(float(make_head(seed)(*make_batch(rows, seed))) for seed in range(10))
    assert loss == pytest.approx(math.log(rows), abs=0.6)
    indifferent = make_head()
    indifferent.log_scale.fill_(-20.0)
    assert float(indifferent(*make_batch(rows))) == pytest.approx(math.log(rows), abs=1e-4)


def test_matching_pairs_are_learned_and_found_among_new_ones() -> None:
    shared = torch.randn(TEXT_SIZE, FACE_SIZE, generator=torch.Generator().manual_seed(1)) / TEXT_SIZE**0.5

    def matching(seed: int) -> Batch:
        ids, words, pieces, times, face = make_batch(32, seed)
        shown = (words.mean(1) @ shared)[:, None].expand(-1, FRAMES, -1)
        return ids, words, pieces, times, replace(face, encodings=shown)

    head = make_head()
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)
    with torch.no_grad():
        before = float(head(*matching(1000)))
    for step in range(60):
        optimiser.zero_grad()
        head(*matching(step)).backward()
        optimiser.step()
    with torch.no_grad():
        assert float(head(*matching(1000))) < 0.5 * before
        ids, words, pieces, times, face = matching(1000)
        assert float(head(ids, words, pieces, times, face.rows(torch.arange(32).roll(1)))) > before


@torch.no_grad()
def test_fewer_than_two_usable_pieces_cost_nothing() -> None:
    head, batch = make_head(), make_batch(3)
    ids, words, pieces, times, face = batch
    one_face = replace(face, present=face.present & (torch.arange(3) == 1)[:, None])
    nobody = replace(face, present=torch.zeros_like(face.present))
    for loss in (
        head(*take(batch, [1])),
        head(ids, words, pieces, times, one_face),
        head(ids, words, pieces, times, nobody),
        head(ids, words, torch.full_like(pieces, -1), times, face),
    ):
        assert loss.shape == ()
        assert float(loss) == 0.0


@torch.no_grad()
def test_the_same_words_elsewhere_are_no_counterexample() -> None:
    head, batch = make_head(), make_batch(2)
    ids, words, pieces, times, face = batch
    assert float(head(*batch)) > 0.1
    assert float(head(ids[:1].expand(2, -1), words, pieces, times, face)) == 0.0, "neither of two that say the same"
    beginning = torch.cat([ids[:1], ids[:1]])
    beginning[1, -1] = 99
    assert float(head(beginning, words, pieces, times, face)) > 0.1, "a text that begins alike is another text"
    shorter = pieces.masked_fill(torch.arange(TOKENS) == 2, -1)
    assert float(head(beginning, words, shorter, times, face)) == 0.0
    three = make_batch(3)
    words = torch.cat([three[1][:1], three[1][:1], three[1][2:]])
    loss = float(head(torch.cat([three[0][:1], three[0][:1], three[0][2:]]), words, *three[2:]))
    # By hand: row 0 and row 1 have row 2 alone against them, row 2 has both.
    scores = _scores(head, words, *three[2:])
    pairs = [[0, 2], [1, 2], [2, 0, 1]]
    by_text = [torch.logsumexp(scores[row[0], row], 0) - scores[row[0], row[0]] for row in pairs]
    by_face = [torch.logsumexp(scores[row, row[0]], 0) - scores[row[0], row[0]] for row in pairs]
    assert loss == pytest.approx(mean(map(float, by_text)) / 2 + mean(map(float, by_face)) / 2, abs=1e-5)


def _scores(head: ContrastiveHead, words: Tensor, pieces: Tensor, times: Tensor, face: SeenFace) -> Tensor:
    """Scores [text, face] of whole rows, each one piece."""
    features, visible = head.relative_time(times, face.times, face.present)
    looked = head._look(face, features, visible).mean(1)
    texts = torch.nn.functional.normalize(head.text(words.mean(1)), dim=-1)
    faces = torch.nn.functional.normalize(head.face(looked), dim=-1)
    return head.log_scale.exp() * texts @ faces.T


@torch.no_grad()
def test_rows_without_a_face_do_not_count() -> None:
    head, batch = make_head(), make_batch(6)
    ids, words, pieces, times, face = batch
    gone = torch.tensor([False, True, False, False, True, False])
    hidden = replace(face, present=face.present & ~gone[:, None])
    late = replace(face, times=face.times + 100.0 * gone[:, None])
    expected = float(head(*take(batch, [0, 2, 3, 5])))
    for unseen in (hidden, late):
        assert float(head(ids, words, pieces, times, unseen)) == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_tokens_outside_any_piece_and_padding_do_not_count() -> None:
    head, batch = make_head(), make_batch(5)
    ids, words, pieces, times, face = batch
    padded = (
        torch.cat([ids, torch.zeros(5, 4, dtype=torch.long)], 1),
        torch.cat([words, torch.randn(5, 4, TEXT_SIZE)], 1),
        torch.cat([pieces * 7 + 3, torch.full((5, 4), -1)], 1),
        torch.cat([times, torch.zeros(5, 4, dtype=torch.float64)], 1),
        SeenFace(
            torch.cat([face.encodings, torch.randn(5, 6, FACE_SIZE)], 1),
            torch.cat([face.times, torch.zeros(5, 6, dtype=torch.float64)], 1),
            torch.cat([face.present, torch.zeros(5, 6, dtype=torch.bool)], 1),
        ),
    )
    assert float(head(*padded)) == pytest.approx(float(head(*batch)), abs=1e-5)


@torch.no_grad()
def test_the_order_of_the_batch_changes_nothing() -> None:
    head, batch = make_head(), make_batch(9)
    expected = float(head(*batch))
    for seed in range(5):
        order = torch.randperm(9, generator=torch.Generator().manual_seed(seed)).tolist()
        assert float(head(*take(batch, order))) == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_each_token_may_be_a_piece_of_its_own() -> None:
    head = make_head()
    ids, words, _, times, face = make_batch(4)
    moving = replace(face, encodings=torch.randn(4, FRAMES, FACE_SIZE, generator=torch.Generator().manual_seed(2)))
    pieces = torch.arange(4 * TOKENS).reshape(4, TOKENS)
    single = (ids.reshape(-1, 1), words.reshape(-1, 1, TEXT_SIZE), pieces.reshape(-1, 1), times.reshape(-1, 1))
    repeated = moving.rows(torch.arange(4).repeat_interleave(TOKENS))
    assert float(head(ids, words, pieces, times, moving)) == pytest.approx(float(head(*single, repeated)), abs=1e-5)


@torch.no_grad()
def test_it_looks_at_the_face_of_the_words_own_time() -> None:
    head, batch = make_head(), make_batch(4)
    ids, words, pieces, times, face = batch
    after = face.times > times.max()
    unseen = torch.where(after[..., None], face.encodings + 5, face.encodings)
    before = face.times > times.max() - 0.5
    seen = torch.where(before[..., None], face.encodings.flip(0), face.encodings)
    expected = float(head(*batch))
    assert float(head(ids, words, pieces, times, replace(face, encodings=unseen))) == expected
    assert abs(float(head(ids, words, pieces, times, replace(face, encodings=seen))) - expected) > 1e-3


def test_next_token_loss_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    labels = torch.tensor([0, 1])
    expected = [math.log(0.5), math.log(0.1)]
    assert token_log_probs(logits, labels).tolist() == pytest.approx(expected, abs=1e-6)
    assert float(next_token_loss(logits, labels)) == pytest.approx(-mean(expected), abs=1e-6)
    parts = [float(next_token_loss(logits[i : i + 1], labels[i : i + 1], tokens=2)) for i in range(2)]
    assert sum(parts) == pytest.approx(-mean(expected), abs=1e-6)
    assert token_log_probs(logits.bfloat16(), labels).dtype == torch.float32
