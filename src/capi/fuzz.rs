//! The oracle for the C surface of signing: lengths, capacities, NULLs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "an oracle panics")]

mod memory;

use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use super::buffer::NUL_TERMINATED;
use super::status::spike_auth_status::{
    self as Status, BufferTooSmall, InvalidArgument, InvalidKey, InvalidSignature, InvalidUserId,
    NullPointer, SignatureMismatch,
};
use super::*;
use crate::signing::{HmacKey, KEY_MAX, Key, SIGNATURE_LEN};
use crate::user_id::UserId;
use memory::{Detail, Guarded, TextArguments};

const TOO_LONG: usize = isize::MAX as usize + 1;

/// `data`: which pointers are NULL, which lengths are special, capacities; then a key and user ids.
pub fn signing(data: &[u8]) {
    let case = Case::new(data);
    case.sign_user();
    case.verify_user();
    case.client_sign_user();
    case.client_sign_users();
}

/// Pointers and lengths as a C program may pass them.
struct Case<'a> {
    nulls: u8,
    cap: usize,
    key: Box<[u8]>,
    key_len: usize,
    /// With a NUL at its end.
    user: Box<[u8]>,
    user_len: usize,
    count: usize,
    deltas: &'a [u8],
}

impl<'a> Case<'a> {
    fn new(data: &'a [u8]) -> Self {
        let head: [u8; 6] = std::array::from_fn(|at| data.get(at).copied().unwrap_or_default());
        let [nulls, lens, cap, key, user, count] = head;
        let rest = data.get(head.len()..).unwrap_or_default();
        let (key, rest) = rest.split_at(usize::from(key).min(rest.len()));
        let (user, deltas) = rest.split_at(usize::from(user).min(rest.len()));
        let key: Box<[u8]> = if lens & 0x80 != 0 { key.repeat(40).into() } else { key.into() };
        Self {
            nulls,
            cap: [usize::from(cap), usize::from(cap) * 64, TOO_LONG, usize::MAX]
                [usize::from(lens & 3)],
            key_len: [key.len(), 0, TOO_LONG, usize::MAX][usize::from(lens >> 2 & 3)],
            user_len: [user.len(), 0, TOO_LONG, NUL_TERMINATED][usize::from(lens >> 4 & 3)],
            key,
            user: [user, b"\0"].concat().into(),
            count: usize::from(count % 20),
            deltas,
        }
    }

    fn is_null(&self, bit: u8) -> bool {
        self.nulls >> bit & 1 != 0
    }

    fn key(&self) -> *const u8 {
        if self.is_null(0) { null() } else { self.key.as_ptr() }
    }

    fn user(&self) -> *const c_char {
        if self.is_null(1) { null() } else { self.user.as_ptr().cast() }
    }

    /// The key, or every reason to refuse it.
    fn good_key(&self, faults: &mut Vec<Status>) -> &[u8] {
        let key = slice(self.key(), self.key_len, &self.key, faults).unwrap_or_default();
        if !(1..=KEY_MAX).contains(&key.len()) {
            faults.push(InvalidKey);
        }
        key
    }

