//! Why the store cannot be used. Callers see it from `check_store` and `forget_shared` alone.

use super::wire::Reply;
use crate::error::{Error, ErrorKind};

fn unusable(what: &str, cure: &str) -> Error {
    Error::new(ErrorKind::Store, format!("The store cannot be used: {what}")).with_cure(cure)
}

pub(super) fn not_set() -> Error {
    unusable("none is set", "Set its URL, such as redis://localhost:6379.")
}

pub(super) fn malformed() -> Error {
    unusable(
        "its reply is not one of a Redis or Valkey",
        "Check the host and the port, and that nothing in between answers instead.",
    )
}

/// It answered with something else than the command asks for.
pub(super) fn unexpected(command: &str) -> Error {
    unusable(
        &format!("it gave a wrong reply to {command}"),
        "Check that it is a Redis or Valkey, and that nothing else writes keys of spike_auth.",
    )
}

/// A node of a cluster named another one in a way that cannot be followed.
pub(super) fn misled() -> Error {
    unusable(
        "a node of the cluster named another one without a usable host and port",
        "Check cluster-announce-ip, cluster-announce-hostname and cluster-preferred-endpoint-type.",
    )
}

pub(super) fn circle() -> Error {
    unusable(
        "the nodes of the cluster do not agree which one has a key",
        "Wait until slots are no longer moved. If it stays, see redis-cli --cluster check.",
    )
    .with_retryable(true)
}

pub(super) fn cluster_on_a_path() -> Error {
    unusable(
        "it is a node of a cluster, and the others cannot be reached over a Unix socket",
        "Use the URL of a node with redis:// or rediss://.",
    )
}

/// A failure of the connection to it.
pub(super) fn unreachable(error: &Error) -> Error {
    let what = match error.kind() {
        ErrorKind::Timeout => "it did not answer in time",
        _ => error.what(),
    };
    let what = what.trim_end_matches('.');
    unusable(
        what,
        "Check the store's URL, the network, and that the store is up. Calls go on without it.",
    )
    .with_retryable(true)
}

/// The reply to a command that it did not carry out. Shows no text of the server, which could repeat the
/// password.
pub(super) fn refused(command: &str, reply: Reply<'_>) -> Error {
    let Reply::Error(text) = reply else {
        return unexpected(command);
    };
    let code = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    let known = REFUSALS.iter().find(|(name, ..)| name.as_bytes() == code);
    let (name, cure, may_pass) = known.copied().unwrap_or((
        "an error",
        "Check that it is a Redis from 2.6 on, or a Valkey.",
        false,
    ));
    unusable(&format!("it answered {command} with {name}"), cure).with_retryable(may_pass)
}

/// Codes of error replies, what to do, and whether they pass.
#[rustfmt::skip] // one line per row
const REFUSALS: &[(&str, &str, bool)] = &[
    ("NOAUTH", "Put the user and the password into the store's URL.", false),
    ("WRONGPASS", "Check the user and the password in the store's URL.", false),
    ("NOPERM", "Allow the store's user +get +set +del +pttl +eval on ~spike_auth:1:*, and +select for another database than 0. A cluster needs +asking too.", false),
    ("LOADING", "It loads its data. Wait until it is up.", true),
    ("READONLY", "It is a replica. Use the URL of its primary.", false),
    ("OOM", "Its memory is full. Raise maxmemory, or set maxmemory-policy to allkeys-lru.", true),
    ("MISCONF", "It cannot write its data to its disk. See its log.", true),
    ("MASTERDOWN", "It is a replica without its primary. Use the URL of the primary.", true),
    ("NOREPLICAS", "It has too few replicas. See min-replicas-to-write in its settings.", true),
    ("BUSY", "A script runs there. Try again later.", true),
    ("CLUSTERDOWN", "The cluster is down. See CLUSTER INFO.", true),
    ("TRYAGAIN", "The cluster moves its slots. Try again later.", true),
    ("ERR", "Check the database in the store's URL, and that it is a Redis from 2.6 on, or a Valkey.", false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_command_and_the_cure_and_nothing_of_the_servers_text() {
        for (text, name, may_pass) in [
            ("NOAUTH Authentication required.", "GET with NOAUTH", false),
            ("LOADING Redis is loading hunter2", "GET with LOADING", true),
            ("hunter2 LOADING", "GET with an error", false),
            ("", "GET with an error", false),
        ] {
            let error = refused("GET", Reply::Error(text.as_bytes()));
            assert_eq!((error.kind(), error.retryable()), (ErrorKind::Store, may_pass), "{error}");
            assert!(error.message().contains(name) && !error.message().contains("hunter2"));
        }
        assert!(refused("GET", Reply::Nil).message().contains("wrong reply to GET"));
    }
}
