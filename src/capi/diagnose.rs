//! The report of what is wrong.

use std::ffi::c_char;

use super::boundary::run;
use super::buffer::{TextOut, handle, text};
use super::call::{optional, spike_auth_call};
use super::client::spike_auth_client;
use super::error::spike_auth_error;
use super::status::spike_auth_status_t;
use crate::diagnose::REPORT_MAX;

/// The size in bytes of a buffer for any report of spike_auth_client_diagnose(), with the NUL.
pub const SPIKE_AUTH_REPORT_SIZE: usize = 16384;

const _: () = assert!(SPIKE_AUTH_REPORT_SIZE == REPORT_MAX + 1);

/// Finds out why a client does not work. Looks at one thing after the other, and writes a report as one line of JSON.
/// Makes a new connection, and one request if there is a user id; asks the store, if there is one. Uses and changes
/// nothing of the cache. Blocks until the deadline at most. The report holds no secret, and not the user id.
///
/// @param user_id      the user for whom one exchange is tried, 1 to 128 bytes of A-Z a-z 0-9 . _ - ; NULL or empty for no
///                     exchange
/// @param user_id_len  length of user_id in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param call         a call handle with its own deadline and cancellation, or NULL for the client's deadline
/// @param report       receives the report and a NUL, UTF-8 without control characters
/// @param report_cap   size of report in bytes. A size below SPIKE_AUTH_REPORT_SIZE fails with BUFFER_TOO_SMALL before
///                     anything is sent.
/// @param report_len   receives the report's length without the NUL
/// @param err          receives the error detail; may be NULL
///
/// The function succeeds if it could write a report, whatever that says. Its members: version (of the library), ok (no
/// check has failed), cure (what to do first, or null), checks. Each check has name, status ("ok", "warning", "failed",
/// "skipped"), ms (how long it took), message, cure (or null), and members of its own. In this order:
///
/// - settings: `settings`, a list of name, value, from (a variable of the environment, "program" or "default")
/// - key: `length` in bytes
/// - proxy: `proxy`, host:port or "none"
/// - resolve: `host`, host:port, of the proxy if there is one; `addresses`, a list of at most 16
/// - connect: `peer`, the address
/// - tls: `version`, `issuer`, `days_left` (or null), `roots` (their number), `roots_from`
/// - exchange: `http_status`
/// - clock: `ahead_s`, by how many seconds this machine's clock is ahead of the service's
/// - store: none
///
/// A check has its own members only where it was made and what they name is known. Later versions may add members and
/// checks.
///
/// Fails with INVALID_USER_ID, BUFFER_TOO_SMALL, CANCELLED, CLOSED, INTERNAL.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_diagnose(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
    call: *const spike_auth_call,
    report: *mut c_char,
    report_cap: usize,
    report_len: *mut usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let out = TextOut::new(report, report_cap, report_len, "report")?;
            let client = &handle(client, "client")?.client;
            let user_id =
                if user_id.is_null() { &[] } else { text(user_id, user_id_len, "user_id")? };
            client.check_open()?;
            out.require(SPIKE_AUTH_REPORT_SIZE)?;
            out.write(client.diagnose(user_id, optional(call))?.as_bytes())
        })
    }
}
