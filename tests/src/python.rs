//! An interpreter that has numpy.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// A Python 3 with numpy: `SBNC_PYTHON`, `python3`, or one made for the tests in the build folder. `None`, said on stderr, where there is none
/// and none can be made; on CI (where `CI` is set) that fails the test.
pub fn python() -> Option<PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON
        .get_or_init(|| {
            let found = find();
            match &found {
                Err(why) if std::env::var_os("CI").is_some() => panic!("no Python with numpy: {why}"),
                Err(why) => eprintln!("skipped: no Python with numpy: {why}"),
                Ok(_) => {}
            }
            found.ok()
        })
        .clone()
}

fn find() -> Result<PathBuf, String> {
    let system = PathBuf::from(std::env::var_os("SBNC_PYTHON").unwrap_or_else(|| "python3".into()));
    let environment = crate::scratch().join("numpy");
    let own = environment.join("bin/python3");
    for candidate in [&system, &own] {
        if has_numpy(candidate) {
            return Ok(candidate.clone());
        }
    }
    succeed(Command::new(&system).args(["-m", "venv"]).arg(&environment))?;
    succeed(Command::new(&own).args(["-m", "pip", "install", "--quiet", "numpy"]))?;
    if has_numpy(&own) { Ok(own) } else { Err(format!("{} cannot import numpy", own.display())) }
}

fn has_numpy(python: &PathBuf) -> bool {
    Command::new(python).args(["-c", "import numpy"]).output().is_ok_and(|o| o.status.success())
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let last = || String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", last())) }
}
