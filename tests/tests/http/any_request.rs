//! Whatever a client sends, the server answers with less than 500 and lives.

use headwater::query::HttpLimits;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::world::{Setup, World, request};

const CASES: u32 = 600;

fn runner() -> TestRunner {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn world() -> World {
    let world = World::with(Setup { limits: HttpLimits::default(), ..Setup::default() });
    for n in 0..20_i64 {
        world.put("numbers", &(n - 10).to_be_bytes(), b"v");
        world.put("names", format!("name {n}").as_bytes(), b"v");
    }
    world.put_windows(b"ada", &[0, 60_000, i64::MAX / 4]);
    world
}

/// One segment of a path: a word of the API, an escape, or anything a request line can hold.
fn segment() -> impl Strategy<Value = String> {
    let words = vec![
        "stores", "apps", "shop", "names", "numbers", "visits", "blobs", "keys", "range",
        "windows", "topics", "orders", "records", "tasks", "topology", "ada", "-5", "%2F", "%FF",
        "%", "..", "",
    ];
    prop_oneof![
        4 => select(words).prop_map(str::to_owned),
        1 => "[!-~]{0,12}".prop_map(|s| s.replace(['?', '#'], "")),
        1 => "(%[0-9A-F]{2}){1,6}",
    ]
}

fn pair() -> impl Strategy<Value = String> {
    let names = vec![
        "from",
        "to",
        "limit",
        "cursor",
        "encoding",
        "format",
        "partition",
        "offset",
        "key",
        "",
    ];
    let values = vec![
        "0",
        "1",
        "-1",
        "9223372036854775807",
        "-9223372036854775808",
        "base64",
        "text",
        "AAAA",
        "AQAAAAAAAAAA",
        "2026-11-21T10:00:00Z",
        "%00",
        "%zz",
        "a",
        "",
    ];
    let value = prop_oneof![3 => select(values).prop_map(str::to_owned), 1 => "[!-~]{0,16}"];
    (select(names), value).prop_map(|(name, value)| format!("{name}={value}"))
}

fn address() -> impl Strategy<Value = String> {
    let path = prop::collection::vec(segment(), 0..7);
    let query = prop::collection::vec(pair(), 0..4);
    (path, query).prop_map(|(path, query)| {
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/{}{mark}{}", path.join("/"), query.join("&"))
    })
}

/// JSON that looks like a record, JSON that does not, and bytes.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let word = select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "1",
        "-1",
        "1e999",
        "\"key\"",
        "\"value\"",
        "\"keyBase64\"",
        "\"valueBase64\"",
        "\"timestamp\"",
        "\"partition\"",
        "\"headers\"",
        "\"name\"",
        "\"\\ud800\"",
        "\"AA==\"",
        " ",
    ]);
    let field = (
        select(vec!["key", "keyBase64", "value", "valueBase64", "timestamp", "partition"]),
        select(vec!["null", "1", "-1", "\"a\"", "\"AA==\"", "[]", "9223372036854775807", "1.5"]),
    );
    let field = field.prop_map(|(name, value)| format!("\"{name}\":{value}"));
    let record =
        prop::collection::vec(field, 0..5).prop_map(|all| format!("{{{}}}", all.join(",")));
    prop_oneof![
        prop::collection::vec(word, 0..20).prop_map(|words| words.concat().into_bytes()),
        record.prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..200),
    ]
}

#[test]
fn no_address_makes_the_server_fail() {
    let world = world();
    let methods = select(vec!["GET", "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "BREW"]);
    let checked = runner().run(&(methods, address()), |(method, address)| {
        let reply = request(world.address(), &format!("{method} {address} HTTP/1.1"), &[], b"");
        prop_assert!(
            (200..500).contains(&reply.status) && reply.status != 408,
            "{method} {address}: {} {}",
            reply.head,
            String::from_utf8_lossy(&reply.body)
        );
        Ok(())
    });
    checked.expect("every address is answered");
}

#[test]
fn no_body_makes_the_server_fail() {
    let world = world();
    let checked = runner().run(&body(), |body| {
        let reply = world.post("/topics/orders/records", &body);
        prop_assert!(
            matches!(reply.status, 200 | 400 | 404 | 422),
            "{}: {} {}",
            String::from_utf8_lossy(&body),
            reply.head,
            String::from_utf8_lossy(&reply.body)
        );
        Ok(())
    });
    checked.expect("every body is answered");
}
