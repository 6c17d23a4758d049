import torch

from detectron2.modeling.sampling import subsample_labels

LABELS = torch.tensor([1, 0, 0, -1, 1, 0, 1, 0, 0, 1, 3])


def test_draws_two_full_permutations_positives_first():
    torch.manual_seed(0)
    positive, negative = subsample_labels(LABELS, 6, 0.5, 0)
    state = torch.rand(1)
    torch.manual_seed(0)
    order_positive, order_negative = torch.randperm(5), torch.randperm(5)
    assert positive.tolist() == torch.tensor([0, 4, 6, 9, 10])[order_positive[:3]].tolist()
    assert negative.tolist() == torch.tensor([1, 2, 5, 7, 8])[order_negative[:3]].tolist()
    assert torch.equal(state, torch.rand(1))


def test_negatives_fill_up_but_positives_do_not():
    positive, negative = subsample_labels(torch.tensor([1, 0, 0, 0, 0]), 4, 0.5, 0)
    assert (len(positive), len(negative)) == (1, 3)
    positive, negative = subsample_labels(torch.tensor([1, 1, 1, 1, 0]), 4, 0.5, 0)
    assert (len(positive), len(negative)) == (2, 1)


def test_background_may_be_the_last_class():
    positive, negative = subsample_labels(torch.tensor([0, 5, -1, 5]), 10, 0.5, 5)
    assert positive.tolist() == [0]
    assert sorted(negative.tolist()) == [1, 3]


def test_nothing_to_draw():
    for labels in (torch.zeros(0, dtype=torch.int64), torch.tensor([-1, -1])):
        positive, negative = subsample_labels(labels, 4, 0.5, 0)
        assert positive.numel() == negative.numel() == 0
