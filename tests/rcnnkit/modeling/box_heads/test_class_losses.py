"""The losses by hand-worked numbers, at their limits, and on no boxes."""

import math

import pytest
import torch
import torch.nn.functional as F

from rcnnkit.modeling.box_heads import (
    class_balanced_loss,
    class_balanced_weights,
    seesaw_log_factors,
    seesaw_loss,
)

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [3.0, 1.0, 1.0]])
CLASSES = torch.tensor([0, 1, 2])  # of two classes and the background
OF_BACKGROUND = math.log(math.exp(3) + 2 * math.e) - 1  # cross-entropy of the third box


class TestClassBalanced:
    def test_weights_by_hand(self):
        # β = 0.5: effective numbers of 1 and 3 objects are 1 and 1.75; inverse 1 and 4/7, their mean 11/14
        weights = class_balanced_weights(torch.tensor([1, 3]), 0.5)
        torch.testing.assert_close(weights, torch.tensor([14 / 11, 8 / 11, 1.0]))

    def test_without_beta_all_weigh_the_same(self):
        assert class_balanced_weights(torch.tensor([1, 1000, 7]), 0.0).tolist() == [1, 1, 1, 1]

    def test_beta_near_1_is_the_inverse_count(self):
        weights = class_balanced_weights(torch.tensor([10, 40]), 1 - 1e-9)
        torch.testing.assert_close(weights, torch.tensor([1.6, 0.4, 1.0]), rtol=1e-4, atol=0)

    def test_a_class_without_objects_is_not_in_the_mean(self):
        assert class_balanced_weights(torch.tensor([5, 0, 5]), 0.9).tolist() == [1, 1, 1, 1]
        assert class_balanced_weights(torch.tensor([0, 0]), 0.9).tolist() == [1, 1, 1]

    def test_large_counts_stay_finite(self):
        weights = class_balanced_weights(torch.tensor([10**7, 3]), 0.9999)
        assert weights.isfinite().all() and weights[0] < weights[1]

    def test_loss_by_hand(self):
        weights = torch.tensor([2.0, 0.5, 1.0])
        of_boxes = [
            2.0 * (math.log(math.exp(2) + math.e + 1) - 2),
            0.5 * (math.log(1 + math.exp(3) + math.e) - 3),
            OF_BACKGROUND,
        ]
        loss = class_balanced_loss(LOGITS, CLASSES, weights)
        assert loss.item() == pytest.approx(sum(of_boxes) / 3, rel=1e-6)

    def test_equal_weights_are_cross_entropy(self):
        torch.testing.assert_close(
            class_balanced_loss(LOGITS, CLASSES, torch.ones(3)), F.cross_entropy(LOGITS, CLASSES)
        )

    def test_gradient(self):
        logits = LOGITS.double().requires_grad_()
        weights = torch.tensor([2.0, 0.5, 1.0])
        assert torch.autograd.gradcheck(lambda x: class_balanced_loss(x, CLASSES, weights), logits)


class TestSeesaw:
    def test_factors_by_hand(self):
        # class 0 has 16 objects, class 1 has 4; p = 0.5, q = 2
        factors = seesaw_log_factors(LOGITS, CLASSES, torch.tensor([16, 4]), 0.5, 2.0)
        expected = [
            [0.0, 0.5 * math.log(4 / 16), 0.0],  # the rare class 1 is punished half as much; 1 scores below 0
            [0.0, 0.0, 0.0],  # the frequent class 0 is punished in full; the background takes no part
            [0.0, 0.0, 0.0],  # class 0 scores above class 1, but the box is background
        ]
        torch.testing.assert_close(factors, torch.tensor(expected))

    @pytest.mark.parametrize("counts", [[4, 16], [16, 4]])
    def test_a_box_of_background_punishes_every_class_in_full(self, counts):
        """However rare a class is, and however far it scores above the others or the background."""
        logits = torch.tensor([[3.0, 1.0, 0.5], [1.0, 3.0, 0.5], [0.5, 1.0, 3.0]])
        assert not seesaw_log_factors(logits, torch.tensor([2, 2, 2]), torch.tensor(counts), 0.5, 2.0).any()

    def test_compensation_by_hand(self):
        logits = torch.tensor([[1.0, 1.5, 9.0]])
        factors = seesaw_log_factors(logits, torch.tensor([0]), torch.tensor([16, 4]), 0.5, 2.0)
        torch.testing.assert_close(factors, torch.tensor([[0.0, math.log(0.5) + 2.0 * 0.5, 0.0]]))

    def test_loss_by_hand(self):
        factors = seesaw_log_factors(LOGITS, CLASSES, torch.tensor([16, 4]), 0.5, 2.0)
        of_boxes = [
            math.log(math.exp(2) + 0.5 * math.e + 1) - 2,
            math.log(1 + math.exp(3) + math.e) - 3,
            OF_BACKGROUND,
        ]
        assert seesaw_loss(LOGITS, CLASSES, factors).item() == pytest.approx(sum(of_boxes) / 3, rel=1e-6)

    def test_unseen_classes_count_as_one(self):
        counts = torch.tensor([10, 0])
        factors = seesaw_log_factors(LOGITS, CLASSES, counts, 1.0, 0.0)
        assert factors[0].tolist() == pytest.approx([0.0, -math.log(10), 0.0]) and not factors[1:].any()

    def test_without_powers_it_is_cross_entropy(self):
        factors = seesaw_log_factors(LOGITS, CLASSES, torch.tensor([16, 4]), 0.0, 0.0)
        torch.testing.assert_close(seesaw_loss(LOGITS, CLASSES, factors), F.cross_entropy(LOGITS, CLASSES))

    def test_gradient(self):
        logits = LOGITS.double().requires_grad_()
        factors = seesaw_log_factors(logits, CLASSES, torch.tensor([16, 4]))
        assert not factors.requires_grad
        assert torch.autograd.gradcheck(lambda x: seesaw_loss(x, CLASSES, factors), logits)


def test_half_precision_is_computed_in_single():
    counts = torch.tensor([10**6, 1])
    factors = seesaw_log_factors(LOGITS.half(), CLASSES, counts)
    losses = (
        class_balanced_loss(LOGITS.half(), CLASSES, class_balanced_weights(counts, 0.99999)),
        seesaw_loss(LOGITS.half(), CLASSES, factors),
    )
    for found in (factors, *losses):
        assert found.dtype == torch.float32 and found.isfinite().all()


def test_no_boxes_cost_nothing_and_have_a_gradient():
    logits, classes = torch.zeros(0, 3, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    factors = seesaw_log_factors(logits, classes, torch.tensor([16, 4]))
    assert factors.shape == (0, 3)
    for loss in (class_balanced_loss(logits, classes, torch.ones(3)), seesaw_loss(logits, classes, factors)):
        loss.backward()
        assert loss.item() == 0 and logits.grad is not None
