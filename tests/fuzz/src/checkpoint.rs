//! Using a source checkpoint in every way that the compiler does. Containers are read from paths, so the bytes go to a file in memory first.

use std::path::PathBuf;

use sbnc::checkpoint::gguf::decode::I2sLayout;
use sbnc::checkpoint::{Access, Checkpoint, Options, Prefer};

/// Writes `bytes` to a file of this extension and reads all of it.
pub fn exercise(bytes: &[u8], extension: &str) {
    let folder = if cfg!(target_os = "linux") { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let path = folder.join(format!("sbnc-fuzz-{}.{extension}", std::process::id()));
    std::fs::write(&path, bytes).expect("a file can be written");
    let access = if bytes.len() % 2 == 0 { Access::Read } else { Access::Map };
    let opened = Checkpoint::open(&path, &Options { access, prefer: Prefer::Auto });
    std::fs::remove_file(&path).expect("and removed");
    let Ok(checkpoint) = opened else { return };
    let mut budget: u64 = 1 << 20;
    for entry in checkpoint.entries() {
        if entry.bytes > budget {
            continue;
        }
        budget -= entry.bytes;
        let whole = checkpoint.bytes(entry).expect("a listed range can be read");
        assert_eq!(whole.len() as u64, entry.bytes);
        let rows = entry.rows();
        if rows == 0 || rows.checked_mul(entry.cols()).is_none_or(|elements| elements > 1 << 22) {
            continue;
        }
        for layout in [None, Some(I2sLayout::X86), Some(I2sLayout::Arm), Some(I2sLayout::Rows4)] {
            if let Ok(decoded) = checkpoint.ternary_rows(entry, 0..rows, layout) {
                assert!(decoded.trits.iter().all(|t| (-1..=1).contains(t)));
            }
        }
    }
}

/// A zip archive as `torch.save` writes it: stored records under one folder.
pub fn torch_archive(pickle: &[u8], storages: usize) -> Vec<u8> {
    let storage = [0u8; 64];
    let mut records: Vec<(String, &[u8])> = vec![("archive/data.pkl".to_owned(), pickle)];
    records.extend((0..storages).map(|i| (format!("archive/data/{i}"), &storage[..])));
    records.push(("archive/version".to_owned(), b"3\n"));
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in &records {
        let offset = zip.len() as u32;
        let mut common = Vec::new(); // version, flags, method, time, date, crc, sizes, name, extra
        for half in [20u16, 0, 0, 0, 0] {
            common.extend(half.to_le_bytes());
        }
        for word in [0u32, bytes.len() as u32, bytes.len() as u32] {
            common.extend(word.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        zip.extend(b"PK\x03\x04");
        zip.extend(&common);
        zip.extend(name.as_bytes());
        zip.extend(*bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]); // comment, disk, attributes
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = zip.len() as u32;
    zip.extend(&directory);
    zip.extend(b"PK\x05\x06\0\0\0\0");
    for half in [records.len() as u16; 2] {
        zip.extend(half.to_le_bytes());
    }
    zip.extend((directory.len() as u32).to_le_bytes());
    zip.extend(start.to_le_bytes());
    zip.extend([0, 0]);
    zip
}

/// A safetensors file with this header and `zeros` bytes of data.
pub fn safetensors(header: &[u8], zeros: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.resize(file.len() + zeros, 0);
    file
}
