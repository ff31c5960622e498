//! Writers that are killed, interrupted, out of room or without their source: the output is what it was, or new and whole; and who is asked to stop cleans up.
//!
//! `SBNC_FAULT_ROUNDS` is how many writers are killed (20; `cargo xtask faults` kills 200).
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sbnc_tests::{Output, command, finish, folder, names, sbnc, synthetic};
use tempfile::TempDir;

/// A file in the way of an output.
const OLD: &[u8] = b"what was there before";

/// One large checkpoint and what comes of it, shared by all tests: 200 MB take long enough to be killed.
struct Work {
    folder: TempDir,
    /// How long compiling takes.
    time: Duration,
}

impl Work {
    /// Kept while a test has it, and made again for one that comes later: what a static held would stay on the disk.
    fn get() -> Arc<Self> {
        static WORK: Mutex<Weak<Work>> = Mutex::new(Weak::new());
        let mut shared = WORK.lock().unwrap_or_else(PoisonError::into_inner);
        let work = shared.upgrade().unwrap_or_else(|| Arc::new(Self::make()));
        *shared = Arc::downgrade(&work);
        work
    }

    fn make() -> Self {
        // Building the binary must not count as compiling.
        sbnc();
        let folder = folder();
        synthetic(&folder.path().join("in.safetensors"), 8, 2560, 5120);
        let mut work = Self { folder, time: Duration::ZERO };
        let started = Instant::now();
        finish(&mut work.line("compile IN -o whole.sbnc", work.folder.path())).expect_code(0);
        work.time = started.elapsed();
        finish(&mut work.line("pack WHOLE -o whole.sbncz --level 3", work.folder.path())).expect_code(0);
        work
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A call, in `folder`, whose arguments are the words of `line`; IN, WHOLE and PACKED are the shared files.
    fn line(&self, line: &str, folder: &Path) -> Command {
        let word = |word: &str| match word {
            "IN" => self.path("in.safetensors").into_os_string(),
            "WHOLE" => self.path("whole.sbnc").into_os_string(),
            "PACKED" => self.path("whole.sbncz").into_os_string(),
            other => other.into(),
        };
        let mut command = command(line.split_whitespace().map(word));
        command.current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Commands that write `out`.
const WRITERS: [&str; 4] =
    ["compile IN -o out --nm 2:4", "export WHOLE -o out", "pack WHOLE -o out --level 19", "unpack PACKED -o out"];

fn temporary_files(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.contains(".sbnc-tmp-")).collect()
}

/// Waits until the writer has begun its temporary file; false if it ended before.
fn begun(child: &mut Child, folder: &Path) -> bool {
    while temporary_files(folder).is_empty() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    true
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The end of a child whose streams are pipes.
fn end(child: Child) -> Output {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A small generator: kills must fall elsewhere in every run, and the run must say where.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Self(now.as_nanos() as u64 | 1)
    }

    /// Between 0 and 1.
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[test]
fn a_killed_writer_leaves_the_old_file_or_a_whole_new_one() {
    let rounds = std::env::var("SBNC_FAULT_ROUNDS").map_or(20, |n| n.parse().expect("SBNC_FAULT_ROUNDS is a number"));
    let work = Work::get();
    let whole = fs::read(work.path("whole.sbnc")).unwrap();
    let mut random = Random::seeded();
    let (mut untouched, mut renewed) = (0, 0);
    for round in 0..rounds {
        let place = folder();
        let out = place.path().join("out.sbnc");
        let old = round % 2 == 0;
        if old {
            fs::write(&out, OLD).unwrap();
        }
        // Half of the kills fall around the end, where the file gets its name; other tests slow the writer down meanwhile.
        let share = if round % 4 < 2 { random.share() } else { 0.8 + 2.2 * random.share() };
        let delay = work.time.mul_f64(share);
        let mut child = work.line("compile IN -o out.sbnc", place.path()).spawn().unwrap();
        std::thread::sleep(delay);
        child.kill().unwrap();
        child.wait().unwrap();

        let context = format!("round {round}, killed after {delay:?}");
        match fs::read(&out) {
            Ok(bytes) if old && bytes == OLD => untouched += 1,
            Ok(bytes) => {
                assert!(bytes == whole, "{context}: {} bytes that are neither the old file nor the new", bytes.len());
                renewed += 1;
            }
            Err(e) => {
                assert!(!old && e.kind() == std::io::ErrorKind::NotFound, "{context}: {e}");
                untouched += 1;
            }
        }
        let others: Vec<_> = names(place.path()).into_iter().filter(|name| name != "out.sbnc").collect();
        assert!(
            others.len() <= 1 && others.iter().all(|name| name.starts_with(".out.sbnc.sbnc-tmp-")),
            "{context}: {others:?}"
        );
        // The next attempt must not mind what this one left.
        if round % 8 == 0 {
            finish(&mut work.line("compile IN -o out.sbnc", place.path())).expect_code(0);
            assert!(fs::read(&out).unwrap() == whole, "{context}: the next attempt");
        }
    }
    eprintln!("{rounds} kills: {untouched} before and {renewed} after the file got its name");
    assert!(untouched > 0, "no kill came before the end: make the checkpoint larger");
}

#[test]
fn an_interrupted_writer_cleans_up() {
    let work = Work::get();
    for line in WRITERS {
        let mut stopped = 0;
        for (signal, delay) in [(Signal::INT, 0), (Signal::INT, 20), (Signal::TERM, 5)] {
            let place = folder();
            fs::write(place.path().join("out"), OLD).unwrap();
            let mut child = work.line(line, place.path()).spawn().unwrap();
            assert!(begun(&mut child, place.path()), "{line}: ended before it could be interrupted");
            std::thread::sleep(Duration::from_millis(delay));
            let started = Instant::now();
            send(&child, signal);
            let output = end(child);
            assert!(started.elapsed() < Duration::from_secs(5), "{line}: took {:?} to stop", started.elapsed());
            assert_eq!(names(place.path()), ["out"], "{line}: {output:?}");
            let new = fs::read(place.path().join("out")).unwrap() != OLD;
            // The signal may come after the last moment to stop; then the file is whole and the exit code says so.
            assert_eq!(output.code, Some(if new { 0 } else { 130 }), "{line}: {output:?}");
            assert!(new || output.stderr.contains("interrupted"), "{line}: {output:?}");
            stopped += u32::from(!new);
        }
        assert!(stopped > 0, "{line}: no signal came in time");
    }
}

#[test]
fn a_source_that_is_cut_while_it_is_read_ends_the_work() {
    let work = Work::get();
    for line in ["compile source.safetensors -o out", "verify WHOLE --against source.safetensors"] {
        let place = folder();
        let source = place.path().join("source.safetensors");
        fs::copy(work.path("in.safetensors"), &source).unwrap();
        let source = fs::File::options().write(true).open(&source).unwrap();
        let child = work.line(line, place.path()).spawn().unwrap();
        std::thread::sleep(work.time / 4);
        source.set_len(1 << 20).unwrap();
        let output = end(child);
        // Noticed where the next tensor is read, or where a page was lost.
        assert!(matches!(output.code, Some(4 | 6)), "{line}: {output:?}");
        assert!(output.stderr.contains("changed"), "{line}: {output:?}");
        assert_eq!(names(place.path()), ["source.safetensors"], "{line}");
    }
}

#[test]
fn an_interrupted_reader_stops_at_once() {
    let work = Work::get();
    let place = folder();
    let mut stopped = 0;
    for delay in [5, 10, 20, 40, 60] {
        let child = work.line("verify WHOLE --against IN", place.path()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        send(&child, Signal::INT);
        let output = child.wait_with_output().unwrap();
        // Before the handler is in place, the signal itself ends the process.
        stopped += u32::from(output.status.code() == Some(130));
        assert!(matches!(output.status.code(), Some(0 | 130) | None), "{output:?}");
    }
    assert!(stopped > 0, "no signal was answered with 130");
}

#[test]
fn two_writers_of_one_file_both_finish() {
    let work = Work::get();
    let place = folder();
    let children: Vec<Child> =
        (0..2).map(|_| work.line("compile IN -o out.sbnc", place.path()).spawn().unwrap()).collect();
    for child in children {
        end(child).expect_code(0);
    }
    assert_eq!(names(place.path()), ["out.sbnc"]);
    assert!(fs::read(place.path().join("out.sbnc")).unwrap() == fs::read(work.path("whole.sbnc")).unwrap());
}

/// A call that cannot write all of its output must exit with 6, name the path, and leave the folder as it was.
#[track_caller]
fn assert_refused(output: &Output, line: &str, left: &[&str]) {
    assert_eq!(output.code, Some(6), "{line}: {output:?}");
    assert!(output.stderr.contains("out: cannot"), "{line}: the path must be named: {}", output.stderr);
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), left, "{line}: {output:?}");
}

#[test]
fn files_may_not_grow_beyond_the_limit_of_the_process() {
    let work = Work::get();
    for line in WRITERS {
        for existing in [false, true] {
            let place = folder();
            if existing {
                fs::write(place.path().join("out"), OLD).unwrap();
            }
            // The signal is ignored so that the limit shows as an error; without that the system ends the process.
            let script = "trap '' XFSZ; ulimit -f 2000; exec \"$@\"";
            let inner = work.line(line, place.path());
            let mut limited = Command::new("sh");
            limited.args(["-c", script, "sh"]).arg(inner.get_program()).args(inner.get_args());
            let output = finish(limited.current_dir(place.path()));
            assert_refused(&output, line, &[]);
            assert_eq!(names(place.path()), if existing { vec!["out"] } else { vec![] }, "{line}");
            if existing {
                assert_eq!(fs::read(place.path().join("out")).unwrap(), OLD, "{line}");
            }
        }
    }
}

/// Runs a call on a file system of its own, prepared by `mount`, with an old `out` on it. The listing of the file system follows on stdout.
fn on_own_file_system(line: &str, mount: &str) -> Option<Output> {
    let own = ["--mount", "--map-root-user"];
    let possible = Command::new("unshare").args(own).arg("true").output().is_ok_and(|o| o.status.success());
    if !possible {
        eprintln!("skipped: no mount namespace of its own");
        return None;
    }
    let work = Work::get();
    let place = folder();
    fs::write(place.path().join("old"), OLD).unwrap();
    fs::create_dir(place.path().join("disk")).unwrap();
    let script = format!(
        "{mount}; cd disk; set +e; \"$@\" >&2; code=$?; ls -A; cmp -s out ../old || echo 'out is not what it was'; exit $code"
    );
    let inner = work.line(line, place.path());
    let mut command = Command::new("unshare");
    command.args(own).args(["sh", "-ec", &script, "sh"]).arg(inner.get_program()).args(inner.get_args());
    Some(finish(command.current_dir(place.path())))
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    for line in WRITERS {
        for size in ["64k", "1m", "4m"] {
            let mount = format!("mount -t tmpfs -o size={size} tmpfs disk; cp old disk/out");
            let Some(output) = on_own_file_system(line, &mount) else { return };
            assert_refused(&output, &format!("{line} on {size}"), &["out"]);
            assert!(output.stderr.contains("No space left"), "{line}: {}", output.stderr);
        }
    }
}

#[test]
fn a_read_only_disk_leaves_what_was_there() {
    for line in WRITERS {
        let mount = "mount -t tmpfs tmpfs disk; cp old disk/out; mount -o remount,ro disk";
        let Some(output) = on_own_file_system(line, mount) else { return };
        assert_refused(&output, line, &["out"]);
        assert!(output.stderr.contains("Read-only"), "{line}: {}", output.stderr);
    }
}

#[test]
fn a_new_file_has_the_permissions_of_the_old_one() {
    use std::os::unix::fs::PermissionsExt;
    let work = Work::get();
    let place = folder();
    let out = place.path().join("out");
    fs::write(&out, OLD).unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(place.path().join("target"), OLD).unwrap();
    std::os::unix::fs::symlink("target", place.path().join("link")).unwrap();
    finish(&mut work.line("unpack PACKED -o out", place.path())).expect_code(0);
    finish(&mut work.line("unpack PACKED -o link", place.path())).expect_code(0);
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(place.path().join("link")).unwrap().is_symlink(), "a link must be written through");
    assert!(fs::read(place.path().join("target")).unwrap() == fs::read(work.path("whole.sbnc")).unwrap());
}
