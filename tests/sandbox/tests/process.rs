//! The process: its arguments, its ready line, and its end.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    fs,
    io::Read,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{Sandbox, program, ready_line};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn what_prevents_the_start_is_named_on_stderr() {
    let sandbox = Sandbox::start(&[]);
    let port = sandbox.address("http").port().to_string();
    for (arguments, code, part) in [
        (["--fault", "nope"], 2, "nope"),
        (["--http-port", &port], 1, &*port),
        (["--ca-file", "/no/such.pem"], 1, "/no/such.pem"),
    ] {
        let output = program(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains(part), "{arguments:?}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    for argument in ["--help", "--version"] {
        let output = program(&[argument]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        assert!(String::from_utf8(output.stdout).unwrap().starts_with("spike-auth-sandbox"));
    }
}

#[test]
fn it_ends_on_sigterm_and_on_sigint_and_removes_its_private_directory() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut sandbox = Sandbox::start(&[]);
        let directory = Path::new(sandbox.text("ca_file")).parent().unwrap().to_owned();
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        send_signal(signal, &sandbox.child);
        assert_eq!(sandbox.child.wait().unwrap().code(), Some(0), "{signal:?}");
        assert!(!directory.exists());
    }
}

fn send_signal(signal: Signal, child: &Child) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn it_ends_with_its_parent() {
    // The shell is the parent that is killed; `exit 0` keeps it from becoming the sandbox.
    let script = format!("{:?}; exit 0", env!("CARGO_BIN_EXE_spike-auth-sandbox"));
    let mut shell =
        Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let ready = ready_line(&mut shell);
    let directory = Path::new(ready["ca_file"].as_str().unwrap()).parent().unwrap().to_owned();
    assert!(directory.is_dir());
    shell.kill().unwrap();
    shell.wait().unwrap();
    for _ in 0..100 {
        if !directory.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the sandbox goes on without its parent");
}

#[test]
fn nothing_is_written_except_the_ready_line() {
    let mut child = program(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut text = String::new();
    let mut byte = [0];
    while output.read(&mut byte).unwrap() == 1 {
        text.push(byte[0].into());
        if byte[0] == b'\n' {
            misuse(&text);
            send_signal(Signal::TERM, &child);
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(text.lines().count(), 1);
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

/// Provokes complaints.
fn misuse(line: &str) {
    let ready: serde_json::Value = serde_json::from_str(line).unwrap();
    for member in ["http", "https", "proxy"] {
        let mut client = common::Client::connect(common::address(ready[member].as_str().unwrap()));
        client.send("\0not HTTP, not TLS\r\n\r\n");
        client.read_all(Duration::from_millis(200));
    }
    let mut client = common::Client::connect(common::address(ready["http"].as_str().unwrap()));
    client.exchange("fault.echo");
}

#[test]
fn a_given_ca_file_is_written_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let sandbox = Sandbox::start(&["--ca-file", path.to_str().unwrap()]);
    assert_eq!(sandbox.text("ca_file"), path.to_str().unwrap());
    drop(sandbox);
    assert!(fs::read_to_string(path).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
}
