//! Questions about stores: keys, ranges, windows.

use std::collections::BTreeSet;

use headwater::serde::kafka_streams::partition_for;
use serde_json::{Value as Json, json};

use crate::world::{APPLICATION, PARTITIONS, Setup, VISITS, World};

fn names(world: &World, names: &[&str]) {
    for name in names {
        world.put("names", name.as_bytes(), name.to_uppercase().as_bytes());
    }
}

/// Every row of a listing, asked page by page.
fn all_pages(world: &World, path: &str, limit: usize) -> Vec<Json> {
    let join = if path.contains('?') { '&' } else { '?' };
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("{path}{join}limit={limit}{cursor}")).ok();
        let items = page["items"].as_array().expect("a listing");
        assert!(items.len() <= limit, "a page of {} with limit {limit}", items.len());
        rows.extend(items.iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

fn field<'j>(rows: &'j [Json], name: &str) -> Vec<&'j Json> {
    rows.iter().map(|row| &row[name]).collect()
}

#[test]
fn the_stores_are_listed_with_kind_windows_and_partitions() {
    let world = World::new();
    let stores = world.get("/stores").items();
    assert_eq!(field(&stores, "name"), ["names", "numbers", "blobs", "visits", "counts"]);
    assert_eq!(world.get("/stores/visits").ok(), stores[3]);
    assert_eq!(
        stores[3],
        json!({ "name": "visits", "kind": "window", "cached": false, "partitions": PARTITIONS,
                "windowSizeMs": VISITS.size_ms, "retentionMs": VISITS.retention_ms })
    );
    assert_eq!(stores[4]["kind"], "timestamped-key-value");
}

#[test]
fn a_key_is_answered_with_its_value_partition_and_input_position() {
    let world = World::new();
    names(&world, &["ada"]);
    let partition = partition_for(b"ada", PARTITIONS);
    assert_eq!(
        world.get("/stores/names/keys/ada").ok(),
        json!({ "key": "ada", "value": "ADA", "partition": partition,
                "asOf": [{ "topic": "orders", "partition": partition, "offset": 1 }] })
    );
}

#[test]
fn a_row_with_a_timestamp_shows_it() {
    let world = World::new();
    world.put_at("counts", b"ada", &7_i64.to_be_bytes(), 1_234);
    let row = world.get("/stores/counts/keys/ada").ok();
    assert_eq!((&row["value"], &row["timestamp"]), (&json!(7), &json!(1_234)));
}

#[test]
fn the_long_form_names_the_application() {
    let world = World::new();
    names(&world, &["ada"]);
    assert_eq!(world.get("/apps").items(), [APPLICATION]);
    let path = format!("/apps/{APPLICATION}/stores/names/keys/ada");
    assert_eq!(world.get(&path).ok()["value"], "ADA");
    let detail = world.get("/apps/other/stores").problem(404, "unknown-application");
    assert!(detail.contains("`other`") && detail.contains(APPLICATION), "{detail}");
}

#[test]
fn with_several_applications_the_short_form_asks_which() {
    let world = World::with(Setup { applications: vec!["a", "b"], ..Setup::default() });
    world.target.put("b", "names", b"k", b"v");
    let detail = world.get("/stores").problem(400, "application-needed");
    assert!(detail.contains("a, b"), "{detail}");
    assert_eq!(world.get("/apps/b/stores/names/keys/k").ok()["value"], "v");
    world.get("/apps/a/stores/names/keys/k").problem(404, "not-found");
}

#[test]
fn an_unknown_store_is_named_and_the_known_ones_listed() {
    let world = World::new();
    for path in ["", "/keys/a", "/range", "/windows/a"] {
        let reply = world.get(&format!("/stores/nomes{path}"));
        let detail = reply.problem(404, "unknown-store");
        assert!(detail.contains("`nomes`") && detail.contains("numbers"), "{detail}");
    }
}

#[test]
fn a_key_that_is_not_there_is_not_found() {
    let world = World::new();
    world.get("/stores/names/keys/ada").problem(404, "not-found");
    names(&world, &["ada"]);
    world.get("/stores/names/keys/adam").problem(404, "not-found");
}

