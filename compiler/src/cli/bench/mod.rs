//! `sbnc bench`: tokens a second beside what the machine could do, both measured in one run.
//!
//! Prefill runs a prompt of random tokens into an empty context; decode runs single tokens from an empty context on. Medians of some repeats are told, after
//! one that is not counted. Ceilings are measured before and after, and the higher one counts: what else runs on the machine only lowers them.

mod ceilings;
mod shape;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use sbnc_format::Pattern;
use sbnc_runtime::sampling::random::Random;
use sbnc_runtime::{Model, OnDevice, Phase, Profile, Session, SessionOptions};
use serde_json::{Map, Value, json};

use self::ceilings::Ceilings;
use self::shape::{Shape, Weights};
use super::arguments::EncodingChoice;
use super::execution::Place;
use super::run::parse_positive;
use super::terminal::{emit, emit_json, progress_steps, table};
use crate::error::{Error, Exit, Result};
use crate::numbers::{bytes, percent};

#[derive(Args, Clone, Debug)]
pub(crate) struct Bench {
    /// An .sbnc file
    #[arg(required_unless_present = "shape", conflicts_with_all = ["shape", "nm", "encoding", "head"])]
    file: Option<PathBuf>,
    /// Random weights of this shape instead of a file
    #[arg(long, value_enum)]
    shape: Option<Shape>,
    /// With --shape: sparsity, none or N:M
    #[arg(long, default_value = "2:4", value_name = "none|N:M")]
    nm: Pattern,
    /// With --shape: how trits are stored; auto: as compile chooses
    #[arg(long, value_enum, default_value = "auto")]
    encoding: EncodingChoice,
    /// With --shape: how the output head is stored, with the embedding where both are one
    #[arg(long, value_enum, default_value = "bf16")]
    head: Head,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 512)]
    prefill: usize,
    /// Single tokens to run
    #[arg(long, value_name = "N", default_value_t = 64)]
    decode: usize,
    /// Sequences that run single tokens side by side
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_positive)]
    batch: usize,
    /// Times that each is measured
    #[arg(long, value_name = "N", default_value = "3", value_parser = parse_positive)]
    repeat: usize,
    #[command(flatten)]
    place: Place,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Head {
    Bf16,
    Int8,
}

/// Of a key or value in the cache of the session that is measured.
const CACHE_BYTES: u64 = 2;

/// One kind of work, measured.
struct Measured {
    tokens: usize,
    /// Seconds of each repeat, sorted.
    seconds: Vec<f64>,
    /// Of all repeats.
    profile: Profile,
    bytes_per_token: f64,
    ops_per_token: f64,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<()> {
        if self.prefill == 0 && self.decode == 0 {
            return Err(Error::new(Exit::Usage, "nothing to measure: --prefill and --decode are both 0"));
        }
        let started = Instant::now();
        let options = self.place.options();
        let model = match (&self.file, self.shape) {
            (Some(file), _) => options.open(file)?,
            (None, Some(shape)) => {
                let (pattern, encoding, head) = (self.nm, self.encoding, self.head);
                crate::interrupt::deferred(|| shape.open(Weights { pattern, encoding, head }, &options))?
            }
            (None, None) => return Err(Error::new(Exit::Usage, "expected an .sbnc file or --shape")),
        };
        let open_seconds = started.elapsed().as_secs_f64();
        let context = self.prefill.max(self.decode + 1).max(2);
        let options = SessionOptions { context, sequences: self.batch, ..SessionOptions::default() };
        let mut session = model.session(&options)?;
        let chunk = session.chunk();
        crate::interrupt::raise(session.interrupt().clone());
        let bar = progress_steps(2 * (self.repeat as u64 + 1) + 2, "measuring");
        // What a processor can do says nothing of a model that runs on a GPU.
        let ceilings =
            || model.gpu().is_none().then(|| Ceilings::measure(model.platform(), model.threads())).transpose();
        let before = ceilings()?;
        bar.inc(1);
        let mut measure = |tokens: usize, work: Work, cost: (f64, f64)| {
            let measured = self.measure(&mut session, tokens, work, cost, &|| bar.inc(1));
            (tokens > 0).then_some(measured).transpose()
        };
        let prefill = measure(self.prefill, prefill, self.prefill_cost(&model, chunk))?;
        let decode = measure(self.decode, decode, self.decode_cost(&model))?;
        let ceilings = before.zip(ceilings()?).map(|(before, after)| Ceilings {
            bytes_per_s: before.bytes_per_s.max(after.bytes_per_s),
            ops_per_s: before.ops_per_s.max(after.ops_per_s),
        });
        bar.finish_and_clear();
        let what = match (&self.file, self.shape) {
            (Some(file), _) => file.display().to_string(),
            (None, shape) => format!(
                "{} {}, random weights",
                shape.map_or_else(String::new, Shape::name),
                if self.nm.is_dense() { "dense".to_owned() } else { self.nm.to_string() }
            ),
        };
        if self.json {
            return emit_json(&json(
                &what,
                &model,
                self.batch,
                open_seconds,
                ceilings,
                prefill.as_ref(),
                decode.as_ref(),
            ));
        }
        emit(&text(&what, &model, ceilings, prefill.as_ref(), decode.as_ref()))
    }

