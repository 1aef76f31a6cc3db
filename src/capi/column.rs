//! The columns of bulk signing: ids in Arrow's layout, and rows of signatures.

use std::ffi::c_char;

use super::buffer::{null, too_long};
use super::error::Failure;
use super::status::spike_auth_status;
use crate::signing::SIGNATURE_LEN;
use crate::user_id::InvalidUserId;

/// User ids in Arrow's layout. The offsets are checked once, but each is read again later, and another thread
/// may have changed it: so every lookup is checked too.
pub(super) struct Column<'a> {
    ids: &'a [u8],
    offsets: *const i64,
    count: usize,
}

impl<'a> Column<'a> {
    /// # Safety
    /// `offsets` is NULL or points to `count + 1` readable numbers for as long as this lives.
    pub(super) unsafe fn new(
        ids: &'a [u8],
        offsets: *const i64,
        count: usize,
    ) -> Result<Self, Failure> {
        if count > isize::MAX as usize / SIGNATURE_LEN {
            return Err(Failure::new(
                spike_auth_status::InvalidArgument,
                "The count is larger than the memory can hold. Pass the number of ids.",
            ));
        }
        if offsets.is_null() && count > 0 {
            return Err(null("offsets"));
        }
        let this = Self { ids, offsets, count };
        match this.iter_checked().position(|id| id.is_none()) {
            None => Ok(this),
            Some(index) => Err(Failure::new(
                spike_auth_status::InvalidArgument,
                format!(
                    "The offsets of id {index} (counted from 0) are negative, decreasing, or beyond ids_len. \
                     Pass count + 1 offsets into ids."
                ),
            )),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.iter_checked().map(Option::unwrap_or_default)
    }

    fn iter_checked(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let Self { ids, offsets, count } = *self;
        let offset = move |index| {
            // SAFETY: `new` was promised `count + 1` offsets; `index` is at most `count`.
            usize::try_from(unsafe { offsets.add(index).read_unaligned() }).ok()
        };
        let mut start = if count > 0 { offset(0) } else { None };
        (1..=count).map(move |index| {
            let end = offset(index);
            let id = start.zip(end).and_then(|(start, end)| ids.get(start..end));
            start = end;
            id
        })
    }
}

/// # Safety
/// `signatures` is NULL or points to `cap` writable bytes.
pub(super) unsafe fn rows<'a>(
    signatures: *mut c_char,
    cap: usize,
    count: usize,
) -> Result<&'a mut [[u8; SIGNATURE_LEN]], Failure> {
    if count == 0 {
        return Ok(&mut []);
    }
    if signatures.is_null() {
        return Err(null("signatures"));
    }
    if cap > isize::MAX as usize {
        return Err(too_long("signatures"));
    }
    let needed = count * SIGNATURE_LEN; // `Column::new` bounds it
    if cap < needed {
        return Err(Failure::new(
            spike_auth_status::BufferTooSmall,
            format!(
                "The buffer for the signatures has {cap} bytes, but {needed} are needed. Pass a larger one."
            ),
        ));
    }
    let start = signatures.cast::<u8>();
    // SAFETY: not NULL and of at least `needed` bytes, which are initialised before they are lent as rows.
    unsafe {
        start.write_bytes(0, needed);
        Ok(std::slice::from_raw_parts_mut(start.cast(), count))
    }
}

/// The invalid ids of a bulk call.
#[derive(Default)]
pub(super) struct BadIds {
    count: usize,
    first: Option<(usize, InvalidUserId)>,
}

impl BadIds {
    pub(super) fn note(&mut self, index: usize, checked: Result<(), InvalidUserId>) {
        if let Err(flaw) = checked {
            self.count += 1;
            self.first.get_or_insert((index, flaw));
        }
    }

    pub(super) fn into_result(self, of: usize) -> Result<(), Failure> {
        let Some((index, flaw)) = self.first else {
            return Ok(());
        };
        Err(Failure::new(
            spike_auth_status::InvalidUserId,
            format!(
                "{} of {of} user ids are invalid and were not signed; the first is at index {index} \
                 (counted from 0): {flaw}.",
                self.count
            ),
        ))
    }
}
