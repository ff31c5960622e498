//! The C interface as C programs meet it: the header is what the source says, and programs compiled against it run.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sbnc_tests::{finish, folder, run, talker, workspace};

#[test]
fn the_header_is_up_to_date() {
    let runtime = workspace().join("runtime");
    let config = cbindgen::Config::from_file(runtime.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in ["mod.rs", "handles.rs", "text.rs"] {
        builder = builder.with_src(runtime.join("src/capi").join(source));
    }
    let mut found = Vec::new();
    builder.generate().unwrap().write(&mut found);
    let path = runtime.join("include/sbnc.h");
    if std::env::var_os("SBNC_BLESS").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let expected = fs::read(&path).unwrap_or_default();
    assert!(expected == found, "{}: not what src/capi says; run this test with SBNC_BLESS=1", path.display());
    let text = String::from_utf8(found).unwrap();
    for source in ["mod.rs", "handles.rs", "text.rs"] {
        let source = fs::read_to_string(runtime.join("src/capi").join(source)).unwrap();
        let names = source.lines().filter_map(|l| l.split_once("extern \"C\" fn sbnc_")?.1.split_once('('));
        for (name, _) in names {
            assert!(text.contains(&format!("sbnc_{name}(")), "sbnc_{name} must be in the header");
        }
    }
}

/// The folder of the shared library, built once.
fn library() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let executable = std::env::current_exe().unwrap();
        let profile = executable.ancestors().nth(2).unwrap();
        let target = profile.parent().unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let name = profile.file_name().unwrap().to_str().unwrap();
        let mut command = Command::new(cargo);
        // The writer, because tests have built the format with it: only the runtime itself is built again.
        command.args(["rustc", "--quiet", "-p", "sbnc-runtime", "--lib", "--features", "capi,sbnc-format/writer"]);
        command.args(["--crate-type", "cdylib", "--profile", if name == "debug" { "dev" } else { name }]);
        // To `cargo rustc` the profile `test` means something else; with this one, `dev` takes over the crates that tests have built.
        command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "2");
        let built = command.arg("--target-dir").arg(target).current_dir(workspace()).status().unwrap();
        assert!(built.success(), "the library must build");
        profile.to_owned()
    })
}

/// Compiles a C program against header and library.
fn compile(source: &Path, program: &Path) {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I"]);
    command.arg(workspace().join("runtime/include")).arg(source).arg("-o").arg(program);
    command.arg("-L").arg(library()).args(["-lsbnc_runtime", "-lm"]);
    let rpath = format!("-Wl,-rpath,{}", library().display());
    let output = finish(command.arg(rpath));
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}

#[test]
fn c_programs_run() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("model")).unwrap();
    talker::talker(&path("model"));
    let arguments = [path("model"), "-o".into(), path("m.sbnc"), "--nm".into(), "2:4".into()];
    run([PathBuf::from("compile")].into_iter().chain(arguments)).expect_code(0);

    compile(&workspace().join("runtime/examples/c/generate.c"), &path("generate"));
    let said = finish(Command::new(path("generate")).arg(path("m.sbnc")).args(["hello and the", "20"]));
    let said = said.expect_code(0);
    let model = path("m.sbnc");
    let ours = run(["run", model.to_str().unwrap(), "--prompt", "hello and the", "--max-tokens", "20"]).expect_code(0);
    assert_eq!(said.stdout, ours.stdout, "C and the command must generate the same text");
    assert!(said.stderr.contains("20 tokens"), "{}", said.stderr);
    let missing = finish(Command::new(path("generate")).args(["absent.sbnc", "a"])).expect_code(6);
    assert!(missing.stderr.contains("absent.sbnc"), "{}", missing.stderr);

    compile(&workspace().join("tests/capi.c"), &path("capi"));
    let told = finish(Command::new(path("capi")).arg(&model));
    assert_eq!(told.code, Some(0), "{}{}", told.stdout, told.stderr);
}
