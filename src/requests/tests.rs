//! One started call in each stage, and what can end it. The engine's threads do not run: the tests are its
//! workers, and all threads that it asks for are refused after the timer.

use std::task::Wake;
use std::time::Duration;

use super::*;
use crate::config::{ApplicationId, Config};
use crate::context::CancelToken;
use crate::core::Core;
use crate::error::ErrorKind;
use crate::exchange::Progress;

struct Fixture {
    core: Arc<Core>,
    engine: Arc<Engine>,
    queue: Arc<Queue>,
    cancel: CancelToken,
    closed: CancelToken,
}

impl Fixture {
    fn new() -> Self {
        let mut config = Config::new().unwrap();
        config.set_base_url(b"http://127.0.0.1:1/v3").unwrap();
        let core = Arc::new(Core::new(&config, &ApplicationId::new(b"1").unwrap()).unwrap());
        Self {
            engine: Arc::new(Engine::new(&core, 0)), // no workers
            queue: Arc::new(Queue::new().unwrap()),
            cancel: CancelToken::new(),
            closed: CancelToken::new(),
            core,
        }
    }

    fn order<'a>(&self, user: &'a str, tag: u64) -> Order<'a> {
        let timeout = Duration::from_secs(60);
        Order {
            user: UserId::new(user.as_bytes()).unwrap(),
            context: Context::new(timeout, Some(&self.cancel), &self.closed),
            tag,
            queue: Arc::clone(&self.queue),
        }
    }

    fn signature() -> Signature {
        Signature::parse(&[b'0'; 64]).unwrap()
    }

    /// In its stage by its number: `Follows`, `Waits`, `Waits` for a time, `Runs`.
    fn request(&self, stage: usize) -> Arc<Request> {
        let token =
            |tag| Request::token(&self.engine, self.order("user", tag), None, Self::signature());
        let leader = token(9);
        assert!(matches!(stage_of(&leader), Some(Stage::Waits(_, None))));
        match stage {
            FOLLOWS => token(1),
            WAITS => Request::exchange(&self.engine, self.order("other", 1), Self::signature()),
            PAUSED => {
                let request = self.request_of_exchange();
                let job = request.take_job().unwrap();
                request.pause(&self.engine, job, later());
                request
            }
            _ => {
                let request = self.request_of_exchange();
                assert!(request.take_job().is_some());
                request
            }
        }
    }

    fn request_of_exchange(&self) -> Arc<Request> {
        Request::exchange(&self.engine, self.order("other", 1), Self::signature())
    }

    fn take(&self) -> Vec<u64> {
        let mut tags = [0; 8];
        let count = self.queue.take(&mut tags);
        tags[..count].to_vec()
    }
}

const FOLLOWS: usize = 0;
const WAITS: usize = 1;
const PAUSED: usize = 2;
const RUNS: usize = 3;

fn later() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// A copy without its job.
fn stage_of(request: &Request) -> Option<Stage> {
    match &*request.state() {
        State::Ended(_) => None,
        State::Pending(_, Stage::Follows) => Some(Stage::Follows),
        State::Pending(_, Stage::Runs) => Some(Stage::Runs),
        State::Pending(_, Stage::Waits(job, until)) => {
            let job = Job { kind: job.kind.clone(), progress: Progress::default() };
            Some(Stage::Waits(job, *until))
        }
    }
}

fn kind_of(request: &Request) -> Option<ErrorKind> {
    match request.peek() {
        Peeked::Ended(Ending::Failed(error)) => Some(error.kind()),
        _ => None,
    }
}

#[test]
fn each_stage_ends_once_by_each_event() {
    type End = fn(&Fixture, &Arc<Request>);
    let events: [(End, ErrorKind); 3] = [
        (|_, request| request.cancel(), ErrorKind::Cancelled),
        (|_, request| request.stop(Error::closed()), ErrorKind::Closed),
        (|_, request| request.expire(), ErrorKind::Timeout),
    ];
    for stage in [FOLLOWS, WAITS, PAUSED, RUNS] {
        for (end, kind) in events {
            let fixture = Fixture::new();
            let request = fixture.request(stage);
            let pending = fixture.engine.pending();
            end(&fixture, &request);
            if stage == RUNS && kind == ErrorKind::Timeout {
                assert!(matches!(request.peek(), Peeked::Pending), "its worker sees the deadline");
                continue;
            }
            assert_eq!(kind_of(&request), Some(kind), "stage {stage}");
            assert_eq!(fixture.engine.pending(), pending - 1);
            assert_eq!(fixture.take(), [1]);
            for (again, _) in events {
                again(&fixture, &request);
            }
            assert!(request.end(Ending::Panicked).is_none());
            Arc::clone(&request).complete(Err(Error::closed()));
            Arc::clone(&request).wake();
            assert!(Arc::clone(&request).lead(Progress::default()).is_some());
            assert!(request.take_job().is_none());
            assert_eq!((kind_of(&request), fixture.take()), (Some(kind), vec![]));
            fixture.engine.close();
            assert_eq!(fixture.engine.pending(), 0);
        }
    }
}

