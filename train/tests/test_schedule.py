"""Rates, decay and rules over the steps."""

import unittest

from sbnc_train.linear import Rule
from sbnc_train.schedule import Schedule


def schedule(shape: str, **changes) -> Schedule:
    values = {"steps": 1000, "shape": shape, "peak": 1e-3, "last": 1e-5, "warmup": 100, "cooldown": 0.4, "decay": 0.1} | changes
    return Schedule(**values)


class Rates(unittest.TestCase):
    def test_cosine(self):
        rates = [schedule("cosine").learning_rate(step) for step in range(1001)]
        self.assertAlmostEqual(rates[99], 1e-3)
        self.assertAlmostEqual(rates[550], (1e-3 + 1e-5) / 2)
        self.assertAlmostEqual(rates[1000], 1e-5)
        self.assertEqual(rates[100:], sorted(rates[100:], reverse=True))

    def test_trapezoid_stays_until_it_cools_down(self):
        rates = [schedule("trapezoid").learning_rate(step) for step in range(1001)]
        self.assertEqual(set(rates[100:601]), {1e-3})
        self.assertAlmostEqual(rates[800], (1e-3 + 1e-5) / 2)
        self.assertAlmostEqual(rates[1000], 1e-5)

    def test_decay_ends(self):
        self.assertEqual([schedule("cosine").weight_decay(step) for step in (0, 499, 500, 999)], [0.1, 0.1, 0.0, 0.0])
        self.assertEqual([schedule("trapezoid").weight_decay(step) for step in (0, 599, 600)], [0.1, 0.1, 0.0])

    def test_dense_first(self):
        final = Rule(pattern=(2, 4), mask_from="quantized")
        both = schedule("cosine", dense_share=0.5)
        self.assertEqual(both.rule(499, final), Rule())
        self.assertEqual(both.rule(500, final), final)
        self.assertEqual(schedule("cosine").rule(0, final), final)


if __name__ == "__main__":
    unittest.main()
