#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| spike_auth::fuzzing::signing(data));