#[test]
fn a_key_of_the_wrong_type_is_refused_with_the_way_out() {
    let world = World::new();
    world.put("numbers", &(-5_i64).to_be_bytes(), b"minus five");
    assert_eq!(world.get("/stores/numbers/keys/-5").ok()["key"], -5);
    for key in ["five", "5.0", "9223372036854775808", "%20", "5%00"] {
        let detail = world.get(&format!("/stores/numbers/keys/{key}")).problem(400, "invalid-key");
        assert!(detail.contains("encoding=base64"), "{detail}");
    }
    world.get("/stores/numbers/range?from=five").problem(400, "invalid-key");
    let detail = world.get("/stores/numbers/range?from=1&to=five").problem(400, "invalid-key");
    assert!(detail.contains("`five`"), "{detail}");
}

#[test]
fn keys_with_any_character_are_reached_by_percent_escapes() {
    let world = World::new();
    for (key, escaped) in [
        ("a/b", "a%2Fb"),
        ("a b", "a%20b"),
        ("a+b", "a+b"),
        ("100%", "100%25"),
        ("\u{e9}t\u{e9}", "%C3%A9t%C3%A9"),
        ("..", "%2E%2E"),
        ("a?b#c&d", "a%3Fb%23c%26d"),
        ("nul\0", "nul%00"),
    ] {
        world.put("names", key.as_bytes(), b"found");
        let row = world.get(&format!("/stores/names/keys/{escaped}")).ok();
        assert_eq!((&row["key"], &row["value"]), (&json!(key), &json!("found")), "{escaped}");
    }
    world.get("/stores/names/keys/%FF").problem(400, "invalid-parameter");
    world.get("/stores/names/range?from=%zz").problem(400, "invalid-parameter");
    world.get("/stores/names/range?from=%FF").problem(400, "invalid-parameter");
}

#[test]
fn bytes_are_asked_for_and_shown_as_base64() {
    let world = World::new();
    world.put("blobs", &[0xfb, 0xff], &[0]);
    for key in ["-_8", "-_8%3D", "%2B%2F8%3D"] {
        let row = world.get(&format!("/stores/blobs/keys/{key}?encoding=base64")).ok();
        let shown = (&row["keyBase64"], &row["valueBase64"], row.get("key"));
        assert_eq!(shown, (&json!("+/8="), &json!("AA=="), None), "{key}");
    }
    world.get("/stores/blobs/keys/abc").problem(400, "invalid-key");
    world.get("/stores/blobs/keys/!!?encoding=base64").problem(400, "invalid-key");
    world.get("/stores/blobs/range?to=!!&encoding=base64").problem(400, "invalid-key");
    world.get("/stores/blobs/keys/AA?encoding=hex").problem(400, "invalid-parameter");
    assert_eq!(world.get("/stores/blobs/range").items()[0]["valueBase64"], "AA==");
}

#[test]
fn a_value_that_its_serde_cannot_read_is_shown_as_base64() {
    let world = World::new();
    world.put("names", b"odd", &[0xff]);
    let row = world.get("/stores/names/keys/odd").ok();
    assert_eq!((&row["key"], &row["valueBase64"]), (&json!("odd"), &json!("/w==")));
}

#[test]
fn a_huge_key_is_refused_before_anything_is_read() {
    let world = World::new();
    let key = "k".repeat(20_000);
    let detail = world.get(&format!("/stores/names/keys/{key}")).problem(414, "address-too-long");
    assert!(detail.contains("16384"), "{detail}");
    let key = "k".repeat(16_000);
    world.get(&format!("/stores/names/keys/{key}")).problem(404, "not-found");
}

#[test]
fn a_range_of_an_empty_store_is_an_empty_listing() {
    let world = World::new();
    assert_eq!(world.get("/stores/names/range").ok(), json!({ "items": [] }));
    assert_eq!(world.get("/stores/visits/windows/a").ok(), json!({ "items": [] }));
}

#[test]
fn paging_over_partitions_shows_each_row_once_in_the_order_of_keys() {
    let world = World::new();
    let all: Vec<String> = (0..57).map(|n| format!("key-{n:03}")).collect();
    for name in all.iter().rev() {
        world.put("names", name.as_bytes(), b"v");
    }
    let spread: BTreeSet<u32> =
        all.iter().map(|name| partition_for(name.as_bytes(), PARTITIONS)).collect();
    assert_eq!(spread.len(), 3, "every partition has rows");
    for limit in [1, 2, 7, 57, 1_000] {
        let rows = all_pages(&world, "/stores/names/range", limit);
        assert_eq!(field(&rows, "key"), all.iter().collect::<Vec<_>>(), "limit {limit}");
    }
    let path = "/stores/names/range?from=key-010&to=key-019";
    assert_eq!(all_pages(&world, path, 3).len(), 10, "both ends are included");
}

