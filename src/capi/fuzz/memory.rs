//! Memory of a C program, in which every byte is known.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use super::{SIGNATURE_LEN, TOO_LONG};
use crate::capi::spike_auth_error;
use crate::capi::status::spike_auth_status::{self as Status, BufferTooSmall};

const GUARD: usize = 32;
const UNTOUCHED: u8 = 0xA5;

/// Memory with a margin on both sides, in which every byte is known.
pub(super) struct Guarded {
    memory: Box<[u8]>,
    size: usize,
}

impl Guarded {
    /// Of a special capacity no more than one byte may be written.
    pub(super) fn new(cap: usize) -> Self {
        let size = if cap >= TOO_LONG { 1 } else { cap };
        Self { memory: vec![UNTOUCHED; size + 2 * GUARD].into(), size }
    }

    pub(super) fn start(&mut self) -> *mut u8 {
        self.memory[GUARD..].as_mut_ptr()
    }

    /// It begins with `expected`, and nothing else was written.
    pub(super) fn check(&self, expected: &[u8]) {
        let (before, rest) = self.memory.split_at(GUARD);
        assert!(expected.len() <= self.size);
        let (written, after) = rest.split_at(expected.len());
        assert_eq!(written, expected);
        assert!(
            before.iter().chain(after).all(|byte| *byte == UNTOUCHED),
            "written beyond the text"
        );
    }
}

pub(super) struct TextArguments {
    pub(super) buffer: Guarded,
    pub(super) len: Box<usize>,
    pub(super) out: *mut c_char,
    pub(super) len_out: *mut usize,
}

impl TextArguments {
    /// The text and its NUL if the call succeeded, else the empty text, and nothing else.
    pub(super) fn check(&self, status: i32, expected: impl FnOnce() -> [u8; SIGNATURE_LEN]) {
        let text = if status == Status::Ok as i32 { expected().to_vec() } else { Vec::new() };
        if self.len_out.is_null() {
            assert_eq!(*self.len, usize::MAX);
        } else {
            let needed = if status == BufferTooSmall as i32 { SIGNATURE_LEN } else { text.len() };
            assert_eq!(*self.len, needed);
        }
        let has_room = !self.out.is_null() && self.buffer.size > 0;
        self.buffer.check(&if has_room { [&text[..], b"\0"].concat() } else { Vec::new() });
    }
}

/// The error struct, which is written whole.
pub(super) struct Detail {
    memory: Box<MaybeUninit<spike_auth_error>>,
    is_null: bool,
}

impl Detail {
    pub(super) fn new(is_null: bool) -> Self {
        let mut memory = Box::new(MaybeUninit::<spike_auth_error>::uninit());
        // SAFETY: as many bytes as there are.
        unsafe {
            memory.as_mut_ptr().cast::<u8>().write_bytes(UNTOUCHED, size_of::<spike_auth_error>())
        };
        Self { memory, is_null }
    }

    pub(super) fn place(&mut self) -> *mut spike_auth_error {
        if self.is_null { null_mut() } else { self.memory.as_mut_ptr() }
    }

    /// The call succeeded if nothing was wrong, else one of the faults is told.
    pub(super) fn check(&self, status: i32, faults: &[Status]) {
        match faults {
            [] => assert_eq!(status, Status::Ok as i32),
            faults => {
                assert!(faults.iter().any(|fault| *fault as i32 == status), "{status} {faults:?}")
            }
        }
        // SAFETY: every pattern of bits is one of it, and all were written above.
        let error = unsafe { self.memory.assume_init_ref() };
        let message: Vec<u8> = error.message.iter().map(|c| *c as u8).collect();
        if self.is_null {
            assert!(message.iter().all(|byte| *byte == UNTOUCHED));
            return;
        }
        let message = CStr::from_bytes_until_nul(&message).unwrap().to_str().unwrap();
        assert_eq!((error.status, error.reserved), (status, [0; 7]));
        assert_eq!(
            (error.http_status, error.retry_after_ms, error.attempts, error.retryable),
            (0, -1, 0, 0)
        );
        assert_eq!(message.is_empty(), status == Status::Ok as i32);
    }
}
