//! What a file is compiled for, and how trits are stored for it where nothing else is asked for.

use sbnc_format::{Encoding, Order, Packing, Pattern};

/// The backend that a file is meant for. Every backend runs every file; this decides what suits it best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Any: what all backends run without repacking, in few bytes.
    #[default]
    Auto,
    /// A processor, whose speed at one token is that of reading the weights: the fewest bytes.
    Cpu,
    /// A GPU with sparse tensor cores: what they read directly.
    Cuda,
}

/// How trits of 1:4 and 2:4, of (M−2):M, and of all other patterns are stored.
type Row = [(Encoding, Order); 3];

/// The patterns of a [`Row`], for people.
const PATTERNS: [&str; 3] = ["1:4 and 2:4", "(M-2):M", "the rest"];

impl Target {
    /// All targets.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Cpu, Self::Cuda];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// The target with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// The table that everything here is read from.
    fn row(self) -> Row {
        use Encoding::{Nm6b, NmVi, T2, T5};
        use Order::{Fragments, Rows, Windows};
        match self {
            Self::Auto => [(NmVi, Fragments), (T5, Rows), (T5, Rows)],
            Self::Cpu => [(Nm6b, Rows), (T5, Rows), (T5, Rows)],
            Self::Cuda => [(NmVi, Fragments), (NmVi, Windows), (T2, Rows)],
        }
    }

    /// How trits of this pattern are stored.
    pub fn packing(self, pattern: Pattern) -> Packing {
        let [fours, windows, rest] = self.row();
        let (encoding, order) = if Encoding::Nm6b.allows_pattern(Order::Rows, pattern) {
            fours
        } else if Encoding::NmVi.allows_pattern(Order::Windows, pattern) {
            windows
        } else {
            rest
        };
        Packing { encoding, order, pattern }
    }

    /// The table's row in words.
    pub fn describe(self) -> String {
        let row = self.row();
        let rest = row[2];
        let named = row.into_iter().zip(PATTERNS);
        // What is stored like the rest is part of the rest.
        let texts = named.enumerate().filter(|&(i, (packing, _))| i == 2 || packing != rest);
        texts
            .map(|(_, (packing, patterns))| format!("{} for {patterns}", name_of(packing)))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// The name of an encoding with its order, where it has several.
pub(super) fn name_of((encoding, order): (Encoding, Order)) -> String {
    match order {
        Order::Rows => encoding.name().to_owned(),
        order => format!("{}/{}", encoding.name(), order.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pattern there is has a packing that can hold it, for every target.
    #[test]
    fn every_choice_is_possible() {
        let patterns = (2..=16).flat_map(|m| (1..m).filter_map(move |n| Pattern::new(n, m)));
        for pattern in patterns.chain([Pattern::DENSE]) {
            for target in Target::ALL {
                assert!(target.packing(pattern).is_possible(), "{pattern} for {}", target.name());
            }
        }
    }

    #[test]
    fn rows_read_as_sentences() {
        assert_eq!(Target::Auto.describe(), "nm-vi/fragments for 1:4 and 2:4, t5 for the rest");
        assert_eq!(
            Target::Cuda.describe(),
            "nm-vi/fragments for 1:4 and 2:4, nm-vi/windows for (M-2):M, t2 for the rest"
        );
    }
}
