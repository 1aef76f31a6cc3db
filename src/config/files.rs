//! Reading small files.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use crate::descriptor::above_stdio;

/// The content of a regular file of at most `max` bytes that passes `check`, or why it cannot be used.
/// Refuses pipes and devices, which could block. Leaves no other copy in memory.
pub(crate) fn read_small(
    path: &Path,
    max: u64,
    check: impl Fn(&Metadata) -> Result<(), &'static str>,
) -> Result<Vec<u8>, String> {
    let file = open(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".into());
    }
    if metadata.len() > max {
        return Err(format!("it has more than {max} bytes"));
    }
    check(&metadata)?;
    // Allocated in full: a growing buffer would leave copies of a key behind.
    let mut content = Zeroizing::new(Vec::with_capacity(max.min(metadata.len() + 1) as usize));
    file.take(max + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    Ok(std::mem::take(&mut *content))
}

fn open(path: &Path) -> std::io::Result<File> {
    // O_NONBLOCK: opening a pipe without a writer would block.
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).and_then(above_stdio)
}

/// The content of a file that only its owner can write to, without the newline that an editor or `echo` adds.
pub(super) fn read_secret(path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut content = Zeroizing::new(read_small(path, max, check_private)?);
    for end in [b'\n', b'\r'] {
        if content.last() != Some(&end) {
            break;
        }
        content.pop();
    }
    Ok(content)
}

/// A user who can write to the key file can choose the key.
fn check_private(metadata: &Metadata) -> Result<(), &'static str> {
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err("its group or others can write to it (make it private with chmod go-w)");
    }
    Ok(())
}
