//! ureq's input and output buffers, wiped on drop.

use ureq::unversioned::transport::Buffers;
use zeroize::Zeroize;

use super::limits::HEAD_MAX;

/// Larger than the largest accepted head, so that a full buffer means a response that is too large.
const INPUT: usize = HEAD_MAX + 4096;
/// The head of a request with the longest user agent, or its body with the longest user id.
const OUTPUT: usize = 4096;

/// In use they are wiped with plain stores, which the compiler keeps because the buffers are used later.
/// Volatile stores, byte by byte, would noticeably slow an exchange.
pub(crate) struct WipedBuffers {
    input: Box<[u8]>,
    /// The unread part of `input`.
    start: usize,
    end: usize,
    /// Whether the last parse consumed any input.
    progress: bool,
    output: Box<[u8]>,
    /// Parts of a request that ureq has passed and that are not yet sent.
    pending: Vec<u8>,
}

impl WipedBuffers {
    pub(crate) fn new() -> Self {
        Self {
            input: vec![0; INPUT].into(),
            start: 0,
            end: 0,
            progress: false,
            output: vec![0; OUTPUT].into(),
            pending: Vec::with_capacity(OUTPUT),
        }
    }

    /// Keeps the first `amount` bytes of the output for [`WipedBuffers::pending`], so that head and body are
    /// sent in one packet, with one system call and in one TLS record.
    pub(crate) fn hold_back(&mut self, amount: usize) {
        let written = self.output.get_mut(..amount).unwrap_or_default();
        self.pending.extend_from_slice(written);
        written.fill(0);
    }

    /// The output that was held back. Wipe it with [`WipedBuffers::wipe_pending`].
    pub(crate) fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// The first `amount` bytes that are about to be appended to the input.
    pub(crate) fn appendix(&self, amount: usize) -> &[u8] {
        let end = self.end.saturating_add(amount);
        self.input.get(self.end..end).unwrap_or_default()
    }

    pub(crate) fn wipe_pending(&mut self) {
        self.pending.fill(0);
        self.pending.clear();
    }
}

impl Buffers for WipedBuffers {
    fn output(&mut self) -> &mut [u8] {
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        self.input.get(self.start..self.end).unwrap_or_default()
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        if self.start > 0 {
            let left = self.end - self.start;
            self.input.copy_within(self.start..self.end, 0);
            self.input.get_mut(left..self.end).unwrap_or_default().fill(0);
            (self.start, self.end) = (0, left);
        }
        self.input.get_mut(self.end..).unwrap_or_default()
    }

    fn input_appended(&mut self, amount: usize) {
        self.end = (self.end + amount).min(self.input.len());
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        let consumed = self.start..(self.start + amount).min(self.end);
        self.start = consumed.end;
        // It may have been a part of a token.
        self.input.get_mut(consumed).unwrap_or_default().fill(0);
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        (self.input.get_mut(self.end..).unwrap_or_default(), &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        self.start < self.end && self.progress
    }
}

impl Drop for WipedBuffers {
    fn drop(&mut self) {
        self.input.zeroize();
        self.output.zeroize();
        self.pending.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(buffers: &mut WipedBuffers, bytes: &[u8]) {
        buffers.input_append_buf()[..bytes.len()].copy_from_slice(bytes);
        buffers.input_appended(bytes.len());
    }

    #[test]
    fn consumed_input_is_wiped_and_the_rest_stays() {
        let mut buffers = WipedBuffers::new();
        append(&mut buffers, b"secret, rest");
        buffers.input_consume(8);
        assert_eq!(buffers.input(), b"rest");
        assert_eq!(&buffers.input[..8], &[0; 8]);
        append(&mut buffers, b" and more");
        assert_eq!(buffers.input(), b"rest and more");
    }

    #[test]
    fn input_without_progress_needs_more() {
        let mut buffers = WipedBuffers::new();
        append(&mut buffers, b"HTT");
        buffers.input_consume(0);
        assert!(!buffers.can_use_input());
        buffers.input_consume(1);
        assert!(buffers.can_use_input());
    }

    #[test]
    fn parts_that_were_held_back_are_joined_and_wiped() {
        let mut buffers = WipedBuffers::new();
        buffers.output()[..4].copy_from_slice(b"head");
        buffers.hold_back(4);
        assert_eq!(&buffers.output()[..4], &[0; 4]);
        buffers.output()[..4].copy_from_slice(b"body");
        buffers.hold_back(4);
        assert_eq!(buffers.pending(), b"headbody");
        buffers.wipe_pending();
        assert_eq!(buffers.pending(), b"");
    }

    #[test]
    fn a_full_input_has_no_room_left() {
        let mut buffers = WipedBuffers::new();
        append(&mut buffers, &[b'x'; INPUT]);
        assert!(buffers.input_append_buf().is_empty());
    }
}
