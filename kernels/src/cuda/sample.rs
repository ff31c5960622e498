//! The next token of every sequence, chosen on the GPU, so that decoding need not wait for the host.

use super::abi::{self, SampleArgs};
use super::buffer::Buffer;
use super::dense::{Logits, fits};
use super::device::Device;
use super::error::Result;
use super::images;
use super::launch::{Grid, Stream};

/// How a sequence's tokens are chosen; the rules are those of the sampler for processors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 for the largest logit.
    pub temperature: f32,
    /// How many of the likeliest words are kept; 0 for all.
    pub top_k: usize,
    /// What share of the probability they have; 1 for all.
    pub top_p: f32,
    /// The least probability, relative to the likeliest; 0 for all.
    pub min_p: f32,
    /// What draws depend on.
    pub seed: u64,
    /// The position of the token that the first draw follows; each later one takes the next number of the generator.
    pub first: usize,
}

/// What choosing tokens needs on the GPU: settings of each sequence, and the tokens that were chosen.
#[derive(Debug)]
pub struct Chooser {
    settings: Buffer<abi::Sampling>,
    /// The token that follows position p of row r is at r · `len` + (p + 1) mod `len`.
    history: Buffer<u32>,
    len: usize,
    rows: usize,
}

impl Chooser {
    /// For `rows` sequences, whose last `len` tokens are kept.
    pub fn new(device: &Device, rows: usize, len: usize) -> Result<Self> {
        Ok(Self { settings: device.alloc(rows)?, history: device.alloc(rows * len)?, len, rows })
    }

    /// Sets how tokens are chosen, one setting for each row.
    pub fn set(&mut self, settings: &[Sampling], stream: &Stream) -> Result<()> {
        let settings: Vec<abi::Sampling> = settings
            .iter()
            .map(|s| abi::Sampling {
                inverse_temperature: if s.temperature > 0.0 { 1.0 / s.temperature } else { 0.0 },
                top_k: u32::try_from(s.top_k).unwrap_or(u32::MAX),
                top_p: s.top_p,
                min_p: s.min_p,
                seed_low: s.seed as u32,
                seed_high: (s.seed >> 32) as u32,
                first: s.first as u32,
                reserved: 0,
            })
            .collect();
        self.settings.write(&settings, stream)
    }

    /// Chooses a token for each of the first `rows` rows of logits, writes them to `tokens` and counts `positions` up.
    pub fn choose(
        &mut self,
        stream: &Stream,
        logits: &Logits,
        vocab: usize,
        rows: usize,
        tokens: &mut Buffer<u32>,
        positions: &mut Buffer<u32>,
    ) -> Result<()> {
        fits("settings", self.rows, rows)?;
        fits("logits", logits.values.len(), rows * vocab)?;
        fits("tokens", tokens.len(), rows)?;
        fits("positions", positions.len(), rows)?;
        let (best, best_row) = logits.best();
        let args = SampleArgs {
            logits: logits.values.address(),
            best,
            best_row,
            sampling: self.settings.address(),
            tokens: tokens.address(),
            positions: positions.address(),
            history: self.history.address(),
            vocab: vocab as u32,
            blocks: logits.blocks,
            history_len: self.len as u32,
            reserved: 0,
        };
        let device = stream.device();
        let kernel = device.kernel(&images::SAMPLE, "sample", 0)?;
        let grid = Grid { blocks: [rows as u32, 1, 1], threads: 1024, overlap: device.can_overlap(), cluster: 1 };
        // SAFETY: the kernel takes this struct, and all that it reads and writes is as long as rows and vocabulary say.
        unsafe { stream.launch(kernel, grid, &[&args]) }
    }

    /// The tokens that follow `count` positions from `position` on, of one row, when the stream has chosen them.
    pub fn chosen(&self, stream: &Stream, row: usize, position: usize, count: usize) -> Result<Vec<u32>> {
        let history = self.history.download(stream)?;
        Ok((position + 1..=position + count).map(|p| history[row * self.len + p % self.len]).collect())
    }
}
