//! The specification and the code say the same: constants and the numbers of rules.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sbnc_format::limits;

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Rows of the table of constants in SPEC §2: name and value.
fn constants(spec: &str) -> Vec<(String, String)> {
    let (_, table) = spec.split_once("| constant | value |").unwrap();
    table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            (cells[1].to_owned(), cells[2].to_owned())
        })
        .collect()
}

#[test]
fn constants_are_those_of_the_specification() {
    let hex = |bytes: [u8; 8]| bytes.map(|b| format!("{b:02X}")).join(" ");
    macro_rules! constants_of_code {
        ($($name:ident)*) => { [$((stringify!($name).to_owned(), limits::$name.to_string())),*] };
    }
    let mut code =
        vec![("MAGIC".to_owned(), hex(limits::MAGIC)), ("PACKED_MAGIC".to_owned(), hex(limits::PACKED_MAGIC))];
    code.extend(constants_of_code!(
        MAJOR PREFIX_BYTES SECTION_ENTRY_BYTES RECORD_BYTES SECTION_ALIGN TENSOR_ALIGN MAX_SECTIONS MAX_TENSORS
        MAX_NAME_BYTES MAX_RANK MAX_DIM MAX_ELEMENTS MAX_MANIFEST_BYTES MAX_MANIFEST_DEPTH MAX_FILES
        MAX_FILE_RAW_BYTES MAX_BYTES MAX_SCALE CHUNK_BYTES MAX_PACKED_RATIO
    ));
    assert_eq!(constants(&text("../spec/SPEC.md")), code);

    // And none is missing above.
    let source = text("src/limits.rs");
    let declared: Vec<_> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with("fn "))
        .collect();
    let compared: Vec<_> = code.iter().map(|c| c.0.as_str()).collect();
    assert_eq!(declared, compared);
}

/// Numbers of the form `SBNC-R012` that stand where a rule is stated.
fn stated_rules(spec: &str) -> BTreeSet<u16> {
    spec.split("* **SBNC-R").skip(1).map(|rest| rest[..3].parse().unwrap()).collect()
}

#[test]
fn every_rule_has_a_constant_and_every_constant_a_rule() {
    let spec = text("../spec/SPEC.md");
    let source = text("src/error.rs");
    let constants: Vec<u16> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(": u16 = "))
        .map(|(_, value)| value.trim_end_matches(';').parse().unwrap())
        .collect();
    let unique: BTreeSet<u16> = constants.iter().copied().collect();
    assert_eq!(unique.len(), constants.len(), "two constants of one rule");
    assert!(unique.len() > 60, "the source is read as intended");
    assert_eq!(unique, stated_rules(&spec));
}

/// A constant that no code names is a rule that nothing checks.
#[test]
fn every_rule_is_checked_somewhere() {
    let mut code = String::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for folder in [src.clone(), src.join("encoding")] {
        for path in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some()) {
            if !path.ends_with("error.rs") {
                code.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let source = text("src/error.rs");
    let unused: Vec<_> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub const ")?.split_once(": u16"))
        .map(|(name, _)| name)
        .filter(|name| !code.contains(&format!("rule::{name}")))
        .collect();
    assert_eq!(unused, Vec::<&str>::new());
}
