//! The nodes of a cluster: which one has a key, and what a reply says of another one.
//!
//! A store that is one server is a cluster of one node. Nothing is asked about the others: a node that does
//! not have a key names the one that has it, and that is remembered for the key's slot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Connection, Endpoint};
use super::errors;
use super::wire::{Replies, Reply};
use crate::config::{Host, host_and_port};
use crate::error::Error;

/// How often one operation goes on to a node that another one named.
pub(super) const HOPS_MAX: usize = 3;
/// After so many addresses all that were named are forgotten. They are bytes in `Nodes::slots`.
const NODES_MAX: usize = 64;
const SLOTS: usize = 16_384;
/// After so many failures in a row a node is skipped.
const FAILURES: u32 = 3;
/// How long, until one operation tries it again.
const SKIPPED: Duration = Duration::from_secs(5);

/// The address of another node, in an error reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    /// For this operation alone, which must say `ASKING`: the slot is being moved.
    pub(super) asks: bool,
    /// `None`: that of the node that said so.
    pub(super) host: Option<Host>,
    pub(super) port: u16,
}

impl Redirect {
    /// The first one among `count` replies. The others are of no use then: all commands are for one key.
    pub(super) fn among(replies: &Replies<'_>, count: usize) -> Result<Option<Self>, Error> {
        (0..count)
            .find_map(|index| Self::in_reply(replies.get(index)))
            .map(|found| found.ok_or_else(errors::misled))
            .transpose()
    }

    /// `Some(None)`: it names no address that can be used.
    pub(super) fn in_reply(reply: Reply<'_>) -> Option<Option<Self>> {
        let Reply::Error(text) = reply else {
            return None;
        };
        let text = text.strip_suffix(b" ").unwrap_or(text);
        let mut words = text.splitn(3, |byte| *byte == b' ');
        let asks = match words.next() {
            Some(b"MOVED") => false,
            Some(b"ASK") => true,
            _ => return None,
        };
        // The slot is not taken from the reply: that of the key is known.
        let address = words.nth(1).and_then(|word| std::str::from_utf8(word).ok());
        Some(address.and_then(|address| Self::parse(asks, address)))
    }

    /// `host:port`; the host may be empty, and an IPv6 address has no brackets. By the rule of the store's URL: no
    /// scheme, no path, no port 0.
    fn parse(asks: bool, address: &str) -> Option<Self> {
        let (host, digits) = address.rsplit_once(':')?;
        let full = match host {
            "" => format!("localhost:{digits}"),
            host if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{digits}"),
            _ => address.to_owned(),
        };
        let (parsed, port) = host_and_port(&full).ok()?;
        Some(Self { asks, host: (!host.is_empty()).then_some(parsed), port: port? })
    }
}

/// The nodes that are known. The first is the one that was configured.
pub(super) struct Nodes {
    all: Vec<Node>,
    /// The node of each slot by its index; 0: not known. Empty until a node names another.
    slots: Vec<u8>,
    /// Which node is asked for a key of an unknown slot: the configured one until it fails.
    entry: usize,
}

/// One server, with its breaker.
pub(super) struct Node {
    pub(super) endpoint: Arc<Endpoint>,
    /// The one used last is at the end and is used next.
    pub(super) idle: Vec<Connection>,
    /// Failures in a row.
    failures: u32,
    /// When one operation tries again a node that is skipped.
    probe_at: Option<Instant>,
}

impl Nodes {
    pub(super) fn new(configured: Endpoint) -> Self {
        Self { all: vec![Node::new(configured)], slots: Vec::new(), entry: 0 }
    }

    /// The node to ask for a key. One that failed last is not asked directly: others may know which one has its
    /// keys now.
    pub(super) fn of_key(&mut self, name: &[u8]) -> Option<&mut Node> {
        let known = match self.slots.as_slice() {
            [] => 0,
            slots => slots.get(slot_of(name)).copied().unwrap_or_default().into(),
        };
        let is_usable = known > 0 && self.all.get(known).is_some_and(|node| node.failures == 0);
        self.all.get_mut(if is_usable { known } else { self.entry })
    }

