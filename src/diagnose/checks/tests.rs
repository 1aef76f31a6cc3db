use super::super::report;
use super::*;
use crate::config::Config;
use crate::net::Certificate;

fn known(set: impl FnOnce(&mut Config)) -> Known {
    let mut config = Config::new().unwrap();
    config.set_application_id(b"9999").unwrap();
    set(&mut config);
    Known::new(&config)
}

fn json(check: Check) -> serde_json::Value {
    let report = report::json(&[check], None);
    serde_json::from_str::<serde_json::Value>(&report).unwrap()["checks"][0].take()
}

fn of_key(bytes: &[u8]) -> serde_json::Value {
    let mut config = Config::new().unwrap();
    config.set_hmac_key(bytes).unwrap();
    json(key(Some(config.key.unwrap().shape), "SPIKE_HMAC_KEY", true))
}

#[test]
fn the_longest_settings() {
    let name = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(61));
    let known = known(|config| {
        let long = |start: &str, end: &str| format!("{start}{name}:65535{end}").into_bytes();
        config.set_application_id(&[b'x'; 64]).unwrap();
        config.set_hmac_key(&[b'k'; 4096]).unwrap();
        let path = "/\u{62}".repeat(700);
        config.set_base_url(&long("https://", &path)).unwrap();
        config.set_proxy(&long("http://user:hunter2@", "")).unwrap();
        config.set_store(&long("rediss://user:hunter2@", "/15")).unwrap();
        config.set_user_agent(&[b'"'; 256]).unwrap();
        config.set_cache_max_bytes(u64::MAX);
        config.set_cache_ttl_ms(u64::MAX);
        config.set_cache_capacity(u32::MAX);
        config.set_max_rate(u32::MAX);
    });
    let check = json(settings(&known));
    let text = check.to_string();
    assert!(text.len() < report::tests::SETTINGS_MAX, "{}", text.len());
    assert!(
        !text.contains("hunter2") && !text.contains("kkkk") && !text.contains("xxxx"),
        "{text}"
    );
    let of = |name: &str| {
        let list = check["settings"].as_array().unwrap();
        let found = list.iter().find(|setting| setting["name"] == name).unwrap();
        (found["value"].as_str().unwrap().to_owned(), found["from"].as_str().unwrap().to_owned())
    };
    assert_eq!(of("hmac_key"), ("4096 bytes".into(), "program".into()));
    assert_eq!(of("application_id"), ("not a number, 64 characters".into(), "program".into()));
    assert_eq!(of("timeout_ms"), ("10000".into(), "default".into()));
    assert!(of("proxy").0.ends_with(":65535, with a login"));
    assert!(json(proxy(&known)).to_string().len() < 1000);
}

#[test]
fn a_key_that_was_copied_wrongly_has_a_cure() {
    for (bytes, cure) in [
        (&b"key"[..], ""),
        (b"key with a blank", ""),
        (b"key\n", "Remove the newline at the end of the key (from SPIKE_HMAC_KEY)."),
        (b"key\r\n", "Remove the newline"),
        (b"key ", "Remove the blank at the end"),
        (b"\tkey", "Remove the blank at the start"),
        (b"\"key\"", "Remove the quotation marks"),
        (b"\"", ""),
        (
            &[0xDE, 0xAD, 0xBE, 0xEF],
            "without decoding it from hex or base64 (from SPIKE_HMAC_KEY).",
        ),
        ("k\u{e9}y".as_bytes(), "without decoding"),
        (
            "\u{feff}key".as_bytes(),
            "Remove the invisible character at the start or end of the key (",
        ),
        ("key\u{a0}".as_bytes(), "Remove the invisible character"),
        ("key\u{200b}".as_bytes(), "Remove the invisible character"),
        (b"\xC2\xA0\xFF", "without decoding"),
    ] {
        let check = of_key(bytes);
        assert_eq!(check["length"], bytes.len());
        assert_eq!(check["status"], if cure.is_empty() { "ok" } else { "warning" });
        assert!(check["cure"].as_str().unwrap_or_default().contains(cure), "{check}");
    }
    assert_eq!(json(key(None, "", true))["status"], "failed");
    assert_eq!(json(key(None, "", false))["status"], "skipped");
}

#[test]
fn a_clock_that_is_off_by_more_than_five_minutes_fails() {
    for (ahead, status) in [
        (0, "ok"),
        (-30, "ok"),
        (31, "warning"),
        (-300, "warning"),
        (301, "failed"),
        (-86_400, "failed"),
    ] {
        let check = json(clock(Some(ahead)));
        assert_eq!((&check["status"], &check["ahead_s"]), (&status.into(), &ahead.into()));
    }
    assert_eq!(json(clock(None))["status"], "skipped");
}

