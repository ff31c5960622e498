//! The `sbnc` command. Everything it does is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    sbnc::cli::main()
}
