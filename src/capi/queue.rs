//! Calls that were started, and the queue that hands them out when they have ended.

use std::ffi::c_char;
use std::sync::Arc;

use super::boundary::{run, run_quietly};
use super::buffer::{HandleOut, StructOut, free, handle, null, share, text, too_long};
use super::call::spike_auth_call;
use super::client::spike_auth_client;
use super::error::{Failure, spike_auth_error};
use super::status::{spike_auth_status, spike_auth_status_t};
use crate::requests::Queue;

/// Hands out calls that were started, when they have ended. Make one for each event loop, for any number of
/// clients. Its functions may be called from any thread; none of them waits, and none calls you. A queue
/// belongs to the process that made it: in a forked child it hands out nothing, and nothing can be started
/// with it.
pub struct spike_auth_queue {
    queue: Arc<Queue>,
}

/// Makes a queue. It takes one descriptor.
///
/// @param queue  receives the handle, NULL on failure. Free it with spike_auth_queue_free().
/// @param err    receives the error detail; may be NULL
///
/// Fails with INTERNAL (no descriptor is left).
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_queue_new(
    queue: *mut *mut spike_auth_queue,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let out = HandleOut::new(queue, "queue")?;
            out.put(spike_auth_queue { queue: Arc::new(Queue::new()?) });
            Ok(())
        })
    }
}

/// Returns the descriptor of a queue, for poll, epoll, or an event loop: it is readable while there is
/// something to take. It may also be readable with nothing to take. Level-triggered; a program that waits for
/// edges takes until `count` is less than `cap`. Do not read from it, write to it or close it. It is valid
/// until the queue is freed. -1 in a forked child, for NULL, and if you have closed it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_queue_fd(queue: *const spike_auth_queue) -> i32 {
    let mut descriptor = -1;
    run_quietly(|| {
        // SAFETY: the caller keeps the header's contract.
        if let Ok(queue) = unsafe { handle(queue, "queue") } {
            descriptor = queue.queue.descriptor().unwrap_or(-1);
        }
    });
    descriptor
}

/// Takes the tags of calls that have ended, first ended first. Each started call is handed out exactly once,
/// to one thread, whatever its result, unless its handle was freed before.
///
/// @param queue  a queue
/// @param tags   receives at most `cap` tags; NULL is allowed if `cap` is 0
/// @param cap    how many tags have room
/// @param count  receives how many were written. Less than `cap`: nothing is left.
/// @param err    receives the error detail; may be NULL
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_queue_take(
    queue: *const spike_auth_queue,
    tags: *mut u64,
    cap: usize,
    count: *mut usize,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let out = StructOut::new(count, "count")?;
            let queue = &handle(queue, "queue")?.queue;
            if cap > 0 && tags.is_null() {
                return Err(null("tags"));
            }
            if cap > isize::MAX as usize / size_of::<u64>() {
                return Err(too_long("tags"));
            }
            let mut taken = 0;
            while taken < cap {
                // In pieces, because the caller's memory may be uninitialised and unaligned.
                let mut piece = [0; 64];
                let room = piece.len().min(cap - taken);
                let (piece, _) = piece.split_at_mut(room);
                let got = queue.take(piece);
                for tag in piece.iter().take(got) {
                    tags.add(taken).write_unaligned(*tag);
                    taken += 1;
                }
                if got < room {
                    break;
                }
            }
            out.write(taken);
            Ok(())
        })
    }
}

/// Frees a queue and closes its descriptor: remove that from your event loop first. Calls that were started
/// with it continue, and are not handed out. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn spike_auth_queue_free(queue: *mut spike_auth_queue) {
    run_quietly(|| {
        // SAFETY: the caller keeps the header's contract.
        unsafe {
            if let Ok(queue) = handle(queue, "queue") {
                queue.queue.free();
            }
            free(queue);
        }
    });
}

