//! An open model: the file, what it holds, and where it will run. Sessions are made from it, and share it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sbnc_format::{Depth, Digest, Sbnc};
use sbnc_kernels::cpu::{Cpu, Platform, available_threads};

use crate::config::Config;
use crate::cpu::{CpuEngine, Size};
#[cfg(feature = "cuda")]
use crate::cuda::{CudaEngine, Gpu};
use crate::device::{Device, Engine};
use crate::error::{Error, Kind, Result};
use crate::plan::Plan;
use crate::sampling::{Sampling, recommended};
use crate::session::{CacheType, Session, SessionOptions};
use crate::storage::Storage;
use crate::tensor::File;
use crate::text::{Source, Tokenizer};
use crate::weights::Weights;

/// A model that is ready to run. Clones share everything.
///
/// ```no_run
/// use sbnc_runtime::{Model, SessionOptions};
///
/// let model = Model::open("model.sbnc")?;
/// let mut session = model.session(&SessionOptions::default())?;
/// let logits = session.forward(&[1, 5, 9])?;
/// assert_eq!(logits.len(), model.config().vocab);
/// # Ok::<(), sbnc_runtime::Error>(())
/// ```
#[derive(Clone)]
pub struct Model {
    loaded: Arc<Loaded>,
    cpu: Arc<Cpu>,
    /// Loaded when it is first asked for: a program that works with tokens does not wait for it.
    tokenizer: Arc<OnceLock<Result<Tokenizer>>>,
    accelerator: Accelerator,
}

/// The GPU that a model is on, or why it is on none.
#[derive(Clone)]
enum Accelerator {
    #[cfg(feature = "cuda")]
    Cuda(Arc<Gpu>),
    /// Nobody asked for one, or there is none.
    None,
    /// There is one, but the model cannot run there.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only looking for a GPU is refused one"))]
    Refused(Arc<Error>),
}

/// What all engines of a model read.
pub(crate) struct Loaded {
    pub(crate) file: File,
    pub(crate) config: Config,
    pub(crate) plan: Plan,
}

/// How to open a file; made by [`Model::options`].
///
/// ```no_run
/// use sbnc_runtime::{Check, Device, Model};
///
/// let model = Model::options().device(Device::Cpu).threads(2).check(Check::Digests).open("model.sbnc")?;
/// # Ok::<(), sbnc_runtime::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    device: Device,
    platform: Option<Platform>,
    threads: Option<usize>,
    read: bool,
    check: Check,
    tokenizer: Option<PathBuf>,
}

/// What is checked of a file before it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Check {
    /// The structure and the rules of every tensor's encoding: whatever the bytes, nothing confuses a kernel.
    #[default]
    Rules,
    /// Also the digest of every byte: the model is the one that was compiled.
    Digests,
}

impl Options {
    /// Where to run; [`Device::Auto`] unless stated.
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Which instructions of the processor to use; the best, or what the variable `SBNC_CPU` says, unless stated.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// How many threads compute; as many as the process may run unless stated.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Whether to map the file (the default) or to read it into memory: a map is shared between processes and loads as it is used; memory of our own does
    /// not change with the file, and is in huge pages where the system has them, from which a processor decodes faster than from a map in small ones.
    pub fn mmap(mut self, mmap: bool) -> Self {
        self.read = !mmap;
        self
    }

    /// What to check.
    pub fn check(mut self, check: Check) -> Self {
        self.check = check;
        self
    }

    /// A folder or file to take the tokenizer from, instead of the model: see [`Source::from_path`](crate::text::Source::from_path).
    pub fn tokenizer(mut self, path: impl Into<PathBuf>) -> Self {
        self.tokenizer = Some(path.into());
        self
    }

