//! A stand-in for Spike's HMAC authentication endpoint on loopback that also misbehaves. See `--help`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod answer;
mod ca_file;
mod certificates;
mod connection;
mod control;
mod counters;
mod endpoint;
mod fault;
mod gzip;
mod help;
mod listeners;
mod options;
mod problem;
mod process;
mod proxy;
mod raw_listeners;
mod request;
mod sandbox;
mod script;
mod success;
mod token;
mod wire;

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use serde::Serialize;

use crate::{
    ca_file::CaFile,
    certificates::Identities,
    listeners::Addresses,
    options::{Command, Options},
    sandbox::Sandbox,
};

/// The usual exit code for bad arguments.
const USAGE: u8 = 2;

/// The one line on stdout.
#[derive(Serialize)]
struct Ready<'a> {
    #[serde(flatten)]
    addresses: &'a Addresses,
    ca_file: &'a str,
    application_id: &'a str,
    hmac_key: &'a str,
    pid: u32,
}

fn main() -> ExitCode {
    let outcome = match options::parse(lexopt::Parser::from_env()) {
        Ok(Command::Help) => print(&help::text()),
        Ok(Command::Version) => {
            print(concat!("spike-auth-sandbox ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        Ok(Command::Run(options)) => run(&options),
        Err(message) => {
            eprintln!("spike-auth-sandbox: {message}\nTry --help.");
            return ExitCode::from(USAGE);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("spike-auth-sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let parent = process::parent();
    process::raise_file_limit();
    let sandbox = Arc::new(Sandbox::new(options)?);
    let identities = Identities::make()?;
    let ca_file = CaFile::write(&identities.ca_pem, options.ca_file.as_deref())?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        // Before the ready line: its reader may send a signal at once.
        let end = process::End::listen(parent)?;
        let (addresses, _held) = listeners::open(&sandbox, options, &identities).await?;
        announce(options, &addresses, &ca_file)?;
        end.wait().await;
        Ok(())
    })
}

fn announce(
    options: &Options,
    addresses: &Addresses,
    ca_file: &CaFile,
) -> Result<(), Box<dyn Error>> {
    let ready = Ready {
        addresses,
        ca_file: ca_file.path.to_str().ok_or("the path of the CA file is not UTF-8")?,
        application_id: &options.application_id,
        hmac_key: &options.hmac_key,
        pid: std::process::id(),
    };
    print(&(serde_json::to_string(&ready)? + "\n"))
}

fn print(text: &str) -> Result<(), Box<dyn Error>> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}
