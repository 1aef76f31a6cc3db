//! The rules of the endpoint, and the control requests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{End, Sandbox, good_body, good_request, post, request, sign};
use serde_json::{Value, json};

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn a_good_request_receives_a_token_and_the_connection_is_kept() {
    let sandbox = Sandbox::start(&[]);
    let mut client = sandbox.connect();
    let first = client.exchange("user1");
    assert_eq!((first.status(), first.end), (200, End::Open));
    assert_eq!(first.header("content-type"), "application/json");
    assert!(first.header("date").ends_with("GMT"));
    assert_eq!(first.token().split('.').count(), 3);
    let second = first.json()["user_info"]["compat_application_client_token"].clone();
    assert!(second.as_str().unwrap().starts_with("compat-canary-"));
    assert_eq!(client.exchange("user1").token(), first.token());
    assert_ne!(client.exchange("user2").token(), first.token());
    let counters = sandbox.counters();
    assert_eq!(counters["requests"], 3);
    assert_eq!(counters["connections"], 1);
    assert_eq!(counters["tokens"], 3);
    assert_eq!(counters["users"], json!({"user1": 2, "user2": 1}));
}

#[test]
fn each_bad_request_receives_its_status() {
    let sandbox = Sandbox::start(&[]);
    let good = good_body("user1");
    let cases = [
        (404, request("POST", "/v3/auth/hmac2", JSON, &good)),
        (404, request("POST", "/auth/hmac", JSON, &good)),
        (405, request("GET", "/v3/auth/hmac", "", "")),
        (415, request("POST", "/v3/auth/hmac", "Content-Type: text/plain\r\n", &good)),
        (415, request("POST", "/v3/auth/hmac", "", &good)),
        (413, post(&" ".repeat(65_537))),
        (400, post("{")),
        (422, post("{}")),
        (422, post(&good.replace("9999", "\"9999\""))),
        (422, post(&good.replace('}', ",\"uts\":1}"))),
        (401, post(&good.replace("9999", "9998"))),
        (401, post(&good.replace("user1", "user2"))),
        (200, post(&good)),
    ];
    for (status, request) in cases {
        let mut client = sandbox.connect();
        client.send(&request);
        let reply = client.read_one();
        assert_eq!(reply.status(), status, "{request:.200}");
        if status != 200 {
            assert_eq!(reply.header("content-type"), "application/problem+json");
            assert_eq!(reply.json()["status"], status);
        }
        if status == 405 {
            assert_eq!(reply.header("allow"), "POST");
        }
    }
}

#[test]
fn a_422_echoes_what_it_refuses() {
    let sandbox = Sandbox::start(&[]);
    let ask = |body: &str| -> Value {
        let mut client = sandbox.connect();
        client.send(&post(body));
        client.read_one().json()["errors"][0].clone()
    };
    let upper = sign("user1").to_uppercase();
    let flaw = ask(&good_body("user1").replace(&sign("user1"), &upper));
    assert_eq!(
        (flaw["location"].clone(), flaw["value"].clone()),
        (json!("body.signature"), json!(upper))
    );
    let flaw = ask(&good_body("user1").replace('}', ",\"uts\":1}"));
    assert_eq!(flaw["value"]["signature"], json!(sign("user1")));
}

#[test]
fn another_application_id_may_be_text() {
    let sandbox = Sandbox::start(&["--application-id", "my-app"]);
    let text = good_body("user1").replace("9999", "\"my-app\"");
    let mut client = sandbox.connect();
    client.send(&post(&text));
    assert_eq!(client.read_one().status(), 200);
    assert_eq!(client.exchange("user1").status(), 422);
}

#[test]
fn the_last_request_is_shown_as_it_was_on_the_wire() {
    let sandbox = Sandbox::start(&[]);
    assert_eq!(sandbox.last(), Value::Null);
    let body = good_body("user1");
    let mut client = sandbox.connect();
    client.exchange("somebody");
    client.send(&request(
        "POST",
        "/v3/auth/hmac?x=1",
        "CONTENT-type: application/json\r\nx-B: 1\r\nX-b:2\r\n",
        &body,
    ));
    client.read_one();
    let length = body.len().to_string();
    let expected = json!({
        "method": "POST", "path": "/v3/auth/hmac?x=1", "body": body, "https": false, "connection": 1,
        "headers": [["Host", "sandbox"], ["CONTENT-type", "application/json"], ["x-B", "1"], ["X-b", "2"],
            ["Content-Length", length]],
    });
    assert_eq!(sandbox.last(), expected);
}

#[test]
fn requests_in_flight_are_counted_even_while_they_stall() {
    let sandbox = Sandbox::start(&[]);
    let mut stalled: Vec<_> = (0..3).map(|_| sandbox.connect()).collect();
    for client in &mut stalled {
        client.send(&good_request("fault.stall"));
    }
    wait_for(&sandbox, "in_flight", 3);
    drop(stalled.pop());
    wait_for(&sandbox, "in_flight", 2);
    assert_eq!(sandbox.counters()["max_in_flight"], 3);
    sandbox.control("POST", "reset", "");
    assert_eq!(sandbox.counters()["max_in_flight"], 2);
    drop(stalled);
    wait_for(&sandbox, "in_flight", 0);
}

