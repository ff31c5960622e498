//! Writes the tiny model with a tokenizer to a folder: `cargo run -p sbnc-tests --example talker FOLDER`.

fn main() {
    let folder = std::env::args_os().nth(1).expect("a folder to write to");
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    sbnc_tests::talker::talker(folder.as_ref());
}