    /// Opens a model.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Model> {
        let path = path.as_ref();
        let file = self.file(path)?;
        let loaded = Arc::new(load(file).map_err(|e| e.in_file(path))?);
        let accelerator = self.accelerator(&loaded).map_err(|e| e.in_file(path))?;
        let tokenizer = Arc::new(OnceLock::new());
        let model = Model { loaded, cpu: Arc::new(self.cpu()?), accelerator, tokenizer };
        if let Some(path) = &self.tokenizer {
            let source = Source::from_path(path)?;
            let other = model.load_tokenizer(source).map_err(|e| e.in_file(path))?;
            model.tokenizer.get_or_init(|| Ok(other));
        }
        Ok(model)
    }

    /// Opens the weights of a file, whether or not it holds a model.
    pub fn open_weights(&self, path: impl AsRef<Path>) -> Result<Weights> {
        if self.device == Device::Cuda {
            let error = Error::new(Kind::Unsupported, "device", "the processor, for weights alone", "cuda");
            return Err(error.in_file(path.as_ref()));
        }
        Ok(Weights::new(self.file(path.as_ref())?, self.cpu()?))
    }

    /// Copies the model to a GPU: where that is what was asked for, or where there is one and the model fits it.
    #[cfg(feature = "cuda")]
    fn accelerator(&self, loaded: &Arc<Loaded>) -> Result<Accelerator> {
        match self.device {
            Device::Cpu => Ok(Accelerator::None),
            Device::Auto if !crate::cuda::is_there() => Ok(Accelerator::None),
            Device::Auto => Ok(match Gpu::new(loaded) {
                Ok(gpu) => Accelerator::Cuda(Arc::new(gpu)),
                Err(error) => Accelerator::Refused(Arc::new(error)),
            }),
            Device::Cuda => Ok(Accelerator::Cuda(Arc::new(Gpu::new(loaded)?))),
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn accelerator(&self, _loaded: &Arc<Loaded>) -> Result<Accelerator> {
        if self.device == Device::Cuda {
            let found = "cuda; this build runs on processors only";
            return Err(Error::new(Kind::Device, "device", "one that this build can use", found));
        }
        Ok(Accelerator::None)
    }

    fn file(&self, path: &Path) -> Result<File> {
        if cfg!(target_endian = "big") {
            let found = "one that stores the highest byte first";
            return Err(Error::new(Kind::Unsupported, "this machine", "a little-endian one", found));
        }
        let file = Sbnc::open(Storage::open(path, !self.read)?).map_err(|e| Error::format(&e).in_file(path))?;
        let decodable = file.require_decodable();
        let checked = decodable.and_then(|()| match self.check {
            Check::Rules => Ok(()),
            Check::Digests => file.verify(Depth::Stored, &|_| {}).result(),
        });
        checked.map_err(|e| Error::format(&e).in_file(path))?;
        Ok(file)
    }

    fn cpu(&self) -> Result<Cpu> {
        let platform = match self.platform {
            Some(platform) => platform,
            None => Platform::from_env().map_err(|e| Error::new(Kind::Device, e.to_string(), "", ""))?,
        };
        let threads = self.threads.unwrap_or_else(available_threads);
        if !(1..=MOST_THREADS).contains(&threads) {
            return Err(Error::new(Kind::Usage, "threads", format!("1 to {MOST_THREADS}"), threads.to_string()));
        }
        Cpu::new(platform, threads).map_err(|e| Error::new(Kind::Io, format!("cannot start threads: {e}"), "", ""))
    }
}

/// Threads that can be asked for.
const MOST_THREADS: usize = 1024;

fn load(file: File) -> Result<Loaded> {
    let Some(model) = &file.manifest().model else {
        let error = Error::new(Kind::Unsupported, "model", "a file that holds one", "weights alone");
        return Err(
            error.remedy("open it with Options::open_weights, or compile the checkpoint with its configuration")
        );
    };
    let config = Config::new(model)?;
    let plan = Plan::new(&file, model, &config)?;
    Ok(Loaded { config, plan, file })
}

impl Model {
    /// Opens the model at `path`, mapped, on the best device, with all threads.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::options().open(path)
    }

    /// The way to open a model otherwise.
    pub fn options() -> Options {
        Options::default()
    }

    /// The shape of the model.
    pub fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// A carried file, such as `tokenizer.json`, or `None` if the model has none of this name.
    pub fn carried(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.loaded.file.carried(name).map_err(|e| self.at(Error::format(&e)))
    }

    /// How the model's makers recommend to choose tokens: what the `generation_config.json` says that the model carries, greedily where it carries none.
    pub fn sampling(&self) -> Result<Sampling> {
        match self.carried(recommended::NAME)? {
            Some(json) => Sampling::recommended(&json).map_err(|e| self.at(e)),
            None => Ok(Sampling::greedy()),
        }
    }

    /// The tokenizer that the model carries, or that it was opened with. Fails with [`Kind::Unsupported`] where there is none that can be used.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let load = || {
            let source = Source::from_files(|name| self.carried(name))?;
            self.load_tokenizer(source).map_err(|e| self.at(e))
        };
        self.tokenizer.get_or_init(load).clone()
    }

    /// A tokenizer that fits this model.
    fn load_tokenizer(&self, source: Source) -> Result<Tokenizer> {
        let config = self.config();
        let (bos, eos) = (config.tokens.bos, config.tokens.eos.clone());
        Tokenizer::new(&Source { bos, eos, vocab: config.vocab, ..source })
    }

    /// A session: keys and values for some sequences, and everything else that running takes.
    pub fn session(&self, options: &SessionOptions) -> Result<Session> {
        Session::new(self, options).map_err(|e| self.at(e))
    }

    /// The file that was opened.
    pub fn path(&self) -> PathBuf {
        self.storage().path().to_owned()
    }

    /// The digest that names the file.
    pub fn root(&self) -> Digest {
        self.loaded.file.root()
    }

    /// What one token costs.
    pub fn cost(&self) -> Cost {
        let (file, plan, c) = (&self.loaded.file, &self.loaded.plan, &self.loaded.config);
        let weights = || plan.projections().flat_map(|p| &p.parts).map(|part| &part.weight);
        let macs: u64 = weights().map(|w| (w.rows * w.cols) as u64).sum();
        Cost {
            weight_bytes: weights().map(|w| w.bytes(file)).sum(),
            head_bytes: plan.head().bytes(file),
            cache_values_per_position: c.cache_values_per_token(),
            weight_ops: 2 * macs,
            head_ops: 2 * (c.vocab * c.hidden) as u64,
        }
    }

    /// The instructions in use.
    pub fn platform(&self) -> Platform {
        self.cpu.platform()
    }

    /// The threads in use.
    pub fn threads(&self) -> usize {
        self.cpu.pool().threads()
    }

    /// Where sessions of the model run: never [`Device::Auto`].
    pub fn device(&self) -> Device {
        match &self.accelerator {
            #[cfg(feature = "cuda")]
            Accelerator::Cuda(_) => Device::Cuda,
            Accelerator::None | Accelerator::Refused(_) => Device::Cpu,
        }
    }

    /// The GPU's name, if the model runs on one.
    pub fn gpu(&self) -> Option<&str> {
        match &self.accelerator {
            #[cfg(feature = "cuda")]
            Accelerator::Cuda(gpu) => Some(gpu.name()),
            Accelerator::None | Accelerator::Refused(_) => None,
        }
    }

    /// Why the model runs on the processor, if there is a GPU that it was meant for.
    pub fn why_not_gpu(&self) -> Option<&Error> {
        match &self.accelerator {
            Accelerator::Refused(error) => Some(error),
            _ => None,
        }
    }

    /// Tokens of a step that suit the device: enough to keep it busy, few enough to be interrupted.
    pub(crate) fn suitable_chunk(&self) -> usize {
        match self.device() {
            Device::Cuda => 4096,
            Device::Auto | Device::Cpu => 512,
        }
    }

    /// What runs a session.
    pub(crate) fn engine(&self, cache: CacheType, size: Size) -> Result<Box<dyn Engine>> {
        #[cfg(feature = "cuda")]
        if let Accelerator::Cuda(gpu) = &self.accelerator {
            if cache != CacheType::F16 {
                let error = Error::new(Kind::Unsupported, "cache", "f16, on a GPU", format!("{cache:?}"));
                return Err(error.remedy("run on the CPU (--device cpu)"));
            }
            return Ok(Box::new(CudaEngine::new(&self.loaded, gpu, size)?));
        }
        Ok(Box::new(CpuEngine::new(&self.loaded, &self.cpu, cache, size)?))
    }

    pub(crate) fn loaded(&self) -> &Arc<Loaded> {
        &self.loaded
    }

    pub(crate) fn storage(&self) -> &Storage {
        self.loaded.file.storage()
    }

    fn at(&self, error: Error) -> Error {
        error.in_file(self.storage().path())
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.storage().path();
        f.debug_struct("Model").field("path", &path).field("config", self.config()).finish_non_exhaustive()
    }
}

/// What it takes to run one token: the floor of every measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of the layers' weights.
    pub weight_bytes: u64,
    /// Bytes of the output head.
    pub head_bytes: u64,
    /// Numbers of keys and values for each position that attention looks at.
    pub cache_values_per_position: u64,
    /// Operations (a product and a sum are two) of the layers' weights, zeros counted.
    pub weight_ops: u64,
    /// Operations of the output head.
    pub head_ops: u64,
}
