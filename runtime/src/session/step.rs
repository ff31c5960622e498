//! Cutting a call's work into steps of at most a chunk.

use std::ops::Range;

use super::Work;
use crate::device::Segment;

/// A step that is being put together.
pub(super) struct StepBuffer {
    pub(super) tokens: Vec<u32>,
    pub(super) segments: Vec<Segment>,
    /// Rows that end an entry of the call's work.
    pub(super) ends: Vec<usize>,
    /// Rows whose numbers are wanted.
    pub(super) wanted: Vec<usize>,
}

/// The next token to run.
pub(super) struct Cursor {
    pub(super) entry: usize,
    pub(super) token: usize,
}

impl StepBuffer {
    /// Takes the next tokens of the work, at most `chunk`.
    pub(super) fn fill(&mut self, work: &Work<'_>, cursor: &mut Cursor, sequences: &[Vec<u32>], chunk: usize) {
        self.tokens.clear();
        self.segments.clear();
        self.ends.clear();
        while self.tokens.len() < chunk && cursor.entry < work.len() {
            let (slot, tokens) = work[cursor.entry];
            let start = self.tokens.len();
            let take = (chunk - start).min(tokens.len() - cursor.token);
            self.tokens.extend_from_slice(&tokens[cursor.token..][..take]);
            let rows: Range<usize> = start..start + take;
            self.segments.push(Segment { rows, position: sequences[slot].len(), slot });
            cursor.token += take;
            if cursor.token == tokens.len() {
                self.ends.push(self.tokens.len() - 1);
                *cursor = Cursor { entry: cursor.entry + 1, token: 0 };
            }
        }
    }
}
