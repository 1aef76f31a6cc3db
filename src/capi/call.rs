//! One call's own deadline and cancellation: a type so far, for the signatures that take it.

/// One call's own deadline and cancellation. This version has no function that makes one: pass NULL,
/// which means the client's defaults. Anything else is SPIKE_AUTH_STATUS_INVALID_ARGUMENT.
pub struct spike_auth_call {
    _private: (),
}
