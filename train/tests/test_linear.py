"""Linear layers against a plain reading of their rule."""

import copy
import math
import unittest

import torch

from sbnc_train.linear import Rule, SparseBitLinear, nm_mask, quantize, stored, ternarize
from sbnc_train.model import Model, Shape


def mask_by_sorting(weight: torch.Tensor, n: int, m: int) -> list[list[bool]]:
    rows = []
    for row in weight.abs().tolist():
        kept = []
        for start in range(0, len(row), m):
            group = row[start : start + m]
            best = sorted(range(m), key=lambda i: (-group[i], i))[:n]
            kept += [i in best for i in range(m)]
        rows.append(kept)
    return rows


def layer(rule: Rule, inputs: int = 48, parts: tuple[int, ...] = (12, 6), seed: int = 1) -> SparseBitLinear:
    torch.manual_seed(seed)
    linear = SparseBitLinear(inputs, list(parts), rule)
    torch.nn.init.normal_(linear.weight, std=0.1)
    # Parts of other sizes, so that a scale taken over all of them would be another.
    with torch.no_grad():
        linear.weight[parts[0] :] *= 7
    return linear


class Mask(unittest.TestCase):
    def test_keeps_the_largest_and_the_lower_index_of_equals(self):
        torch.manual_seed(0)
        # Few values: most groups have ties.
        weight = torch.randint(-3, 4, (16, 48)).float()
        for n, m in [(2, 4), (1, 4), (3, 8), (6, 8), (4, 6), (8, 16), (14, 16)]:
            self.assertEqual(nm_mask(weight, n, m).tolist(), mask_by_sorting(weight, n, m), f"{n}:{m}")
        self.assertEqual(nm_mask(torch.ones(1, 4), 2, 4).tolist(), [[True, True, False, False]])

    def test_refuses_groups_across_rows(self):
        with self.assertRaisesRegex(ValueError, "groups of 8"):
            SparseBitLinear(20, [4], Rule(pattern=(6, 8)))
        linear = SparseBitLinear(20, [4], Rule())
        with self.assertRaisesRegex(ValueError, "groups of 8"):
            linear.rule = Rule(pattern=(6, 8))


class Trits(unittest.TestCase):
    def test_scale_is_of_the_part_and_of_all_its_weights(self):
        linear = layer(Rule(pattern=(2, 4)))
        trits, scales = ternarize(linear.weight, linear.parts, linear.rule)
        latent = stored(linear.weight).double()
        start = 0
        for part in linear.parts:
            rows = latent[start : start + part]
            scale = rows.abs().mean().item()
            self.assertTrue(all(math.isclose(s, scale, rel_tol=1e-6) for s in scales[start : start + part].tolist()))
            kept = torch.tensor(mask_by_sorting(rows, 2, 4))
            wanted = (rows / scale).round().clamp(-1, 1) * kept
            self.assertTrue(torch.equal(trits[start : start + part].double(), wanted))
            start += part

    def test_rounds_half_to_even(self):
        # A mean of exactly 1: a half goes to 0, one and a half to 1.
        weight = torch.tensor([[0.5, 1.5, -0.5, -1.5]])
        trits, scales = ternarize(weight, [1], Rule())
        self.assertEqual((trits.tolist(), scales.tolist()), ([[0.0, 1.0, 0.0, -1.0]], [1.0]))

    def test_mask_of_quantized_weights_differs(self):
        latent, quantized = (layer(Rule(pattern=(2, 4), mask_from=source)).mask() for source in ("latent", "quantized"))
        self.assertTrue((latent != quantized).any())
        self.assertTrue((quantized.unflatten(-1, (-1, 4)).sum(-1) == 2).all())


class Product(unittest.TestCase):
    def test_is_the_integer_product(self):
        linear = layer(Rule(pattern=(2, 4)))
        x = torch.randn(5, 48)
        integers, factor = quantize(x)
        self.assertEqual(integers.abs().amax(-1).tolist(), [127.0] * 5)
        trits, scales = ternarize(linear.weight, linear.parts, linear.rule)
        exact = (integers.long() @ trits.long().t()).float() * (scales / factor)
        self.assertTrue(torch.equal(linear(x), exact))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            self.assertLess((linear(x).float() - exact).abs().max().item(), 0.02 * exact.abs().max().item())

    def gradients(self, rule: Rule) -> tuple[SparseBitLinear, torch.Tensor, torch.Tensor, torch.Tensor]:
        linear = layer(rule)
        x = torch.randn(5, 48, requires_grad=True)
        up = torch.randn(5, 18)
        (linear(x) * up).sum().backward()
        return linear, x, up, linear.weight.grad

    def test_gradients_pass_through_both_roundings_and_the_mask(self):
        linear, x, up, grad = self.gradients(Rule(pattern=(2, 4)))
        integers, factor = quantize(x.detach())
        trits, scales = ternarize(linear.weight, linear.parts, linear.rule)
        torch.testing.assert_close(grad, up.t() @ (integers / factor))
        torch.testing.assert_close(x.grad, up @ (trits * scales.unsqueeze(1)))
        self.assertTrue((grad[~linear.mask()] != 0).all())

    def test_the_ablation_gives_masked_weights_no_gradient(self):
        for ternary in (True, False):
            dense, masked = (self.gradients(Rule(ternary, (2, 4), masked_gradient=passes)) for passes in (True, False))
            mask = masked[0].mask()
            torch.testing.assert_close(masked[3], dense[3] * mask)

    def test_the_baseline_masks_and_does_not_quantize(self):
        linear, x, up, grad = self.gradients(Rule(False, (2, 4)))
        masked = linear.weight.detach() * linear.mask()
        torch.testing.assert_close(linear(x.detach()), x.detach() @ masked.t())
        torch.testing.assert_close(grad, up.t() @ x.detach())


class Float64(unittest.TestCase):
    def test_a_model_in_float64_computes_in_it_throughout(self):
        for rule in (Rule(True, (2, 4)), Rule(False, (2, 4))):
            torch.manual_seed(2)
            model = Model(Shape(vocab=512, hidden=64, intermediate=128, layers=1, context=16), rule)
            tokens = torch.arange(16).unsqueeze(0)
            narrow, wide = model(tokens), model.double()(tokens)
            self.assertEqual(wide.dtype, torch.float64)
            # The same model, to the last digits of float32; a step in float32 would leave only so many.
            self.assertLess((wide - narrow).abs().max().item(), 1e-2)
            shifted = copy.deepcopy(model)
            with torch.no_grad():
                shifted.tok_embeddings.weight.mul_(1 + 1e-12)
            self.assertNotEqual((shifted(tokens) - wide).abs().max().item(), 0.0)


if __name__ == "__main__":
    unittest.main()
