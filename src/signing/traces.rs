//! What a secret leaves behind outside its place: on the stack, and in registers.
//!
//! No code can name these copies, but a core dump has them: it has each thread's stack and registers. Later
//! values with padding carry what is on the stack into the heap, and the dynamic linker stores registers on
//! the stack.

use std::hint::black_box;

use zeroize::Zeroize;

/// More than any work here uses.
const STACK_WORDS: usize = 512;
/// Takes as many registers as memcpy(3) uses for a short copy: eight of 32 bytes.
const COPY: usize = 256;

/// Does `work`, and then overwrites the stack and the registers that it used. Some 700 instructions.
pub(super) fn without_traces<T>(work: impl FnOnce() -> T) -> T {
    let done = apart(work);
    wipe_stack();
    clear_registers();
    done
}

/// Both are called from one frame, so the wiping begins where the work began.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn wipe_stack() {
    [0u64; STACK_WORDS].zeroize();
    // memcpy(3) leaves what it copied in registers of its choice. An unknown length makes a call of it.
    let mut copy = [0u8; COPY];
    let len = black_box(COPY);
    copy.get_mut(..len)
        .unwrap_or_default()
        .copy_from_slice(black_box(&[0; COPY]).get(..len).unwrap_or_default());
    black_box(&copy);
}

/// Clears the vector registers, where the compression function has its states. They would stay there until
/// other code needs these registers, which may be much later. 16 instructions, which need no execution unit.
/// Does nothing on processors other than x86-64.
#[inline(always)]
#[allow(unsafe_code)] // no safe instruction writes a given register
pub(super) fn clear_registers() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: this convention lets a function change all of these registers, and no memory is touched.
    unsafe {
        std::arch::asm!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "xorps xmm\\n, xmm\\n",
            ".endr",
            clobber_abi("sysv64"),
            options(nomem, nostack, preserves_flags)
        );
    }
}