    fn measure(
        &self,
        session: &mut Session,
        tokens: usize,
        work: Work,
        (bytes_per_token, ops_per_token): (f64, f64),
        step: &dyn Fn(),
    ) -> Result<Measured> {
        let vocab = session.model().config().vocab as u64;
        let mut random = Random::new(7);
        let ids: Vec<u32> = (0..tokens).map(|_| (random.next_u64() % vocab) as u32).collect();
        let mut seconds = Vec::new();
        for repeat in 0..=self.repeat {
            (0..self.batch).for_each(|sequence| session.truncate(sequence, 0));
            if repeat == 1 {
                session.take_profile();
            }
            let start = Instant::now();
            if tokens > 0 {
                work(session, &ids, self.batch)?;
            }
            if repeat > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
            step();
        }
        seconds.sort_by(f64::total_cmp);
        // The prompt is one sequence's.
        let tokens = if std::ptr::fn_addr_eq(work, decode as Work) { tokens * self.batch } else { tokens };
        Ok(Measured { tokens, seconds, profile: session.take_profile(), bytes_per_token, ops_per_token })
    }

    /// Bytes and operations of a token of the prompt: weights are read once for each chunk, the head once.
    fn prefill_cost(&self, model: &Model, chunk: usize) -> (f64, f64) {
        let cost = model.cost();
        let tokens = self.prefill.max(1) as f64;
        let passes = self.prefill.div_ceil(chunk) as f64;
        let weights = passes * cost.weight_bytes as f64 + cost.head_bytes as f64;
        // Each pass reads all keys and values so far: half of them on average.
        let cache = passes * (CACHE_BYTES * cost.cache_values_per_position) as f64 * tokens / 2.0;
        ((weights + cache) / tokens, cost.weight_ops as f64 + cost.head_ops as f64 / tokens)
    }

    fn decode_cost(&self, model: &Model) -> (f64, f64) {
        let cost = model.cost();
        let cache = (CACHE_BYTES * cost.cache_values_per_position) as f64 * (self.decode as f64 + 1.0) / 2.0;
        (
            (cost.weight_bytes + cost.head_bytes) as f64 / self.batch as f64 + cache,
            (cost.weight_ops + cost.head_ops) as f64,
        )
    }
}

/// Runs tokens with some sequences.
type Work = fn(&mut Session, &[u32], usize) -> Result<()>;

fn prefill(session: &mut Session, tokens: &[u32], _batch: usize) -> Result<()> {
    session.forward(tokens)?;
    Ok(())
}

/// Runs as many steps as there are tokens. A device that chooses tokens by itself goes on with those, as it would when it generates.
fn decode(session: &mut Session, tokens: &[u32], batch: usize) -> Result<()> {
    let most = session.most_decoded().min(64);
    if most == 0 {
        for token in tokens {
            let work: Vec<(usize, &[u32])> =
                (0..batch).map(|sequence| (sequence, std::slice::from_ref(token))).collect();
            session.batch(&work)?;
        }
        return Ok(());
    }
    let mut next: Vec<(usize, u32)> = (0..batch).map(|sequence| (sequence, tokens[sequence % tokens.len()])).collect();
    let mut left = tokens.len();
    while left > 0 {
        let count = left.min(most);
        let chosen = session.decode(&next, &vec![OnDevice::GREEDY; batch], count)?.unwrap_or_default();
        next.iter_mut().zip(chosen.chunks_exact(count)).for_each(|(next, chosen)| next.1 = chosen[count - 1]);
        left -= count;
    }
    Ok(())
}

impl Measured {
    /// Tokens a second: of the median repeat, of the slowest and of the fastest.
    fn rates(&self) -> [f64; 3] {
        let [median, slowest, fastest] = [self.seconds.len() / 2, self.seconds.len() - 1, 0];
        [median, slowest, fastest].map(|i| self.tokens as f64 / self.seconds[i])
    }