    fn good_user(&self, faults: &mut Vec<Status>) -> Option<UserId<'_>> {
        let text = match self.user_len {
            NUL_TERMINATED if self.is_null(1) => slice(null(), 1, &self.user, faults),
            NUL_TERMINATED => Some(CStr::from_bytes_until_nul(&self.user).unwrap().to_bytes()),
            len => slice(self.user().cast(), len, &self.user, faults),
        };
        let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        let text =
            text.filter(|text| (1..=128).contains(&text.len()) && text.iter().all(is_allowed));
        if text.is_none() {
            faults.push(InvalidUserId);
        }
        text.map(|text| UserId::new(text).unwrap())
    }

    fn text_out(&self, faults: &mut Vec<Status>) -> TextArguments {
        let mut buffer = Guarded::new(self.cap);
        let mut len = Box::new(usize::MAX);
        let out = if self.is_null(2) { null_mut() } else { buffer.start() };
        let len_out: *mut usize = if self.is_null(3) { null_mut() } else { &raw mut *len };
        faults.extend((out.is_null() || len_out.is_null()).then_some(NullPointer));
        faults.extend((self.cap >= TOO_LONG).then_some(InvalidArgument));
        faults.extend((self.cap <= SIGNATURE_LEN).then_some(BufferTooSmall));
        TextArguments { buffer, len, out: out.cast(), len_out }
    }

    fn sign_user(&self) {
        let mut faults = Vec::new();
        let text = self.text_out(&mut faults);
        let (key, user) = (self.good_key(&mut faults), self.good_user(&mut faults));
        let mut detail = Detail::new(self.is_null(4));
        // SAFETY: each pointer is NULL, or leads to as much memory as its length says, or the length is
        // one that is refused.
        let status = unsafe {
            spike_auth_sign_user(
                self.key(),
                self.key_len,
                self.user(),
                self.user_len,
                text.out,
                self.cap,
                text.len_out,
                detail.place(),
            )
        };
        detail.check(status, &faults);
        text.check(status, || {
            let mut expected = [0; SIGNATURE_LEN];
            HmacKey::new(key).unwrap().sign(user.unwrap(), &mut expected);
            expected
        });
    }

    /// The signature is right, in capitals, or wrong in one character.
    fn verify_user(&self) {
        let mut faults = Vec::new();
        let (key, user) = (self.good_key(&mut faults), self.good_user(&mut faults));
        let mut signature = [b'0'; SIGNATURE_LEN];
        if let (Ok(key), Some(user)) = (Key::new(key), user) {
            key.sign(user, &mut signature);
        }
        let at = self.deltas.first().map_or(0, |byte| usize::from(*byte));
        let change = self.deltas.get(1).copied().unwrap_or_default();
        if change & 1 != 0 {
            signature.make_ascii_uppercase();
        }
        let before = signature[at % SIGNATURE_LEN];
        signature[at % SIGNATURE_LEN] ^= change & 0xFE;
        let now = signature[at % SIGNATURE_LEN];
        if !now.is_ascii_hexdigit() {
            faults.push(InvalidSignature);
        } else if !now.eq_ignore_ascii_case(&before) {
            faults.push(SignatureMismatch);
        }
        let len = [SIGNATURE_LEN, at.min(SIGNATURE_LEN), TOO_LONG, 0][usize::from(self.nulls >> 6)];
        let passed: Box<[u8]> = signature[..len.min(SIGNATURE_LEN)].into();
        let place = if self.is_null(2) { null() } else { passed.as_ptr() };
        let given = slice(place, len, &passed, &mut faults);
        faults.extend((given.map(<[u8]>::len) != Some(SIGNATURE_LEN)).then_some(InvalidSignature));
        let mut detail = Detail::new(self.is_null(4));
        // SAFETY: as above.
        let status = unsafe {
            spike_auth_verify_user(
                self.key(),
                self.key_len,
                self.user(),
                self.user_len,
                place.cast(),
                len,
                detail.place(),
            )
        };
        detail.check(status, &faults);
    }

    /// The client, with the case's key if that is one. Adds to the faults that it is NULL.
    fn client(&self, faults: &mut Vec<Status>) -> *const spike_auth_client {
        let (mut flaws, mut detail) = (Vec::new(), Detail::new(false));
        self.good_key(&mut flaws);
        // SAFETY: as above, and the client is never freed.
        let status = unsafe {
            spike_auth_client_set_hmac_key(client(), self.key(), self.key_len, detail.place())
        };
        detail.check(status, &flaws);
        faults.extend(self.is_null(5).then_some(NullPointer));
        if self.is_null(5) { null() } else { client() }
    }

    fn client_sign_user(&self) {
        let mut faults = Vec::new();
        let client = self.client(&mut faults);
        let text = self.text_out(&mut faults);
        let user = self.good_user(&mut faults);
        let mut detail = Detail::new(self.is_null(4));
        // SAFETY: as above.
        let status = unsafe {
            spike_auth_client_sign_user(
                client,
                self.user(),
                self.user_len,
                text.out,
                self.cap,
                text.len_out,
                detail.place(),
            )
        };
        detail.check(status, &faults);
        text.check(status, || self.client_signature(user.unwrap().as_bytes()));
    }

    /// By the other implementation; whatever it is, if the client has a key of before.
    fn client_signature(&self, user: &[u8]) -> [u8; SIGNATURE_LEN] {
        let mut expected = [0; SIGNATURE_LEN];
        let (key, user) = (self.good_key(&mut Vec::new()), UserId::new(user).unwrap());
        match Key::new(key) {
            Ok(key) => key.sign(user, &mut expected),
            Err(_) => {
                let out = expected.as_mut_ptr().cast();
                let (mut padded, mut len) = ([0; SIGNATURE_LEN + 1], 0);
                let id = user.as_bytes();
                // SAFETY: as above.
                let status = unsafe {
                    spike_auth_client_sign_user(
                        client(),
                        id.as_ptr().cast(),
                        id.len(),
                        padded.as_mut_ptr(),
                        padded.len(),
                        &raw mut len,
                        null_mut(),
                    )
                };
                assert_eq!(status, Status::Ok as i32);
                // SAFETY: both have that many bytes.
                unsafe { std::ptr::copy(padded.as_ptr(), out, SIGNATURE_LEN) };
            }
        }
        expected
    }

    fn client_sign_users(&self) {
        let mut faults = Vec::new();
        let client = self.client(&mut faults);
        let ids =
            slice(self.user().cast(), self.user_len, &self.user, &mut faults).unwrap_or_default();
        let offsets = self.offsets();
        // At an odd address.
        let bytes: Vec<u8> =
            [0].into_iter().chain(offsets.iter().flat_map(|at| at.to_ne_bytes())).collect();
        let bytes = bytes.into_boxed_slice();
        let offsets_at: *const i64 =
            if self.is_null(6) { null() } else { bytes[1..].as_ptr().cast() };
        let rows = self.rows(ids, &offsets);
        faults.extend((self.count > 0 && offsets_at.is_null()).then_some(NullPointer));
        faults.extend(rows.is_none().then_some(InvalidArgument));
        let mut signatures = Guarded::new(self.cap);
        let out = if self.is_null(2) { null_mut() } else { signatures.start() };
        if self.count > 0 {
            faults.extend(out.is_null().then_some(NullPointer));
            faults.extend((self.cap >= TOO_LONG).then_some(InvalidArgument));
            faults.extend((self.cap < self.count * SIGNATURE_LEN).then_some(BufferTooSmall));
        }
        let expected = rows.filter(|_| faults.is_empty());
        let rows = expected.clone().unwrap_or_default();
        faults.extend(rows.iter().any(Option::is_none).then_some(InvalidUserId));
        let mut statuses = Guarded::new(self.count * 4);
        let statuses_at = if self.is_null(7) { null_mut() } else { statuses.start() };
        let mut detail = Detail::new(self.is_null(4));
        // SAFETY: as above, and there are `count + 1` offsets and as many statuses as ids.
        let status = unsafe {
            spike_auth_client_sign_users(
                client,
                self.user(),
                self.user_len,
                offsets_at,
                self.count,
                out.cast(),
                self.cap,
                statuses_at.cast(),
                detail.place(),
            )
        };
        detail.check(status, &faults);
        let row =
            |row: &Option<&[u8]>| row.map_or([0; SIGNATURE_LEN], |id| self.client_signature(id));
        signatures.check(&rows.iter().flat_map(row).collect::<Vec<u8>>());
        let number =
            |row: &Option<&[u8]>| if row.is_some() { Status::Ok } else { InvalidUserId } as i32;
        let written = if statuses_at.is_null() { &[][..] } else { &rows };
        statuses
            .check(&written.iter().flat_map(|row| number(row).to_ne_bytes()).collect::<Vec<u8>>());
    }

    /// One more than there are ids. Most grow by a little, some shrink, some leap.
    fn offsets(&self) -> Vec<i64> {
        let deltas = self.deltas.iter().map(|byte| match byte {
            0xFF => i64::MAX,
            0xFE => i64::MIN,
            0xF0.. => -i64::from(byte & 15),
            byte => i64::from(byte & 0x3F),
        });
        let mut at = 0i64;
        let sums = deltas.map(|delta| {
            at = at.wrapping_add(delta);
            at
        });
        [0].into_iter()
            .chain(sums)
            .chain(std::iter::repeat(self.user.len() as i64))
            .take(self.count + 1)
            .collect()
    }

    /// The valid ids, and `None` for an invalid one; `None` if the offsets lead out of the ids.
    fn rows<'b>(&self, ids: &'b [u8], offsets: &[i64]) -> Option<Vec<Option<&'b [u8]>>> {
        let row = |pair: &[i64]| {
            let (start, end) = (usize::try_from(pair[0]).ok()?, usize::try_from(pair[1]).ok()?);
            let id = ids.get(start..end)?;
            Some(UserId::new(id).is_ok().then_some(id))
        };
        offsets.windows(2).map(row).collect()
    }
}