    pub(super) fn at(&mut self, endpoint: &Arc<Endpoint>) -> Option<&mut Node> {
        self.all.iter_mut().find(|node| Arc::ptr_eq(&node.endpoint, endpoint))
    }

    /// The node that `from` named for a key. Returns with it the nodes that were forgotten for it, to be dropped
    /// outside the lock.
    pub(super) fn named(
        &mut self,
        from: &Endpoint,
        name: &[u8],
        redirect: &Redirect,
    ) -> Result<(Option<&mut Node>, Vec<Node>), Error> {
        let (host, port) = (redirect.host.as_ref(), redirect.port);
        let known = self.all.iter().position(|node| node.endpoint.is_at(from, host, port));
        let mut forgotten = Vec::new();
        let index = match known {
            Some(index) => index,
            None => {
                let node = Node::new(from.other(host, port)?);
                if self.all.len() == NODES_MAX {
                    forgotten = self.all.split_off(1);
                    self.slots.clear();
                    self.entry = 0;
                }
                self.all.push(node);
                self.all.len() - 1
            }
        };
        if !redirect.asks {
            self.slots.resize(SLOTS, 0);
            if let Some(slot) = self.slots.get_mut(slot_of(name)) {
                *slot = index as u8; // NODES_MAX fits
            }
        }
        Ok((self.all.get_mut(index), forgotten))
    }

    /// The node failed. If it is the entry, the next of those that failed least is from now on.
    pub(super) fn note_failure(
        &mut self,
        endpoint: &Arc<Endpoint>,
        now: Instant,
    ) -> Vec<Connection> {
        let index = self.all.iter().position(|node| Arc::ptr_eq(&node.endpoint, endpoint));
        let node = index.and_then(|index| self.all.get_mut(index));
        let idle = node.map(|node| node.note_failure(now)).unwrap_or_default();
        if index == Some(self.entry) {
            let count = self.all.len();
            let next = (1..=count).map(|step| (self.entry + step) % count);
            let failures = |index: &usize| self.all.get(*index).map_or(0, |node| node.failures);
            self.entry = next.min_by_key(failures).unwrap_or_default();
        }
        idle
    }

    /// The connection that is idle the longest, if there are more than `max`, or if it is not used any more.
    pub(super) fn take_surplus(&mut self, max: usize, now: Instant) -> Option<Connection> {
        let count: usize = self.all.iter().map(|node| node.idle.len()).sum();
        let firsts = self.all.iter().enumerate();
        let firsts = firsts.filter_map(|(index, node)| Some((index, node.idle.first()?)));
        let (index, oldest) = firsts.min_by_key(|(_, first)| first.idle_since)?;
        let is_surplus = count > max || oldest.is_old(now);
        is_surplus.then(|| self.all.get_mut(index).map(|node| node.idle.remove(0))).flatten()
    }

    pub(super) fn take_idle(&mut self) -> Vec<Connection> {
        let mut idle = Vec::new();
        self.all.iter_mut().for_each(|node| idle.append(&mut node.idle));
        idle
    }
}

impl Node {
    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint: Arc::new(endpoint), idle: Vec::new(), failures: 0, probe_at: None }
    }

    /// Whether it is not skipped. If it is, the first operation after a while is the probe.
    fn admits(&mut self, now: Instant) -> bool {
        match self.probe_at {
            None => true,
            Some(probe_at) if now < probe_at => false,
            Some(_) => {
                self.probe_at = Some(now + SKIPPED);
                true
            }
        }
    }

    /// `always`: also if it is skipped.
    pub(super) fn admitted(&mut self, always: bool, now: Instant) -> Option<Arc<Endpoint>> {
        (always || self.admits(now)).then(|| Arc::clone(&self.endpoint))
    }

    pub(super) fn note_success(&mut self) {
        (self.failures, self.probe_at) = (0, None);
    }

    /// Returns the connections that rest: they are as old as the one that failed.
    fn note_failure(&mut self, now: Instant) -> Vec<Connection> {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.probe_at = Some(now + SKIPPED);
        }
        std::mem::take(&mut self.idle)
    }
}

