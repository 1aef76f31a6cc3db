//! Conversions between C pointers and Rust values.

use std::ffi::{CStr, c_char};
use std::sync::Arc;

use super::error::Failure;
use super::status::spike_auth_status;

/// `SPIKE_AUTH_NUL_TERMINATED` of the header.
pub(super) const NUL_TERMINATED: usize = usize::MAX;

#[cold]
#[inline(never)]
pub(super) fn null(what: &str) -> Failure {
    Failure::new(
        spike_auth_status::NullPointer,
        format!("The argument {what} is NULL. Pass a pointer."),
    )
}

#[cold]
#[inline(never)]
fn null_len(what: &str) -> Failure {
    null(&format!("{what}_len"))
}

#[cold]
#[inline(never)]
pub(super) fn too_long(what: &str) -> Failure {
    Failure::new(
        spike_auth_status::InvalidArgument,
        format!("The length of {what} is larger than PTRDIFF_MAX. Pass the number of bytes."),
    )
}

/// # Safety
/// `ptr` is NULL, or points to `len` readable bytes that do not change during the call.
#[inline(always)]
pub(super) unsafe fn bytes<'a>(
    ptr: *const u8,
    len: usize,
    what: &str,
) -> Result<&'a [u8], Failure> {
    if len == 0 {
        return Ok(&[]);
    }
    if ptr.is_null() {
        return Err(null(what));
    }
    if len > isize::MAX as usize {
        return Err(too_long(what));
    }
    // SAFETY: not NULL, of a valid length, and readable as the caller promises.
    Ok(unsafe { std::slice::from_raw_parts(ptr, len) })
}

/// # Safety
/// As [`bytes`]; with [`NUL_TERMINATED`], `ptr` is NULL or points to a NUL-terminated text.
#[inline(always)]
pub(super) unsafe fn text<'a>(
    ptr: *const c_char,
    len: usize,
    what: &str,
) -> Result<&'a [u8], Failure> {
    if len != NUL_TERMINATED {
        // SAFETY: the caller promises the same.
        return unsafe { bytes(ptr.cast(), len, what) };
    }
    if ptr.is_null() {
        return Err(null(what));
    }
    // SAFETY: not NULL, and terminated as the caller promises.
    Ok(unsafe { CStr::from_ptr(ptr) }.to_bytes())
}

/// # Safety
/// `ptr` is NULL or a live handle of this library.
#[inline(always)]
pub(super) unsafe fn handle<'a, T>(ptr: *const T, what: &str) -> Result<&'a T, Failure> {
    // SAFETY: NULL is `None`; any other pointer is live, as the caller promises.
    unsafe { ptr.as_ref() }.ok_or_else(|| null(what))
}

/// The caller's pointer to a new handle; NULL until it is set.
pub(super) struct HandleOut<T>(*mut *mut T);

impl<T> HandleOut<T> {
    /// # Safety
    /// `out` is NULL or points to memory for one pointer.
    pub(super) unsafe fn new(out: *mut *mut T, what: &str) -> Result<Self, Failure> {
        if out.is_null() {
            return Err(null(what));
        }
        // SAFETY: not NULL, and writable as the caller promises; need not be aligned.
        unsafe { out.write_unaligned(std::ptr::null_mut()) };
        Ok(Self(out))
    }

    pub(super) fn put(self, value: T) {
        // SAFETY: as in `new`.
        unsafe { self.0.write_unaligned(Box::into_raw(Box::new(value))) };
    }

    /// A handle of which [`share`] gives shares.
    pub(super) fn put_shared(self, value: T) {
        // SAFETY: as in `new`.
        unsafe { self.0.write_unaligned(Arc::into_raw(Arc::new(value)).cast_mut()) };
    }
}

/// A share in a handle, for a function during which another thread may free it.
///
/// # Safety
/// `ptr` is NULL or a live handle from [`HandleOut::put_shared`].
pub(super) unsafe fn share<T>(ptr: *const T, what: &str) -> Result<Arc<T>, Failure> {
    if ptr.is_null() {
        return Err(null(what));
    }
    // SAFETY: made by `Arc::into_raw`, and live, as the caller promises.
    unsafe {
        Arc::increment_strong_count(ptr);
        Ok(Arc::from_raw(ptr))
    }
}

/// # Safety
/// `ptr` is not NULL and came from [`HandleOut::put_shared`], and is not used later.
pub(super) unsafe fn free_shared<T>(ptr: *mut T) {
    // SAFETY: made by `Arc::into_raw`, and freed once, as the caller promises.
    drop(unsafe { Arc::from_raw(ptr) });
}