/// What a pointer and a length mean, or why they are refused.
fn slice<'a>(
    ptr: *const u8,
    len: usize,
    memory: &'a [u8],
    faults: &mut Vec<Status>,
) -> Option<&'a [u8]> {
    if len == 0 {
        return Some(&[]);
    }
    faults.extend(ptr.is_null().then_some(NullPointer));
    faults.extend((len >= TOO_LONG).then_some(InvalidArgument));
    if ptr.is_null() || len >= TOO_LONG { None } else { Some(&memory[..len]) }
}

/// A client that is never freed.
fn client() -> *const spike_auth_client {
    static CLIENT: OnceLock<usize> = OnceLock::new();
    let address = CLIENT.get_or_init(|| {
        let (mut config, mut client) = (null_mut(), null_mut());
        let url = c"http://localhost:1";
        // SAFETY: as the header says.
        unsafe {
            assert_eq!(spike_auth_config_new(&raw mut config, null_mut()), 0);
            assert_eq!(
                spike_auth_config_set_application_id(config, c"1".as_ptr(), 1, null_mut()),
                0
            );
            assert_eq!(spike_auth_config_set_hmac_key(config, b"k".as_ptr(), 1, null_mut()), 0);
            assert_eq!(
                spike_auth_config_set_base_url(config, url.as_ptr(), NUL_TERMINATED, null_mut()),
                0
            );
            assert_eq!(spike_auth_client_new(config, &raw mut client, null_mut()), 0);
            spike_auth_config_free(config);
        }
        client as usize
    });
    *address as *const spike_auth_client
}
