//! Errors that more than one file reports.

use crate::error::{Error, ErrorKind};

pub(crate) fn too_large() -> Error {
    Error::new(
        ErrorKind::ResponseTooLarge,
        "The response is too large: more than 64 KiB of body, 16 KiB of headers, 128 headers, or 1 MiB in \
         all. Check that the base URL is the service's, and that nothing in between answers instead.",
    )
}