#[test]
fn a_refused_key_that_looks_wrong_is_the_first_thing_to_mend() {
    let error = |what| Error::new(ErrorKind::Unauthorized, what).with_cure("Check both.");
    let odd = || Check::warning("key", "odd", "Remove it.".into());
    let refused = || Check::of_error("exchange", &error("401"), "");
    let lost = || Check::of_error("resolve", &error("lost"), "");
    assert_eq!(first_cure(&[odd(), refused()], true), Some("Remove it."));
    assert_eq!(first_cure(&[odd(), refused()], false), Some("Check both."));
    assert_eq!(first_cure(&[Check::ok("key", ""), refused()], true), Some("Check both."));
    assert_eq!(first_cure(&[odd(), lost(), refused()], true), Some("Check both."));
    assert_eq!(first_cure(&[odd()], false), None);
}

#[test]
fn a_failure_says_where_its_settings_come_from() {
    let known = known(|_| ());
    let cure = |kind| json(of_error("exchange", &Error::new(kind, "It").with_cure("Do."), &known));
    let refused = cure(ErrorKind::Unauthorized);
    assert_eq!(refused["cure"], "Do. The application id comes from the program.");
    assert_eq!(cure(ErrorKind::Refused)["cure"], "Do.", "the default is not named");
    assert_eq!(cure(ErrorKind::Timeout)["cure"], "Do.");
}

#[test]
fn the_reason_for_a_proxy_or_none() {
    let https = "https://example.com";
    for (url, own, expected, place) in [
        ("http://localhost", None, "Plain http goes to this machine", "none"),
        (https, Some("http://p:1"), "Through the proxy p:1. The program set it.", "p:1"),
        (https, Some("http://u:pw@[::1]:1"), "the proxy [::1]:1, with a login.", "[::1]:1"),
        (https, Some(""), "No proxy. The program set none.", "none"),
        (https, None, "No proxy. The environment names none.", "none"),
    ] {
        let known = known(|config| {
            config.set_base_url(url.as_bytes()).unwrap();
            if let Some(own) = own {
                config.set_proxy(own.as_bytes()).unwrap();
            }
        });
        let check = json(proxy(&known));
        assert!(check["message"].as_str().unwrap().contains(expected), "{check}");
        assert_eq!(check["proxy"], place);
    }
}

fn https_route(certificate: Certificate, addresses: Vec<SocketAddr>) -> Route {
    let facts = TlsFacts {
        version: "TLS 1.3",
        certificate,
        roots: 7,
        roots_from: "the CA that was set".into(),
    };
    Route {
        first: "example.com:443".into(),
        resolve: Step::Done(addresses, Duration::ZERO),
        connect: Step::NotTried,
        tls: Step::Done(Some(facts), Duration::ZERO),
    }
}

#[test]
fn a_certificate_that_ends_within_two_weeks_is_a_warning() {
    let (now, day) = (SystemTime::UNIX_EPOCH, Duration::from_secs(24 * 60 * 60));
    for (left, status, days) in [
        (Some(day * 14), "ok", 14.into()),
        (Some(day * 14 - Duration::from_secs(1)), "warning", 13.into()),
        (Some(Duration::ZERO), "warning", 0.into()),
        (None, "ok", serde_json::Value::Null),
    ] {
        let not_after = left.map(|left| now + left);
        let certificate = Certificate { issuer: "A \"CA\"\u{1b}".into(), not_after };
        let check = json(tls(&https_route(certificate, vec![]), &known(|_| ()), now));
        assert_eq!((&check["status"], &check["days_left"]), (&status.into(), &days), "{check}");
        assert_eq!((&check["issuer"], &check["roots"]), (&"A \"CA\"?".into(), &7.into()));
        assert_eq!(check["roots_from"], "the CA that was set");
    }
}

#[test]
fn of_many_addresses_the_first_are_listed() {
    let address = |last: u16| SocketAddr::from(([0xFFFF, 1, 2, 3, 4, 5, 6, last], 443));
    for (count, listed, end) in [
        (1, 1, "6:0."),
        (16, 16, "6:f."),
        (17, 16, "6:f and 1 more."),
        (100, 16, "6:f and 84 more."),
    ] {
        let addresses = (0..count).map(address).collect();
        let check = json(resolve(&https_route(Certificate::default(), addresses), &known(|_| ())));
        assert_eq!(check["addresses"].as_array().unwrap().len(), listed);
        assert_eq!(check["addresses"][0], "ffff:1:2:3:4:5:6:0");
        let message = check["message"].as_str().unwrap();
        assert!(message.ends_with(end), "{message}");
    }
}
