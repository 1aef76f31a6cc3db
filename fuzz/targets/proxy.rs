#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some(seen) = spike_auth::fuzzing::proxy(data) {
        spike_auth_fuzz::check_other_reading(&seen);
    }
});
