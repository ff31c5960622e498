//! BLAKE3 digests, and the digest of a tensor taken from blocks that were hashed independently.
//!
//! BLAKE3 is a tree, so blocks whose size is a power of two can be hashed by different threads, each at a moment when the block is in the cache
//! for another reason, and joined afterwards. The result is the plain digest of the whole.

use std::fmt;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// Bytes of a block: a power of two of whole BLAKE3 chunks, large enough to keep the widest hasher busy, small enough for a second-level cache.
pub(crate) const BLOCK_BYTES: usize = 256 << 10;

/// A BLAKE3 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl From<blake3::Hash> for Digest {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What hashing one block leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BlockHash {
    /// The whole input is this one block.
    Whole(Digest),
    /// One of several.
    Part(ChainingValue),
}

/// Hashes block `index` of an input of `total` bytes.
pub(crate) fn hash_block(block: &[u8], index: usize, total: usize) -> BlockHash {
    if total <= BLOCK_BYTES {
        return BlockHash::Whole(Digest::of(block));
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset((index * BLOCK_BYTES) as u64);
    hasher.update(block);
    BlockHash::Part(hasher.finalize_non_root())
}

/// The digest of an input from the hashes of its blocks, in order.
pub(crate) fn join(blocks: &[BlockHash]) -> Digest {
    let parts: Vec<ChainingValue> = blocks
        .iter()
        .filter_map(|block| match block {
            BlockHash::Whole(_) => None,
            BlockHash::Part(value) => Some(*value),
        })
        .collect();
    match (blocks, parts.as_slice()) {
        ([BlockHash::Whole(digest)], _) => *digest,
        (_, []) => Digest::of(&[]),
        (_, parts) => {
            let (left, right) = parts.split_at(left_of(parts.len()));
            merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).into()
        }
    }
}

fn subtree(parts: &[ChainingValue]) -> ChainingValue {
    if let [one] = parts {
        return *one;
    }
    let (left, right) = parts.split_at(left_of(parts.len()));
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}

/// Blocks in the left subtree: the largest power of two below `count`. All blocks but the last are full, so this is BLAKE3's own split.
fn left_of(count: usize) -> usize {
    count.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_blocks_equal_the_plain_digest() {
        for length in [
            0,
            1,
            1024,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            3 * BLOCK_BYTES,
            5 * BLOCK_BYTES + 77,
            8 * BLOCK_BYTES,
        ] {
            let input: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let blocks: Vec<_> =
                input.chunks(BLOCK_BYTES).enumerate().map(|(i, block)| hash_block(block, i, length)).collect();
            assert_eq!(join(&blocks), Digest::of(&input), "{length}");
        }
    }
}
