//! The library's `src/cache/fetch.rs` around its flights: one user, whose entry is an `Option`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use loom::sync::{Mutex, MutexGuard};

use crate::error::Error;
use crate::exchange::{Outcome, Progress};
use entry::Entry;
use flights::{Fetched, Flight, Flights, Landed, Next, Ticket};
use sync::Thread;

mod entry {
    /// A token, told from others by the request that brought it.
    pub(crate) struct Entry(pub(crate) u64);
}
#[path = "../../../src/cache/flights.rs"]
#[allow(dead_code)] // what is for many users
mod flights;
mod sync;

const USER: &[u8] = b"user";

/// One who asks for a token.
pub(crate) struct Asker {
    pub(crate) deadline: Instant,
    /// It gives up as soon as there is nothing for it. When that is, is for loom to try: it is as if
    /// its time were up, or it were cancelled, at any moment.
    pub(crate) gives_up: bool,
    /// What comes of an exchange of its own.
    pub(crate) outcome: Outcome,
    /// It has the user forgotten before it asks.
    pub(crate) forgets: bool,
}

impl Asker {
    fn wait(&self, done: &dyn Fn() -> bool) -> Result<(), Error> {
        while !done() {
            if self.gives_up {
                return Err(Error::Stopped);
            }
            sync::park();
        }
        Ok(())
    }

    fn exchange(&self, progress: &mut Progress) -> Outcome {
        progress.requests += 1;
        progress.pause = match self.outcome {
            Outcome::Pausing(until) => Some((until, Error::Refused)),
            _ => None,
        };
        self.outcome
    }
}

/// Counted apart from what loom watches: that adds no order between the threads.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) exchanges: AtomicU64,
    pub(crate) coalesced: AtomicU64,
    /// Requests that were sent.
    pub(crate) sent: AtomicU64,
    /// Flights that ended, and the requests that were told at their ends.
    pub(crate) ends: AtomicU64,
    pub(crate) requests: AtomicU64,
}

#[derive(Default)]
pub(crate) struct Cache {
    room: Mutex<Room>,
    pub(crate) counters: Counters,
}

#[derive(Default)]
struct Room {
    entry: Option<Arc<Entry>>,
    flights: Flights,
}

fn add(counter: &AtomicU64, count: u64) -> u64 {
    counter.fetch_add(count, Ordering::Relaxed) + count
}

impl Cache {
    pub(crate) fn fetch(&self, asker: &Asker) -> Result<u64, Error> {
        let joined = {
            let mut room = self.lock();
            if let Some(entry) = &room.entry {
                return Ok(entry.0);
            }
            let joined = room.flights.join(USER, asker.deadline);
            if joined.is_none() {
                room.flights.begin(USER);
            }
            joined
        };
        let landed = match joined {
            Some((flight, ticket)) => {
                add(&self.counters.coalesced, 1);
                self.wait(flight, ticket, asker)
            }
            None => {
                add(&self.counters.exchanges, 1);
                self.lead(Progress::default(), asker)
            }
        };
        landed.map(|fetched| fetched.entry.0)
    }

    /// `fetch` of one who comes first, up to where it leads, and then `meanwhile`.
    pub(crate) fn fetch_first<T>(
        &self,
        asker: &Asker,
        meanwhile: impl FnOnce() -> T,
    ) -> (Result<u64, Error>, T) {
        self.lock().flights.begin(USER);
        add(&self.counters.exchanges, 1);
        let others = meanwhile();
        let landed = self.lead(Progress::default(), asker);
        (landed.map(|fetched| fetched.entry.0), others)
    }

    pub(crate) fn forget(&self) {
        let mut room = self.lock();
        room.flights.forget(USER);
        room.entry = None;
    }

    pub(crate) fn has_flights(&self) -> bool {
        !self.lock().flights.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap()
    }

    fn lead(&self, progress: Progress, asker: &Asker) -> Landed {
        let mut lead = Lead { cache: self, progress, is_over: false };
        let outcome = asker.exchange(&mut lead.progress);
        let sent = add(&self.counters.sent, 1);
        let landed = match outcome {
            Outcome::Granted => self.store(&lead.progress, sent),
            Outcome::Failed => self.fail(&lead.progress, Error::Refused),
            Outcome::Unfinished | Outcome::Pausing(_) => return Err(Error::Stopped),
        };
        lead.is_over = true;
        landed
    }

    fn wait(&self, flight: Arc<Flight>, ticket: Arc<Ticket>, asker: &Asker) -> Landed {
        let mut seat = Seat { cache: self, ticket, is_left: false };
        asker.wait(&|| flight.landed().is_some() || seat.ticket.is_called())?;
        seat.is_left = true;
        if let Some(landed) = flight.landed() {
            return landed.clone();
        }
        let progress = self.lock().flights.take_baton(USER);
        self.lead(progress, asker)
    }

    fn store(&self, progress: &Progress, token: u64) -> Landed {
        let mut room = self.lock();
        let entry = Arc::new(Entry(token));
        if room.flights.may_keep(USER) {
            room.entry = Some(Arc::clone(&entry));
        }
        let landed = Ok(Fetched { entry, attempts: progress.requests as u32 });
        let waiting = room.flights.land(USER, landed.clone());
        drop(room);
        self.count_end(progress);
        wake(waiting);
        landed
    }

    fn fail(&self, progress: &Progress, error: Error) -> Landed {
        let waiting = self.lock().flights.land(USER, Err(error.clone()));
        self.count_end(progress);
        wake(waiting);
        Err(error)
    }

    fn pass_on(&self, progress: Progress) {
        let next = self.lock().flights.pass_on(USER, progress);
        match next {
            Next::Called(heir) => heir.unpark(),
            Next::Landed(progress, waiting) => {
                self.count_end(&progress);
                wake(waiting);
            }
            Next::Over(progress) => self.count_end(&progress),
        }
    }

    fn count_end(&self, progress: &Progress) {
        add(&self.counters.requests, progress.requests);
        add(&self.counters.ends, 1);
    }
}

struct Lead<'a> {
    cache: &'a Cache,
    progress: Progress,
    is_over: bool,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let progress = std::mem::take(&mut self.progress);
            self.cache.pass_on(progress);
        }
    }
}

struct Seat<'a> {
    cache: &'a Cache,
    ticket: Arc<Ticket>,
    is_left: bool,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        let baton = {
            let mut room = self.cache.lock();
            room.flights.leave(USER, &self.ticket);
            self.ticket.is_called().then(|| room.flights.take_baton(USER))
        };
        if let Some(progress) = baton {
            self.cache.pass_on(progress);
        }
    }
}

fn wake(waiting: Vec<Thread>) {
    waiting.iter().for_each(Thread::unpark);
}
