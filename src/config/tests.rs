use super::*;

#[test]
fn timeouts_have_bounds_and_zero_is_the_default() {
    let mut config = Config::new().unwrap();
    for good in [1, 600_000] {
        config.set_timeout_ms(good).unwrap();
        assert_eq!(config.timeout.as_millis(), u128::from(good));
    }
    for bad in [600_001, u32::MAX] {
        assert_eq!(config.set_timeout_ms(bad).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(config.set_connect_timeout_ms(bad).is_err());
    }
    assert_eq!(config.timeout.as_millis(), 600_000, "a failed setter changes nothing");
    config.set_timeout_ms(0).unwrap();
    assert_eq!(config.timeout, DEFAULT_TIMEOUT);
}

#[test]
fn an_operation_of_the_store_takes_at_most_ten_seconds() {
    let mut config = Config::new().unwrap();
    for (ms, expected) in [(1, 1), (10_000, 10_000), (0, 250)] {
        config.set_store_timeout_ms(ms).unwrap();
        assert_eq!(config.store_timeout.as_millis(), expected);
    }
    let error = config.set_store_timeout_ms(10_001).unwrap_err();
    assert!(error.message().contains("10000 (ten seconds)"), "{error}");
}

#[test]
fn a_connect_timeout_that_was_set_must_fit_into_the_total() {
    let mut config = Config::new().unwrap();
    config.set_timeout_ms(50).unwrap();
    assert_eq!(config.checked_connect_timeout().unwrap(), DEFAULT_CONNECT_TIMEOUT);
    config.set_connect_timeout_ms(51).unwrap();
    let error = config.checked_connect_timeout().unwrap_err();
    assert!(error.message().contains("51 ms") && error.message().contains("50 ms"));
    config.set_connect_timeout_ms(0).unwrap();
    assert!(config.checked_connect_timeout().is_ok());
}

#[test]
fn the_user_agent_accepts_no_control_characters() {
    let mut config = Config::new().unwrap();
    config.set_user_agent(b"shop/1.2 (eu)").unwrap();
    assert!(config.user_agent.starts_with(concat!("spike_auth/", env!("CARGO_PKG_VERSION"), " (")));
    assert!(config.user_agent.ends_with(") shop/1.2 (eu)"));
    for bad in [&b"a\r\nb"[..], b"a\0", b"a\x7f", "\u{e9}".as_bytes(), &[b'a'; 257]] {
        assert_eq!(config.set_user_agent(bad).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    config.set_user_agent(b"").unwrap();
    assert!(config.user_agent.ends_with(')'));
}
