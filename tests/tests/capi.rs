//! The C interface as C programs meet it: the header is what the source says, and programs compiled against it run.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sbnc_tests::{finish, folder, library, run, talker, workspace};

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

/// Compiles a C program against header and library.
fn compile(source: &Path, program: &Path) {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I"]);
    command.arg(workspace().join("runtime/include")).arg(source).arg("-o").arg(program);
    let library = library();
    let folder = library.parent().unwrap();
    command.arg("-L").arg(folder).args(["-lsbnc_runtime", "-lm"]);
    let rpath = format!("-Wl,-rpath,{}", folder.display());
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
