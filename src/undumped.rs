//! Memory that a core dump leaves out.

#![allow(unsafe_code)] // mmap(2), madvise(2), munmap(2)

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use zeroize::Zeroize;

use crate::error::{Error, ErrorKind};

/// A value in pages of its own, which a core dump leaves out; wiped on drop. A forked child has a copy with
/// the same mark. Moving it moves no secret. To make and to drop one takes three system calls, to use it a
/// load.
///
/// Where the system has no such mark (macOS) or refuses it (a seccomp filter), the value is in a dump like
/// any other memory. A client does not fail for that: the mark is a second line of defence.
pub(crate) struct Undumped<T: Zeroize>(NonNull<T>);

impl<T: Default + Zeroize> Undumped<T> {
    /// The default value. A secret is written in place afterwards: a value that is moved leaves a copy.
    /// Fails with [`ErrorKind::Internal`] if the system gives no page.
    pub(crate) fn new() -> Result<Self, Error> {
        // The system aligns a mapping to a page, and rounds its length up to pages.
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= 4096) };
        let place = map(size_of::<T>()).map_err(|error| refused(&error))?.cast::<T>();
        // SAFETY: the mapping is new, writable, aligned and large enough.
        unsafe { place.write(T::default()) };
        Ok(Self(place))
    }
}

impl<T: Zeroize> Deref for Undumped<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `new` wrote a value, and only `drop` unmaps it.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Zeroize> DerefMut for Undumped<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the value has this owner only.
        unsafe { self.0.as_mut() }
    }
}

impl<T: Zeroize> Drop for Undumped<T> {
    fn drop(&mut self) {
        self.zeroize();
        // SAFETY: the value is dropped once, and nothing refers to it any more; its pages came from mmap(2)
        // with this length. A failure leaves them mapped, and wiped.
        unsafe {
            ptr::drop_in_place(self.0.as_ptr());
            libc::munmap(self.0.as_ptr().cast(), size_of::<T>());
        }
    }
}

// SAFETY: it owns its value as a `Box` does.
unsafe impl<T: Zeroize + Send> Send for Undumped<T> {}
// SAFETY: as above.
unsafe impl<T: Zeroize + Sync> Sync for Undumped<T> {}

fn map(len: usize) -> io::Result<NonNull<libc::c_void>> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: the system chooses the place, so no memory in use changes; the mark changes no content.
    unsafe {
        let place = libc::mmap(ptr::null_mut(), len, rights, kind, -1, 0);
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        libc::madvise(place, len, libc::MADV_DONTDUMP);
        #[cfg(target_os = "freebsd")]
        libc::madvise(place, len, libc::MADV_NOCORE);
        NonNull::new(place).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

fn refused(error: &io::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!(
            "The operating system gives no memory for a key: {error}. Raise the limit of the process's \
             address space (ulimit -v) or of its mappings (vm.max_map_count)."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_and_read_in_place() {
        let mut value = Undumped::<[u64; 4]>::new().unwrap();
        assert_eq!(*value, [0; 4]);
        value[3] = 7;
        let place = ptr::from_ref(&*value);
        let moved = Box::new(value);
        assert_eq!((moved[3], ptr::from_ref(&**moved)), (7, place));
    }
}
