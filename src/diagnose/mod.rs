//! Looks at one thing after the other, from the settings to the store, and says what is wrong.
//!
//! | file | holds |
//! |---|---|
//! | `checks.rs` | what each check says, and which cure comes first |
//! | `report.rs` | the report and its JSON |

mod checks;
mod report;

use std::time::{Instant, SystemTime};

use report::Check;
pub(crate) use report::REPORT_MAX;

use crate::config::{Config, Setting};
use crate::context::Context;
use crate::core::Core;
use crate::error::{Error, ErrorKind};
use crate::exchange::{SignedUser, Trial};
use crate::http::{Route, Step};
use crate::user_id::UserId;

/// Why a check was not made.
const UNREACHED: &str = "The service was not reached.";

/// What a report says of a client's configuration. No secret is in it.
pub(crate) struct Known {
    settings: Vec<Setting>,
    why_this_proxy: String,
    place_of_the_key: &'static str,
    /// The host and port of the service.
    place: String,
}

impl Known {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            settings: config.settings(),
            why_this_proxy: config.why_this_proxy(),
            place_of_the_key: config.place_of_the_key(),
            place: config.base_url.place(),
        }
    }

    /// Where a setting comes from.
    fn source_of(&self, name: &str) -> &'static str {
        let found = self.settings.iter().find(|setting| setting.name == name);
        found.map_or("default", |setting| setting.from)
    }

    fn has_proxy(&self) -> bool {
        self.settings.iter().any(|setting| setting.name == "proxy" && setting.value != "none")
    }
}

/// The report, as JSON. Makes a connection of its own and, if there is a `user`, one request. The store is asked before
/// the service, which may take all the time that is left.
///
/// Fails only if the call is stopped.
pub(crate) fn run(
    core: &Core,
    known: &Known,
    user: Option<UserId<'_>>,
    context: &Context,
) -> Result<String, Error> {
    let shape = core.ring.with(|key| key.shape()).ok();
    let place = if core.ring.was_set() { "set_hmac_key" } else { known.place_of_the_key };
    let store = look_into_store(core, known, shape.is_some(), context);
    let route = core.exchange.direct.route(context)?;
    let (exchange, trial) = try_exchange(core, known, &route, user, context);
    // A stopped call has no report; one whose time was up has.
    context.check()?;
    let refused = |error: &Error| error.kind() == ErrorKind::Unauthorized;
    let was_refused =
        trial.as_ref().is_some_and(|trial| trial.result.as_ref().err().is_some_and(refused));
    let clock = checks::clock(trial.as_ref().and_then(|trial| trial.clock_ahead));
    let list = [
        checks::settings(known),
        checks::key(shape, place, user.is_some()),
        checks::proxy(known),
        checks::resolve(&route, known),
        checks::connect(&route, known, known.has_proxy()),
        checks::tls(&route, known, SystemTime::now()),
        exchange,
        clock,
        store,
    ];
    Ok(report::json(&list, checks::first_cure(&list, was_refused)))
}

fn look_into_store(core: &Core, known: &Known, has_key: bool, context: &Context) -> Check {
    match &core.exchange.store {
        None => Check::skipped("store", "No store is set."),
        Some(_) if !has_key => Check::skipped("store", "It is used with an HMAC key only."),
        Some(store) => {
            let start = Instant::now();
            checks::store(&store.check(context), known, start.elapsed())
        }
    }
}

fn try_exchange(
    core: &Core,
    known: &Known,
    route: &Route,
    user: Option<UserId<'_>>,
    context: &Context,
) -> (Check, Option<Trial>) {
    let skipped = |why: &str| (Check::skipped("exchange", why), None);
    let Some(user) = user else {
        return skipped("No user id was given.");
    };
    if !matches!(route.tls, Step::Done(..)) {
        return skipped(UNREACHED);
    }
    let Ok(signature) = core.ring.with(|key| key.signature(user)) else {
        return skipped("There is no key to sign with.");
    };
    let start = Instant::now();
    let user = SignedUser { user, signature: &signature };
    let trial = core.exchange.direct.probe(&user, context);
    (checks::exchange(&trial, known, start.elapsed()), Some(trial))
}