#[test]
fn a_range_of_signed_numbers_goes_by_value_over_zero() {
    let world = World::new();
    for number in [-300_i64, -2, -1, 0, 1, 2, 300] {
        world.put("numbers", &number.to_be_bytes(), b"v");
    }
    for limit in [1, 2, 3, 100] {
        let rows = all_pages(&world, "/stores/numbers/range", limit);
        assert_eq!(field(&rows, "key"), [-300, -2, -1, 0, 1, 2, 300], "limit {limit}");
        let rows = all_pages(&world, "/stores/numbers/range?from=-2&to=1", limit);
        assert_eq!(field(&rows, "key"), [-2, -1, 0, 1], "limit {limit}");
    }
    assert_eq!(world.get("/stores/numbers/range?from=5&to=-5").items(), [] as [Json; 0]);
}

#[test]
fn a_row_written_between_pages_shows_if_it_comes_later_and_none_shows_twice() {
    let world = World::new();
    names(&world, &["b", "d", "f"]);
    let page = world.get("/stores/names/range?limit=2").ok();
    names(&world, &["a", "c", "e", "g"]);
    let cursor = page["nextCursor"].as_str().expect("there is more");
    let rest = world.get(&format!("/stores/names/range?cursor={cursor}")).items();
    assert_eq!(field(&rest, "key"), ["e", "f", "g"]);
}

#[test]
fn a_page_of_large_rows_ends_before_its_limit_and_goes_on() {
    let world = World::new();
    let value = vec![b'x'; 300_000];
    for key in 0..10 {
        world.put("names", format!("{key}").as_bytes(), &value);
    }
    let page = world.get("/stores/names/range?limit=10").ok();
    assert!(page["items"].as_array().is_some_and(|rows| rows.len() < 10));
    let rows = all_pages(&world, "/stores/names/range", 10);
    assert_eq!(rows.len(), 10);
}

#[test]
fn a_bad_cursor_is_refused() {
    let world = World::new();
    names(&world, &["a", "b", "c"]);
    let page = world.get("/stores/names/range?limit=1").ok();
    let cursor = page["nextCursor"].as_str().expect("there is more").to_owned();
    let foreign = [
        format!("/stores/numbers/range?cursor={cursor}"),
        format!("/stores/names/range?from=a&cursor={cursor}"),
        format!("/stores/visits/windows/a?cursor={cursor}"),
    ];
    for path in foreign {
        let detail = world.get(&path).problem(400, "invalid-cursor");
        assert!(detail.contains("another question"), "{detail}");
    }
    for junk in ["", "!", "AAAA", "AQAAAAA", &cursor[..8], "%00", &"A".repeat(4_000)] {
        world.get(&format!("/stores/names/range?cursor={junk}")).problem(400, "invalid-cursor");
    }
}

#[test]
fn limits_of_zero_too_many_and_no_number_are_refused() {
    let world = World::new();
    for limit in ["0", "1001", "-1", "ten", "", "1.5", "99999999999999999999"] {
        for path in ["/stores/names/range", "/stores/visits/windows/a", "/topics/orders/records"] {
            let reply = world.get(&format!("{path}?limit={limit}"));
            let detail = reply.problem(400, "invalid-parameter");
            assert!(detail.contains("`limit`") && detail.contains("1000"), "{detail}");
        }
    }
}

#[test]
fn parameters_that_are_unknown_or_given_twice_are_named() {
    let world = World::new();
    let detail = world.get("/stores/names/range?form=a").problem(400, "unknown-parameter");
    assert!(detail.contains("`form`") && detail.contains("from"), "{detail}");
    world.get("/health/live?verbose=1").problem(400, "unknown-parameter");
    world.get("/stores/names/keys/a?key=b").problem(400, "unknown-parameter");
    world.get("/stores/names/range?from=a&from=b").problem(400, "invalid-parameter");
}

#[test]
fn windows_of_a_key_come_by_start_with_their_ends() {
    let world = World::new();
    world.put_windows(b"ada", &[120_000, 0, 60_000]);
    world.put_windows(b"adam", &[60_000]);
    let rows = world.get("/stores/visits/windows/ada").items();
    assert_eq!(field(&rows, "value"), [0, 60_000, 120_000]);
    assert_eq!(rows[1]["window"], json!({ "start": 60_000, "end": 120_000 }));
    assert_eq!(rows[1]["key"], "ada");
}

