//! The part that every HMAC-SHA256 with a prepared key needs: two SHA-256 compressions.
//!
//! No checks, no padding of the id, no hex, no errors: nothing but the hashing.

use sha2::block_api::compress256;

type State = [u32; 8];
type Block = [u8; 64];

/// How many ids the second function takes at once, like bulk signing.
const SIDE_BY_SIDE: usize = 8;

/// The two compressions of one signature: of the padded id, then of that digest.
///
/// # Safety
/// All four are valid pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn limit_two_compressions(
    inner: &State,
    outer: &State,
    block: &Block,
    out: &mut State,
) {
    let mut state = *inner;
    compress256(&mut state, std::slice::from_ref(block));
    *out = *outer;
    compress256(out, &[second_block(&state)]);
}

/// The same for eight ids, step by step over all of them, so that the processor overlaps them.
///
/// # Safety
/// `blocks` and `out` are arrays of eight; all are valid pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn limit_two_compressions_of_eight(
    inner: &State,
    outer: &State,
    blocks: &[Block; SIDE_BY_SIDE],
    out: &mut [State; SIDE_BY_SIDE],
) {
    let mut states = [*inner; SIDE_BY_SIDE];
    for (state, block) in states.iter_mut().zip(blocks) {
        compress256(state, std::slice::from_ref(block));
    }
    let second = states.map(|state| second_block(&state));
    *out = [*outer; SIDE_BY_SIDE];
    for (state, block) in out.iter_mut().zip(&second) {
        compress256(state, std::slice::from_ref(block));
    }
}

#[inline]
fn second_block(digest: &State) -> Block {
    let mut block = [0; 64];
    for (bytes, word) in block.chunks_exact_mut(4).zip(digest) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    block[32] = 0x80;
    block[62] = 0x03; // (64 + 32) * 8 bits
    block
}