    /// Seconds of each phase in a token.
    fn phases(&self) -> impl Iterator<Item = (Phase, f64)> {
        let tokens = (self.tokens * self.seconds.len()) as f64;
        Phase::ALL.into_iter().map(move |phase| (phase, self.profile.of(phase).as_secs_f64() / tokens))
    }

    /// Shares of what memory and arithmetic could do, where that was measured.
    fn shares(&self, ceilings: Option<Ceilings>) -> [Option<f64>; 2] {
        let rate = self.rates()[0];
        [
            ceilings.map(|c| rate * self.bytes_per_token / c.bytes_per_s),
            ceilings.map(|c| rate * self.ops_per_token / c.ops_per_s),
        ]
    }

    fn json(&self, ceilings: Option<Ceilings>) -> Value {
        let [rate, slowest, fastest] = self.rates();
        let [of_bandwidth, of_ops] = self.shares(ceilings);
        let phases: Map<String, Value> =
            self.phases().map(|(phase, seconds)| (phase.name().to_owned(), (1e6 * seconds).into())).collect();
        json!({
            "tokens": self.tokens,
            "seconds": self.seconds,
            "tokens_per_s": rate,
            "tokens_per_s_min": slowest,
            "tokens_per_s_max": fastest,
            "bytes_per_token": self.bytes_per_token,
            "ops_per_token": self.ops_per_token,
            "share_of_bandwidth": of_bandwidth,
            "share_of_ops": of_ops,
            "microseconds_per_token": phases,
        })
    }
}

fn json(
    what: &str,
    model: &Model,
    batch: usize,
    open_seconds: f64,
    ceilings: Option<Ceilings>,
    prefill: Option<&Measured>,
    decode: Option<&Measured>,
) -> Value {
    json!({
        "model": what,
        "root": model.root().to_string(),
        "device": if model.gpu().is_some() { "cuda" } else { "cpu" },
        "gpu": model.gpu(),
        "batch": batch,
        "platform": model.platform().isa().name(),
        "threads": model.threads(),
        "open_seconds": open_seconds,
        "bandwidth_bytes_per_s": ceilings.map(|c| c.bytes_per_s),
        "int8_ops_per_s": ceilings.map(|c| c.ops_per_s),
        "prefill": prefill.map(|m| m.json(ceilings)),
        "decode": decode.map(|m| m.json(ceilings)),
    })
}

fn text(
    what: &str,
    model: &Model,
    ceilings: Option<Ceilings>,
    prefill: Option<&Measured>,
    decode: Option<&Measured>,
) -> String {
    let measured: Vec<(&str, &Measured)> =
        [("prefill", prefill), ("decode", decode)].into_iter().filter_map(|(n, m)| Some((n, m?))).collect();
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|(name, m)| {
            let [rate, slowest, fastest] = m.rates();
            let [of_bandwidth, of_ops] = m.shares(ceilings);
            vec![
                (*name).to_owned(),
                m.tokens.to_string(),
                format!("{rate:.2}"),
                format!("{slowest:.2}–{fastest:.2}"),
                bytes(m.bytes_per_token as u64),
                format!("{:.3} G", m.ops_per_token / 1e9),
                of_bandwidth.map_or_else(|| "–".to_owned(), |share| percent(share, 1.0)),
                of_ops.map_or_else(|| "–".to_owned(), |share| percent(share, 1.0)),
            ]
        })
        .collect();
    let head = ["", "tokens", "tokens/s", "range", "bytes/token", "ops/token", "of bandwidth", "of int8 ops"];
    let mut phase_head = vec!["µs/token"];
    phase_head.extend(Phase::ALL.map(Phase::name));
    let phase_rows: Vec<Vec<String>> = measured
        .iter()
        .map(|(name, m)| {
            std::iter::once((*name).to_owned()).chain(m.phases().map(|(_, s)| format!("{:.1}", 1e6 * s))).collect()
        })
        .collect();
    let threads = model.threads();
    let plural = if threads == 1 { "" } else { "s" };
    let device = match (model.gpu(), ceilings) {
        (Some(gpu), _) => format!("gpu       {gpu}"),
        (None, None) => format!("cpu       {}, {threads} thread{plural}", model.platform().isa().name()),
        (None, Some(ceilings)) => format!(
            "cpu       {}, {threads} thread{plural}\nceilings  {}/s read, {:.2} TOPS of int8",
            model.platform().isa().name(),
            bytes(ceilings.bytes_per_s as u64),
            ceilings.ops_per_s / 1e12,
        ),
    };
    format!("model     {what}\n{device}\n\n{}\n{}", table(&head, &[0], &rows), table(&phase_head, &[0], &phase_rows))
}
