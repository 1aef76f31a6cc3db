//! The command line.

use std::{path::PathBuf, time::Duration};

use lexopt::{Arg, Parser, ValueExt};

use crate::fault::Spec;

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub application_id: String,
    pub hmac_key: String,
    pub http_port: u16,
    pub https_port: u16,
    pub fault: String,
    pub user_faults: Vec<(String, String)>,
    pub delay: Duration,
    pub token_lifetime: Option<i64>,
    pub fresh_tokens: bool,
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, PartialEq)]
pub enum Command {
    Run(Options),
    Help,
    Version,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            application_id: "9999".to_owned(),
            hmac_key: "HMAC_KEY_FROM_ADMIN_CONSOLE".to_owned(),
            http_port: 0,
            https_port: 0,
            fault: String::new(),
            user_faults: Vec::new(),
            delay: Duration::ZERO,
            token_lifetime: None,
            fresh_tokens: false,
            ca_file: None,
        }
    }
}

pub fn parse(mut arguments: Parser) -> Result<Command, String> {
    let mut options = Options::default();
    while let Some(argument) = arguments.next().map_err(text)? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Long("application-id") => {
                options.application_id = filled(&mut arguments, "--application-id")?
            }
            Arg::Long("hmac-key") => options.hmac_key = filled(&mut arguments, "--hmac-key")?,
            Arg::Long("http-port") => options.http_port = number(&mut arguments, "--http-port")?,
            Arg::Long("https-port") => options.https_port = number(&mut arguments, "--https-port")?,
            Arg::Long("fault") => options.fault = checked(filled(&mut arguments, "--fault")?)?,
            Arg::Long("for-user") => {
                options.user_faults.push(user_fault(&filled(&mut arguments, "--for-user")?)?)
            }
            Arg::Long("delay-ms") => {
                options.delay =
                    Duration::from_millis(number::<u32>(&mut arguments, "--delay-ms")?.into());
            }
            Arg::Long("token-lifetime") => options.token_lifetime = Some(lifetime(&mut arguments)?),
            Arg::Long("fresh-tokens") => options.fresh_tokens = true,
            Arg::Long("ca-file") => {
                options.ca_file = Some(filled(&mut arguments, "--ca-file")?.into())
            }
            other => return Err(text(other.unexpected())),
        }
    }
    Ok(Command::Run(options))
}

fn lifetime(arguments: &mut Parser) -> Result<i64, String> {
    // A century, so that adding it to the clock cannot overflow.
    match number(arguments, "--token-lifetime")? {
        seconds @ -3_155_760_000..=3_155_760_000 => Ok(seconds),
        _ => Err("--token-lifetime: give at most 3155760000 seconds".to_owned()),
    }
}

fn user_fault(pair: &str) -> Result<(String, String), String> {
    let (user, spec) =
        pair.split_once('=').ok_or("--for-user: write USER=SPEC, for example bob=status:503*2")?;
    Ok((user.to_owned(), checked(spec.to_owned())?))
}

fn checked(spec: String) -> Result<String, String> {
    Spec::parse(&spec)?;
    Ok(spec)
}

fn number<T: std::str::FromStr>(arguments: &mut Parser, name: &str) -> Result<T, String> {
    let value = filled(arguments, name)?;
    value.parse().map_err(|_| format!("{name}: '{value}' is not a number that fits"))
}

fn filled(arguments: &mut Parser, name: &str) -> Result<String, String> {
    let value = arguments.value().and_then(|value| value.string()).map_err(text)?;
    if value.is_empty() {
        return Err(format!("{name}: the value is empty"));
    }
    Ok(value)
}

fn text(error: lexopt::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<Command, String> {
        parse(Parser::from_args(arguments))
    }

    #[test]
    fn without_arguments_everything_has_its_documented_default() {
        assert_eq!(run(&[]), Ok(Command::Run(Options::default())));
    }

    #[test]
    fn every_option_is_read() {
        let line = "--application-id abc --hmac-key k --http-port 1 --https-port 2 --fault html --for-user a=empty \
                    --for-user b=status:503*2 --delay-ms 5 --token-lifetime 60 --fresh-tokens --ca-file ca.pem";
        let expected = Options {
            application_id: "abc".into(),
            hmac_key: "k".into(),
            http_port: 1,
            https_port: 2,
            fault: "html".into(),
            user_faults: vec![("a".into(), "empty".into()), ("b".into(), "status:503*2".into())],
            delay: Duration::from_millis(5),
            token_lifetime: Some(60),
            fresh_tokens: true,
            ca_file: Some("ca.pem".into()),
        };
        assert_eq!(run(&line.split_whitespace().collect::<Vec<_>>()), Ok(Command::Run(expected)));
        assert_eq!(run(&["--help"]), Ok(Command::Help));
        assert_eq!(run(&["-V"]), Ok(Command::Version));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: [(&[&str], &str); 7] = [
            (&["--nope"], "--nope"),
            (&["stray"], "stray"),
            (&["--http-port", "70000"], "--http-port"),
            (&["--fault", "nope"], "nope"),
            (&["--for-user", "bob"], "USER=SPEC"),
            (&["--hmac-key", ""], "--hmac-key"),
            (&["--token-lifetime"], "--token-lifetime"),
        ];
        for (arguments, part) in cases {
            let message = run(arguments).unwrap_err();
            assert!(message.contains(part), "{arguments:?}: {message}");
        }
    }
}