/// CRC-16/XMODEM of a key without braces.
fn slot_of(name: &[u8]) -> usize {
    let crc = name.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x1021,
        })
    });
    usize::from(crc) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CaCertificates, StoreUrl, TlsRoots};

    const KEY: &[u8] = b"spike_auth:1:450d0e6b6b3abf9672f162a2b7a47bab";

    fn endpoint(url: &str) -> Endpoint {
        let address = StoreUrl::new(url.as_bytes()).unwrap().address;
        Endpoint::new(&address, TlsRoots::Bundled, &CaCertificates::default()).unwrap()
    }

    fn parsed(text: &str) -> Option<Option<Redirect>> {
        Redirect::in_reply(Reply::Error(text.as_bytes()))
    }

    fn moved(address: &str) -> Redirect {
        parsed(&format!("MOVED 1 {address}")).unwrap().unwrap()
    }

    /// The index of the node that is asked for the key.
    fn asked(nodes: &mut Nodes) -> usize {
        let endpoint = Arc::clone(&nodes.of_key(KEY).unwrap().endpoint);
        nodes.all.iter().position(|node| Arc::ptr_eq(&node.endpoint, &endpoint)).unwrap()
    }

    #[test]
    fn slots_are_those_of_redis() {
        // CRC16("123456789") is the check value of the specification; the key's is from CLUSTER KEYSLOT.
        assert_eq!(slot_of(b"123456789"), 0x31C3);
        assert_eq!(slot_of(KEY), 13_601);
        assert_eq!(slot_of(b""), 0);
    }

    #[test]
    fn only_a_host_and_a_port_are_an_address() {
        let host = |text: &str| Some(host_and_port(text).unwrap().0);
        for (text, asks, expected, port) in [
            ("MOVED 3999 127.0.0.1:6381", false, host("127.0.0.1"), 6381),
            ("ASK 3999 127.0.0.1:65535", true, host("127.0.0.1"), 65535),
            ("MOVED 0 Node-1.example.com:1", false, host("node-1.example.com"), 1),
            ("MOVED 0 ::1:6379", false, host("[::1]"), 6379),
            ("MOVED 0 [::1]:6379", false, host("[::1]"), 6379),
            ("MOVED 0 :6379", false, None, 6379),
        ] {
            assert_eq!(parsed(text), Some(Some(Redirect { asks, host: expected, port })), "{text}");
        }
        for text in [
            "MOVED",
            "MOVED ",
            "ASK 1",
            "MOVED 1 ",
            "MOVED 1 host",
            "MOVED 1 host:",
            "MOVED 1 host:0",
            "MOVED 1 host:65536",
            "MOVED 1 host:+1",
            "MOVED 1 ?:6379",
            "MOVED 1 :",
            "MOVED 1 127.1:6379",
            "MOVED 1 host:1 more",
            "MOVED 1 user@host:1",
            "MOVED 1 /run/redis.sock:1",
            "MOVED 1 redis://host:1",
            "MOVED 1 unix:///run/redis.sock",
            "MOVED 1 http://host:80",
            "ASK 1 fe80::1%eth0:6379",
            "MOVED 1 h\u{f6}st:1",
        ] {
            assert_eq!(parsed(text), Some(None), "{text}");
        }
        for text in ["", "ERR MOVED 1 host:1", "MOVEDX 1 host:1", "CLUSTERDOWN", "TRYAGAIN"] {
            assert_eq!(parsed(text), None, "{text}");
        }
        assert_eq!(Redirect::in_reply(Reply::Bulk(b"MOVED 1 host:1")), None);
    }

    #[test]
    fn a_moved_slot_is_remembered_and_an_asked_one_is_not() {
        let mut nodes = Nodes::new(endpoint("redis://one:1"));
        let from = Arc::clone(&nodes.of_key(KEY).unwrap().endpoint);
        let asks = Redirect { asks: true, ..moved("two:2") };
        assert!(nodes.named(&from, KEY, &asks).is_ok());
        assert_eq!((asked(&mut nodes), nodes.all.len()), (0, 2));
        for (address, expected) in [("two:2", 1), (":1", 0), (":2", 2), ("one:2", 2), ("one:1", 0)]
        {
            assert!(nodes.named(&from, KEY, &moved(address)).is_ok());
            assert_eq!(asked(&mut nodes), expected, "{address}");
        }
        assert_eq!(nodes.all.len(), 3);
    }

    #[test]
    fn addresses_are_bounded() {
        let mut nodes = Nodes::new(endpoint("redis://one:1"));
        let from = Arc::clone(&nodes.of_key(KEY).unwrap().endpoint);
        for port in 1..=1000 {
            let (_, forgotten) = nodes.named(&from, KEY, &moved(&format!("two:{port}"))).unwrap();
            assert!(forgotten.is_empty() || forgotten.len() == NODES_MAX - 1);
            assert!(nodes.all.len() <= NODES_MAX);
            assert_eq!(asked(&mut nodes), nodes.all.len() - 1);
        }
        assert!(Arc::ptr_eq(&from, &nodes.all[0].endpoint), "the configured one stays");
    }

    #[test]
    fn another_is_asked_in_place_of_a_node_that_failed() {
        let (mut nodes, now) = (Nodes::new(endpoint("redis://one:1")), Instant::now());
        let first = Arc::clone(&nodes.of_key(KEY).unwrap().endpoint);
        nodes.note_failure(&first, now);
        assert_eq!(asked(&mut nodes), 0, "there is no other");
        assert!(nodes.named(&first, KEY, &moved("two:2")).is_ok());
        let second = Arc::clone(&nodes.of_key(KEY).unwrap().endpoint);
        nodes.note_failure(&second, now);
        assert_eq!(asked(&mut nodes), 0, "it may name the one that took the slot over");
        nodes.note_failure(&first, now);
        assert_eq!(asked(&mut nodes), 1);
        for _ in 0..FAILURES {
            nodes.note_failure(&second, now);
        }
        assert_eq!(asked(&mut nodes), 0, "it failed less");
        nodes.at(&first).unwrap().note_success();
        nodes.note_failure(&first, now);
        assert_eq!(asked(&mut nodes), 0, "one failure does not lead to a node that is gone");
        assert!(nodes.at(&second).unwrap().admitted(false, now).is_none());
        assert!(nodes.at(&first).unwrap().admitted(false, now).is_some(), "each has its breaker");
    }

    #[test]
    fn three_failures_in_a_row_skip_a_node_until_one_probe() {
        let (mut node, start) = (Node::new(endpoint("redis://one:1")), Instant::now());
        for _ in 0..3 {
            assert!(node.admits(start));
            node.note_failure(start);
        }
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!node.admits(start) && !node.admits(at(4999)));
        assert!(node.admits(at(5000)));
        assert!(!node.admits(at(5001)), "one probe");
        node.note_failure(at(5100));
        assert!(!node.admits(at(10_099)) && node.admits(at(10_100)));
        node.note_success();
        assert!(node.admits(at(10_101)) && node.admits(at(10_101)));
    }

    #[test]
    fn a_path_leads_to_no_address() {
        let mut nodes = Nodes::new(endpoint("unix:///run/redis.sock"));
        let from = Arc::clone(&nodes.of_key(KEY).unwrap().endpoint);
        let error = nodes.named(&from, KEY, &moved("one:1")).err().unwrap();
        assert!(error.message().contains("Unix socket"), "{error}");
        assert_eq!(nodes.all.len(), 1);
    }
}