#[test]
fn bounds_of_windows_are_included_and_written_as_milliseconds_or_rfc_3339() {
    let world = World::new();
    world.put_windows(b"ada", &[0, 60_000, 120_000, 180_000]);
    for (query, starts) in [
        ("from=60000&to=120000", vec![60_000, 120_000]),
        ("from=60001", vec![120_000, 180_000]),
        ("from=1970-01-01T00:01:00Z&to=1970-01-01T00:02:00Z", vec![60_000, 120_000]),
        ("to=1970-01-01T01:01:00%2B01:00", vec![0, 60_000]),
        ("to=1970-01-01T01:01:00+01:00", vec![0, 60_000]),
    ] {
        let rows = world.get(&format!("/stores/visits/windows/ada?{query}")).items();
        assert_eq!(field(&rows, "value"), starts, "{query}");
    }
}

#[test]
fn paging_over_windows_shows_each_once() {
    let world = World::new();
    let starts: Vec<i64> = (0..40).map(|n| n * 60_000).collect();
    world.put_windows(b"ada", &starts);
    for limit in [1, 7, 40, 1_000] {
        let rows = all_pages(&world, "/stores/visits/windows/ada", limit);
        assert_eq!(field(&rows, "value"), starts, "limit {limit}");
    }
    let path = "/stores/visits/windows/ada?from=600000&to=1200000";
    assert_eq!(all_pages(&world, path, 3).len(), 11);
}

#[test]
fn windows_past_their_retention_do_not_show() {
    let world = World::new();
    let last = 10 * VISITS.retention_ms;
    world.put_windows(b"ada", &[0, 60_000, last]);
    let rows = world.get("/stores/visits/windows/ada").items();
    assert_eq!(field(&rows, "value"), [last]);
}

#[test]
fn hostile_times_find_nothing_or_are_refused_and_never_fail() {
    let world = World::new();
    world.put_windows(b"ada", &[0, i64::MAX / 2]);
    for (query, rows) in [
        ("from=-9223372036854775808", 1),
        ("from=-9223372036854775808&to=-1", 0),
        ("to=9223372036854775807", 1),
        ("from=9223372036854775807", 0),
        ("from=9223372036854775807&to=9223372036854775807", 0),
    ] {
        let found = world.get(&format!("/stores/visits/windows/ada?{query}")).items();
        assert_eq!(found.len(), rows, "{query}");
    }
    for query in ["from=2&to=1", "from=soon", "from=1e9", "from=99999999999999999999", "to="] {
        let reply = world.get(&format!("/stores/visits/windows/ada?{query}"));
        reply.problem(400, "invalid-parameter");
    }
}

#[test]
fn a_store_of_another_kind_says_where_to_ask() {
    let world = World::new();
    for path in ["/stores/visits/keys/a", "/stores/visits/range"] {
        let detail = world.get(path).problem(400, "wrong-store-kind");
        assert!(detail.contains("/stores/visits/windows/{key}"), "{detail}");
    }
    let detail = world.get("/stores/names/windows/a").problem(400, "wrong-store-kind");
    assert!(detail.contains("/stores/names/keys/{key}"), "{detail}");
}

#[test]
fn a_partition_that_is_not_here_is_unavailable_and_the_others_answer() {
    let world = World::new();
    names(&world, &["a", "b", "c", "d", "e"]);
    let gone = partition_for(b"a", PARTITIONS);
    world.target.missing.lock().expect("no panic").insert(gone);
    let detail = world.get("/stores/names/keys/a").problem(503, "unavailable");
    assert!(detail.contains(&format!("partition {gone}")), "{detail}");
    let other = ["b", "c", "d", "e"];
    let other = other.into_iter().find(|k| partition_for(k.as_bytes(), PARTITIONS) != gone);
    let other = other.expect("keys are spread");
    assert_eq!(world.get(&format!("/stores/names/keys/{other}")).status, 200);
    world.get("/stores/names/range").problem(503, "unavailable");
}

#[test]
fn a_damaged_row_is_a_failure_that_names_the_store() {
    let world = World::new();
    world.put("counts", b"short", b"1");
    let detail = world.get("/stores/counts/keys/short").problem(500, "failed");
    assert!(detail.contains("`counts`") && detail.contains("damaged"), "{detail}");
    world.target.disk.faults().damage("shop/names");
    world.get("/stores/names/keys/a").problem(500, "failed");
    world.target.disk.faults().heal();
    world.get("/stores/names/keys/a").problem(404, "not-found");
}