#[test]
fn a_freed_handle_is_not_handed_out() {
    for stage in [FOLLOWS, WAITS, PAUSED, RUNS] {
        let fixture = Fixture::new();
        let request = fixture.request(stage);
        fixture.cancel.withdraw();
        request.cancel();
        fixture.engine.close();
        assert_eq!(fixture.take(), [] as [u64; 0], "stage {stage}");
        assert_eq!(fixture.engine.pending(), 0);
    }
}

#[test]
fn a_wake_before_or_after_the_pause_ends_it() {
    for before in [true, false] {
        let fixture = Fixture::new();
        let request = fixture.request(RUNS);
        // With no workers, what is runnable stays so.
        if before {
            Arc::clone(&request).wake();
        }
        let job = Job { kind: Kind::Exchange, progress: Progress::default() };
        request.pause(&fixture.engine, job, later());
        if !before {
            Arc::clone(&request).wake();
        }
        assert!(fixture.engine.is_runnable(&request), "woken before: {before}");
        assert!(request.take_job().is_some());
        fixture.engine.close();
        assert_eq!(fixture.take().len(), 2);
    }
}

#[test]
fn a_pause_beyond_the_deadline_expires() {
    let fixture = Fixture::new();
    let mut order = fixture.order("user", 1);
    order.context = Context::new(Duration::ZERO, Some(&fixture.cancel), &fixture.closed);
    let request = Request::exchange(&fixture.engine, order, Fixture::signature());
    if let Some(job) = request.take_job() {
        request.pause(&fixture.engine, job, later());
    }
    assert_eq!(kind_of(&request), Some(ErrorKind::Timeout));
    assert_eq!(fixture.take(), [1]);
}

#[test]
fn a_follower_leads_after_the_leader() {
    let fixture = Fixture::new();
    let calls: Vec<_> = (0..3)
        .map(|tag| {
            let order = fixture.order("user", tag);
            Request::token(&fixture.engine, order, None, Fixture::signature())
        })
        .collect();
    let leads = |request: &Arc<Request>| matches!(stage_of(request), Some(Stage::Waits(..)));
    assert_eq!(calls.iter().map(leads).collect::<Vec<_>>(), [true, false, false]);
    calls[0].cancel();
    assert_eq!(calls.iter().map(leads).collect::<Vec<_>>(), [false, false, true]);
    calls[1].cancel();
    calls[2].cancel();
    assert_eq!(fixture.take(), [0, 1, 2]);
    let stats = fixture.core.cache().stats();
    assert_eq!((stats.exchanges, stats.coalesced, stats.failures), (1, 2, 1));
    assert_eq!(fixture.engine.pending(), 0);
}

#[test]
fn many_followers_end_without_recursion() {
    const CALLS: u64 = 50_000;
    let fixture = Fixture::new();
    // A small stack: a recursion would overflow it.
    let small = std::thread::Builder::new().stack_size(128 * 1024);
    let ended = small.spawn(move || {
        for tag in 0..CALLS {
            let order = fixture.order("user", tag);
            Request::token(&fixture.engine, order, None, Fixture::signature());
        }
        fixture.engine.close();
        let mut tags = vec![0; CALLS as usize + 1];
        fixture.queue.take(&mut tags)
    });
    assert_eq!(ended.unwrap().join().unwrap() as u64, CALLS);
}

#[test]
fn a_queue_hands_out_in_pieces_and_signals_once() {
    let fixture = Fixture::new();
    let readable = || {
        let mut poll = libc::pollfd {
            fd: fixture.queue.descriptor().unwrap(),
            events: libc::POLLIN,
            revents: 0,
        };
        poll_now(&mut poll)
    };
    assert!(!readable());
    for tag in 0..5 {
        let order = fixture.order("user", tag);
        let request = Request::exchange(&fixture.engine, order, Fixture::signature());
        request.stop(Error::closed());
    }
    let mut tags = [9; 2];
    assert!(readable());
    assert_eq!((fixture.queue.take(&mut tags), tags), (2, [0, 1]));
    assert_eq!((fixture.queue.take(&mut tags), tags), (2, [2, 3]));
    assert!(readable());
    assert_eq!((fixture.queue.take(&mut tags), tags[0]), (1, 4));
    assert!(!readable());
    fixture.queue.free();
    let order = fixture.order("user", 6);
    let request = Request::exchange(&fixture.engine, order, Fixture::signature());
    request.stop(Error::closed());
    assert_eq!(fixture.queue.take(&mut tags), 0);
    assert!(fixture.queue.descriptor().is_none(), "it is closed");
}

#[allow(unsafe_code)]
fn poll_now(poll: &mut libc::pollfd) -> bool {
    // SAFETY: one live struct, which poll(2) writes to.
    unsafe { libc::poll(poll, 1, 0) == 1 }
}