fn wait_for(sandbox: &Sandbox, counter: &str, value: u64) {
    for _ in 0..200 {
        if sandbox.counters()[counter] == value {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{counter} is not {value}: {}", sandbox.counters());
}

#[test]
fn a_reset_zeroes_the_counters_and_begins_the_counts_of_faults_anew() {
    let sandbox = Sandbox::start(&[]);
    let statuses = || {
        [
            sandbox.connect().exchange("fault.status.500.x1").status(),
            sandbox.connect().exchange("fault.status.500.x1").status(),
        ]
    };
    assert_eq!(statuses(), [500, 200]);
    assert_eq!(sandbox.control("POST", "reset", "").0, 200);
    let counters = sandbox.counters();
    for name in ["requests", "connections", "tokens", "in_flight", "max_in_flight"] {
        assert_eq!(counters[name], 0, "{name}");
    }
    assert_eq!(counters["users"], json!({}));
    assert_eq!(sandbox.last(), Value::Null);
    assert_eq!(statuses(), [500, 200]);
}

#[test]
fn faults_can_be_set_and_removed_at_run_time() {
    let sandbox = Sandbox::start(&["--fault", "status:418", "--for-user", "bob=status:503*2"]);
    let statuses = |user| [(); 3].map(|()| sandbox.connect().exchange(user).status());
    assert_eq!(statuses("bob"), [503, 503, 200]);
    assert_eq!(statuses("alice"), [418, 418, 418]);
    // The user's own faults go before those of the id, and those before everyone's.
    assert_eq!(statuses("fault.status.404"), [404, 404, 404]);
    sandbox.set_faults(Some("fault.status.404"), "status:409");
    assert_eq!(statuses("fault.status.404"), [409, 409, 409]);
    sandbox.set_faults(Some("fault.status.404"), "");
    sandbox.set_faults(Some("alice"), "status:500*1");
    assert_eq!(statuses("alice"), [500, 200, 200]);
    sandbox.set_faults(None, "");
    assert_eq!(statuses("carol"), [200, 200, 200]);
    let (_, faults) = sandbox.control("GET", "faults", "");
    assert_eq!(
        faults,
        json!({"everyone": null, "users": {"alice": "status:500*1", "bob": "status:503*2"}})
    );
    let (_, faults) = sandbox.control("DELETE", "faults", "");
    assert_eq!(faults, json!({"everyone": null, "users": {}}));
}

#[test]
fn the_key_can_be_changed_at_run_time() {
    let sandbox = Sandbox::start(&[]);
    let status = || sandbox.connect().exchange("a").status();
    let set = |body: &str| assert_eq!(sandbox.control("POST", "key", body).0, 200);
    assert_eq!(status(), 200);
    set(r#"{"hmac_key":"another","keep_old":true}"#);
    assert_eq!(status(), 200);
    set(r#"{"hmac_key":"a third"}"#);
    assert_eq!(status(), 401);
    set(r#"{"hmac_key":"HMAC_KEY_FROM_ADMIN_CONSOLE"}"#);
    assert_eq!(status(), 200);
}

#[test]
fn a_bad_control_request_is_refused() {
    let sandbox = Sandbox::start(&[]);
    let status = |method, name, body| sandbox.control(method, name, body).0;
    assert_eq!(status("GET", "nope", ""), 404);
    assert_eq!(status("POST", "counters", ""), 405);
    assert_eq!(status("POST", "faults", "{}"), 400);
    assert_eq!(status("POST", "faults", r#"{"spec":"nope"}"#), 422);
    assert_eq!(status("POST", "key", "{}"), 400);
    assert_eq!(status("POST", "key", r#"{"hmac_key":""}"#), 422);
    assert_eq!(sandbox.counters()["connections"], 0);
}

#[test]
fn a_raw_fault_for_everyone_spoils_bad_requests_too_and_others_do_not() {
    let sandbox = Sandbox::start(&["--fault", "close-before"]);
    let bad = |fault: &str| {
        sandbox.set_faults(None, fault);
        let mut client = sandbox.connect();
        client.send(&post("{}"));
        client.read_all(std::time::Duration::from_millis(200))
    };
    let reply = bad("close-before");
    assert_eq!((reply.bytes.len(), reply.end), (0, End::Closed));
    assert_eq!(bad("html").status(), 422);
    let reply = bad("close-delimited");
    assert_eq!((reply.status(), reply.end), (422, End::Closed));
}

#[test]
fn tokens_are_fresh_and_replies_delayed_on_demand() {
    let sandbox = Sandbox::start(&["--fresh-tokens", "--delay-ms", "50"]);
    let (first, second) = (sandbox.connect().exchange("a"), sandbox.connect().exchange("a"));
    assert_ne!(first.token(), second.token());
    assert!(second.took.as_millis() >= 50);
}

#[test]
fn a_user_id_with_an_unknown_fault_is_refused() {
    let reply = Sandbox::start(&[]).connect().exchange("fault.nope");
    assert_eq!(reply.status(), 501);
    assert!(reply.json()["detail"].as_str().unwrap().contains("nope"));
}
