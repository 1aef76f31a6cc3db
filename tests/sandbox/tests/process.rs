//! The process itself: its arguments, its one line, and its end.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{Sandbox, program, ready_line};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn bad_arguments_are_named_and_exit_with_2() {
    for (arguments, part) in [
        (&["--nope"][..], "--nope"),
        (&["--fault", "nope"], "nope"),
        (&["--for-user", "bob"], "USER=SPEC"),
        (&["--http-port", "x"], "--http-port"),
    ] {
        let output = program(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        assert!(String::from_utf8(output.stderr).unwrap().contains(part));
    }
}

#[test]
fn a_port_that_is_taken_is_named_and_exits_with_1() {
    let sandbox = Sandbox::start(&[]);
    let port = sandbox.address("http").port().to_string();
    let output = program(&["--http-port", &port]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains(&port));
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
fn it_ends_on_sigterm_and_on_sigint_and_takes_its_directory_with_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut sandbox = Sandbox::start(&[]);
        let directory = Path::new(sandbox.text("ca_file")).parent().unwrap().to_owned();
        assert!(directory.is_dir());
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
    // The shell stays in between, and is the parent that is killed.
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
    panic!("it goes on without its parent");
}

#[test]
fn nothing_but_the_line_is_written() {
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

/// What could tempt a server to complain.
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
fn a_given_ca_file_is_written_and_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let sandbox = Sandbox::start(&["--ca-file", path.to_str().unwrap()]);
    assert_eq!(sandbox.text("ca_file"), path.to_str().unwrap());
    drop(sandbox);
    assert!(fs::read_to_string(path).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
}