/// # Safety
/// `ptr` is NULL or came from [`HandleOut::put`], and nothing uses it now or later.
pub(super) unsafe fn free<T>(ptr: *mut T) {
    if !ptr.is_null() {
        // SAFETY: made by `Box::into_raw`, and freed once, as the caller promises.
        drop(unsafe { Box::from_raw(ptr) });
    }
}

/// The caller's public struct; all zeros until it is written.
pub(super) struct StructOut<T>(*mut T);

impl<T> StructOut<T> {
    /// # Safety
    /// `out` is NULL or points to memory for one `T`; all zeros are a valid `T`.
    pub(super) unsafe fn new(out: *mut T, what: &str) -> Result<Self, Failure> {
        if out.is_null() {
            return Err(null(what));
        }
        // SAFETY: not NULL, and writable as the caller promises; bytes need no alignment.
        unsafe { out.cast::<u8>().write_bytes(0, size_of::<T>()) };
        Ok(Self(out))
    }

    pub(super) fn write(self, value: T) {
        // SAFETY: as in `new`; need not be aligned.
        unsafe { self.0.write_unaligned(value) };
    }
}

/// The caller's buffer for a text; empty until it is written. It may be uninitialised and is never read.
pub(super) struct TextOut {
    out: *mut u8,
    cap: usize,
    len: *mut usize,
}

impl TextOut {
    /// Empties the buffer; a later failure leaves it empty.
    ///
    /// # Safety
    /// `out` is NULL or points to `cap` writable bytes, `len` is NULL or points to one `size_t`;
    /// neither overlaps an input of the same call.
    #[inline(always)]
    pub(super) unsafe fn new(
        out: *mut c_char,
        cap: usize,
        len: *mut usize,
        what: &str,
    ) -> Result<Self, Failure> {
        let this = Self { out: out.cast(), cap, len };
        this.set_len(0);
        if !out.is_null() && cap > 0 {
            // SAFETY: not NULL, with room for at least one byte.
            unsafe { this.out.write(0) };
        }
        if out.is_null() {
            return Err(null(what));
        }
        if len.is_null() {
            return Err(null_len(what));
        }
        if cap > isize::MAX as usize {
            return Err(too_long(what));
        }
        Ok(this)
    }

    /// Fails if the buffer has less than `size` bytes, including the NUL.
    #[inline(always)]
    pub(super) fn require(&self, size: usize) -> Result<(), Failure> {
        if self.cap >= size {
            return Ok(());
        }
        Err(self.too_small(size))
    }

    #[cold]
    #[inline(never)]
    fn too_small(&self, size: usize) -> Failure {
        self.set_len(size - 1);
        Failure::new(
            spike_auth_status::BufferTooSmall,
            format!(
                "The buffer has {} bytes, but {size} are needed, including the NUL. Pass a larger one.",
                self.cap
            ),
        )
    }

    /// Lets `write` write a text of exactly `N` bytes in place, so that no copy of it remains.
    #[inline(always)]
    pub(super) fn write_exact<const N: usize>(
        &self,
        write: impl FnOnce(&mut [u8; N]),
    ) -> Result<(), Failure> {
        self.require(N + 1)?;
        // SAFETY: `require` found room for N + 1 bytes. They are initialised before they are lent as an
        // array, and nothing else uses them meanwhile.
        let array = unsafe {
            self.out.write_bytes(0, N + 1);
            &mut *self.out.cast::<[u8; N]>()
        };
        write(array);
        self.set_len(N);
        Ok(())
    }

    /// Writes `text` and its NUL.
    pub(super) fn write(&self, text: &[u8]) -> Result<(), Failure> {
        self.write_both(&[], text)
    }

    /// Writes two texts, joined, and a NUL.
    #[inline]
    pub(super) fn write_both(&self, first: &[u8], second: &[u8]) -> Result<(), Failure> {
        let len = first.len() + second.len();
        self.require(len + 1)?;
        // SAFETY: `require` found room for both and the NUL; neither overlaps the buffer.
        unsafe {
            self.out.copy_from_nonoverlapping(first.as_ptr(), first.len());
            self.out.add(first.len()).copy_from_nonoverlapping(second.as_ptr(), second.len());
            self.out.add(len).write(0);
        }
        self.set_len(len);
        Ok(())
    }

    #[inline]
    fn set_len(&self, len: usize) {
        if !self.len.is_null() {
            // SAFETY: not NULL, and writable as `new` was promised; need not be aligned.
            unsafe { self.len.write_unaligned(len) };
        }
    }
}