/// Starts what spike_auth_client_get_token() does, and returns at once. When the call has ended, the queue
/// hands out its tag, and spike_auth_call_get_token() or spike_auth_call_get_authorization() gives its result.
/// The deadline counts from here. A token that is in the cache is handed out like any other;
/// spike_auth_client_peek_token() first costs a tenth of that.
///
/// Started calls are served in the order in which they were started, at most the client's maximum concurrency
/// at once. There is no limit on how many wait.
///
/// @param user_id      1 to 128 bytes of A-Z a-z 0-9 . _ - ; copied
/// @param user_id_len  its length in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param call         a handle with nothing under way; required. It must stay until the call has ended, or
///                     freeing it ends the call.
/// @param queue        hands out the call when it has ended
/// @param tag          any number, such as an index or a pointer
/// @param err          receives the error detail; may be NULL
///
/// Fails with INVALID_USER_ID, KEY_REQUIRED, CLOSED, CANCELLED (the handle was cancelled before),
/// INVALID_ARGUMENT (something is under way with the handle, or the queue belongs to a parent process), INTERNAL
/// (you have closed the queue's descriptor): then nothing is handed out. Any other failure is the result of the
/// call.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_start_token(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
    call: *mut spike_auth_call,
    queue: *const spike_auth_queue,
    tag: u64,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            let call = share(call, "call")?;
            Ok(client.start_token(user_id, &call.call, own(queue)?, tag)?)
        })
    }
}

/// Starts what spike_auth_client_exchange() does, as spike_auth_client_start_token() starts its call.
///
/// @param user_id      as there
/// @param user_id_len  as there
/// @param call         as there
/// @param queue        as there
/// @param tag          as there
/// @param err          receives the error detail; may be NULL
///
/// Fails as spike_auth_client_start_token() does.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_start_exchange(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
    call: *mut spike_auth_call,
    queue: *const spike_auth_queue,
    tag: u64,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            let call = share(call, "call")?;
            Ok(client.start_exchange(user_id, &call.call, own(queue)?, tag)?)
        })
    }
}

/// Starts what spike_auth_client_exchange_signature() does, as spike_auth_client_start_token() starts its
/// call. Needs no key.
///
/// @param user_id        as there
/// @param user_id_len    as there
/// @param signature      64 hexadecimal characters; copied
/// @param signature_len  its length in bytes, or SPIKE_AUTH_NUL_TERMINATED
/// @param call           as there
/// @param queue          as there
/// @param tag            as there
/// @param err            receives the error detail; may be NULL
///
/// Fails with INVALID_SIGNATURE, and as spike_auth_client_start_token() does, but not with KEY_REQUIRED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_start_exchange_signature(
    client: *const spike_auth_client,
    user_id: *const c_char,
    user_id_len: usize,
    signature: *const c_char,
    signature_len: usize,
    call: *mut spike_auth_call,
    queue: *const spike_auth_queue,
    tag: u64,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let client = &handle(client, "client")?.client;
            let user_id = text(user_id, user_id_len, "user_id")?;
            let signature = text(signature, signature_len, "signature")?;
            let call = share(call, "call")?;
            Ok(client.start_exchange_signature(user_id, signature, &call.call, own(queue)?, tag)?)
        })
    }
}

/// A queue of this process, whose descriptor is open.
///
/// # Safety
/// `queue` is NULL or a live queue.
unsafe fn own<'a>(queue: *const spike_auth_queue) -> Result<&'a Arc<Queue>, Failure> {
    // SAFETY: as the caller promises.
    let queue = unsafe { &handle(queue, "queue")?.queue };
    if queue.is_inherited() {
        return Err(Failure::new(
            spike_auth_status::InvalidArgument,
            "The queue was made by a parent of this process. Make one in the child.",
        ));
    }
    if queue.descriptor().is_none() {
        return Err(Failure::new(
            spike_auth_status::Internal,
            "The queue's descriptor was closed by the program, for example by closefrom(3). Let the program close \
             its own descriptors only, and make another queue.",
        ));
    }
    Ok(queue)
}
