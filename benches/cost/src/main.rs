//! What a kept-alive exchange costs beyond plain ureq: see README.md.

mod lean;
mod server;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use spike_auth::{Client, Config};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, DefaultConnector, NextTimeout};

const ROUNDS: usize = 61;
const CALLS: u32 = 500;
const USER: &str = "my_application_user_123";

/// Time on the clock, and time of the processor in this thread.
#[derive(Clone, Copy, Default)]
struct Times {
    wall: Duration,
    cpu: Duration,
}

fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is memory for one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Per call.
fn measure(call: &dyn Fn()) -> Times {
    let (wall, cpu) = (Instant::now(), thread_time());
    (0..CALLS).for_each(|_| call());
    Times { wall: wall.elapsed() / CALLS, cpu: (thread_time() - cpu) / CALLS }
}

/// Answers with the one address, and starts no thread.
#[derive(Debug)]
struct Fixed(SocketAddr);

impl Resolver for Fixed {
    fn resolve(
        &self,
        _: &ureq::http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.empty();
        found.push(self.0);
        Ok(found)
    }
}

fn agent(address: SocketAddr, connector: impl Connector) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .user_agent("spike_auth/0.1.0 (linux; x86_64)")
        .accept("application/json")
        .accept_encoding("")
        .build();
    ureq::Agent::with_parts(config, connector, Fixed(address))
}

/// The same request, and the reply read to its end.
fn plain_call(agent: &ureq::Agent, url: &str, body: &[u8]) {
    let mut response =
        agent.post(url).content_type("application/json").send(body).expect("a reply");
    let body = response.body_mut().read_to_vec().expect("a body");
    assert!(body.starts_with(b"{"));
}

fn client(address: SocketAddr) -> Client {
    let mut config = Config::new().expect("a configuration");
    let url = format!("http://{address}/v3");
    config.set_application_id(b"9999").expect("an id");
    config.set_hmac_key(b"key").expect("a key");
    config.set_base_url(url.as_bytes()).expect("a URL");
    Client::new(&config).expect("a client")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn report(rounds: &[[Times; 3]], of: impl Fn(&Times) -> Duration) {
    for (side, name) in ["plain ureq", "lean ureq", "spike_auth"].iter().enumerate() {
        let times = rounds.iter().map(|round| microseconds(of(&round[side])));
        // Of each round by itself: what slows the machine down slows all three.
        let ratios =
            rounds.iter().map(|round| microseconds(of(&round[side])) / microseconds(of(&round[0])));
        println!(
            "  {name:<10} {:7.1} us {:+6.1} %",
            median(times.collect()),
            (median(ratios.collect()) - 1.0) * 100.0
        );
    }
}

fn main() {
    let address = server::start();
    let plain = agent(address, DefaultConnector::default());
    let lean = agent(address, lean::LeanConnector);
    let client = client(address);
    let url = format!("http://{address}/v3/auth/hmac");
    let signature = "0".repeat(64);
    let body = format!(
        r#"{{"application_id":9999,"application_user_id":"{USER}","signature":"{signature}"}}"#
    );
    let sides: [&dyn Fn(); 3] = [
        &|| plain_call(&plain, &url, body.as_bytes()),
        &|| plain_call(&lean, &url, body.as_bytes()),
        &|| drop(client.exchange(USER.as_bytes(), None).expect("a token")),
    ];
    // One side alone, for a profiler.
    if let Some(side) = std::env::args().nth(1) {
        let side = ["plain", "lean", "ours"].iter().position(|name| *name == side);
        let call = sides[side.expect("plain, lean or ours")];
        (0..20_000).for_each(|_| call());
        return;
    }
    let round = |first: usize| {
        let mut times = [Times::default(); 3];
        for side in (0..3).map(|i| (first + i) % 3) {
            times[side] = measure(sides[side]);
        }
        times
    };
    round(0);
    let rounds: Vec<_> = (0..ROUNDS).map(round).collect();
    println!("{ROUNDS} rounds of {CALLS} calls each; medians per call, and against plain ureq");
    println!("CPU time of the calling thread");
    report(&rounds, |times| times.cpu);
    println!("time on the clock");
    report(&rounds, |times| times.wall);
}
