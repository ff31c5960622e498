//! A file taken apart into its sections and put together again: for edits that change lengths, such as of the manifest.

use super::reseal::{entries, part, put, reseal};

const ALIGN: usize = 4096;

/// Prefix fields and sections of a file.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The first 96 bytes; sizes and root are put right when joined.
    pub prefix: [u8; 96],
    /// Kind, flags and bytes.
    pub sections: Vec<(u32, u32, Vec<u8>)>,
}

impl Parts {
    /// Takes a valid file apart.
    pub fn split(file: &[u8]) -> Self {
        let mut prefix = [0; 96];
        prefix.copy_from_slice(&file[..96]);
        let sections = entries(file)
            .iter()
            .map(|e| {
                let flags = file[e.at + 4];
                (e.kind as u32, u32::from(flags), part(file, e.offset, e.bytes).unwrap_or(&[]).to_vec())
            })
            .collect();
        Self { prefix, sections }
    }

    /// The bytes of the section of this kind.
    pub fn section(&mut self, kind: u32) -> &mut Vec<u8> {
        &mut self.sections.iter_mut().find(|s| s.0 == kind).expect("the file has the section").2
    }

    /// Lays the sections out and seals the file.
    pub fn join(&self) -> Vec<u8> {
        let header = 96 + 64 * self.sections.len();
        let mut file = self.prefix.to_vec();
        file.resize(header, 0);
        for (i, (kind, flags, bytes)) in self.sections.iter().enumerate() {
            let offset = file.len().next_multiple_of(ALIGN);
            file.resize(offset, 0);
            file.extend_from_slice(bytes);
            let at = 96 + 64 * i;
            put(&mut file, at, 4, u64::from(*kind));
            put(&mut file, at + 4, 4, u64::from(*flags));
            put(&mut file, at + 8, 8, offset as u64);
            put(&mut file, at + 16, 8, bytes.len() as u64);
        }
        let length = file.len() as u64;
        put(&mut file, 12, 4, header as u64);
        put(&mut file, 16, 8, length);
        put(&mut file, 48, 4, self.sections.len() as u64);
        reseal(&mut file);
        file
    }
}
