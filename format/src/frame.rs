//! zstd frames of a known size: the only compression in the format.
//!
//! A frame is decoded into exactly the bytes it was declared to hold; one that says otherwise is refused before anything is decoded.

use zstd::zstd_safe;

/// First bytes of a frame of data. Skippable frames begin otherwise and hold bytes that decode to nothing.
const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// Decodes one frame that holds exactly `raw` bytes, or says what is wrong with it.
pub(crate) fn decode(stored: &[u8], raw: usize) -> Result<Vec<u8>, String> {
    if !stored.starts_with(&MAGIC) {
        return Err("no zstd frame".to_owned());
    }
    let declared = zstd_safe::get_frame_content_size(stored).map_err(|_| "no zstd frame".to_owned())?;
    match declared {
        Some(size) if size == raw as u64 => {}
        Some(size) => return Err(format!("a frame that declares {size} bytes")),
        None => return Err("a frame that does not declare its size".to_owned()),
    }
    if zstd_safe::get_dict_id_from_frame(stored).is_some() {
        return Err("a frame that needs a dictionary".to_owned());
    }
    let end = zstd_safe::find_frame_compressed_size(stored).map_err(|e| zstd_safe::get_error_name(e).to_owned())?;
    if end != stored.len() {
        return Err(format!("a frame of {end} bytes in {}", stored.len()));
    }
    let decoded = zstd::bulk::decompress(stored, raw).map_err(|e| format!("a damaged frame: {e}"))?;
    if decoded.len() != raw {
        return Err(format!("{} bytes", decoded.len()));
    }
    Ok(decoded)
}

/// One frame of `raw` that declares its size.
#[cfg(feature = "writer")]
pub(crate) fn encode(raw: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(raw, level)
}
