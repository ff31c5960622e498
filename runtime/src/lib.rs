//! What an application embeds: a model file becomes a slice of bytes that many processes can share.
//!
//! [`map::Map`] is the only way that files reach memory here; `sbnc_format::Sbnc::open` takes it from there:
//!
//! ```no_run
//! let map = sbnc_runtime::map::Map::open("model.sbnc".as_ref())?;
//! let model = sbnc_format::Sbnc::open(map)?;
//! println!("{} tensors, root {}", model.tensors().len(), model.root());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod error;
pub mod map;
pub mod sampling;
pub mod text;

pub use error::{Error, Kind, Result};
