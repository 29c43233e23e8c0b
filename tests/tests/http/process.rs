//! Questions about the process: topology, tasks, metrics, health, and the API itself.

use headwater::query::Health;
use serde_json::{Value as Json, json};

use crate::world::{World, request};

#[test]
fn the_topology_is_told_as_json_text_and_mermaid() {
    let world = World::new();
    assert_eq!(world.get("/topology").ok(), json!({ "nodes": [] }));
    assert_eq!(world.get("/topology?format=text").text(), "orders -> counts\n");
    assert_eq!(world.get("/topology?format=mermaid").text(), "flowchart TD\n");
    world.get("/topology?format=svg").problem(400, "invalid-parameter");
}

#[test]
fn tasks_are_listed_with_positions_and_lag() {
    let world = World::new();
    assert_eq!(
        world.get("/tasks").items(),
        [json!({ "id": "0_1", "state": "running", "thread": "shop-0",
                 "inputs": [{ "topic": "orders", "partition": 1, "offset": 7, "lag": 2 }] })]
    );
}

#[test]
fn health_tells_a_process_that_waits_from_one_that_failed() {
    let world = World::new();
    let set = |failed: Option<&str>, waiting: Option<&str>| {
        let health =
            Health { failed: failed.map(str::to_owned), waiting_for: waiting.map(str::to_owned) };
        *world.target.health.lock().expect("no panic") = health;
    };
    assert_eq!(world.get("/health/live").ok()["status"], "live");
    assert_eq!(world.get("/health/ready").ok()["status"], "ready");
    set(None, Some("restoring counts"));
    assert_eq!(world.get("/health/live").status, 200);
    assert_eq!(world.get("/health/ready").problem(503, "unavailable"), "restoring counts");
    set(Some("thread 0 panicked"), None);
    assert_eq!(world.get("/health/live").problem(503, "unavailable"), "thread 0 panicked");
    world.get("/health/ready").problem(503, "unavailable");
}

#[test]
fn metrics_count_requests_by_route_and_status() {
    let world = World::new();
    for key in ["a", "b"] {
        world.get(&format!("/stores/names/keys/{key}")).problem(404, "not-found");
    }
    world.get("/nowhere").problem(404, "unknown-route");
    let reply = world.get("/metrics");
    assert!(world.metrics.text().contains("http_requests_total"));
    assert!(reply.head.contains("text/plain; version=0.0.4"), "{}", reply.head);
    for line in [
        r#"http_requests_total{route="/stores/{store}/keys/{key}",status="404"} 2"#,
        r#"http_requests_total{route="none",status="404"} 1"#,
    ] {
        assert!(reply.text().contains(line), "{}", reply.text());
    }
}

#[test]
fn the_api_describes_every_route_it_has() {
    let world = World::new();
    let api = world.get("/openapi.json").ok();
    assert_eq!(api["openapi"], "3.1.0");
    let paths = api["paths"].as_object().expect("paths");
    for path in ["/stores/{store}/range", "/apps/{app}/tasks", "/topics/{topic}/records"] {
        assert!(paths.contains_key(path), "{path}");
    }
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().expect("methods") {
            let concrete: String = path
                .split('/')
                .map(|segment| match segment {
                    "{app}" => "shop",
                    "{store}" => "names",
                    "{topic}" => "orders",
                    other if other.starts_with('{') => "x",
                    other => other,
                })
                .collect::<Vec<_>>()
                .join("/");
            let line = format!("{} {concrete} HTTP/1.1", method.to_uppercase());
            let reply = request(world.address(), &line, &[], b"");
            let unknown = "urn:headwater:problem:unknown-route";
            let kind: Json = serde_json::from_slice(&reply.body).unwrap_or_default();
            assert!(kind["type"] != unknown && reply.status != 405, "{line}");
            assert!(operation["summary"].is_string(), "{line}");
        }
    }
    let limit = &api["paths"]["/stores/{store}/range"]["get"]["parameters"];
    let limit = limit.as_array().expect("a list").iter().find(|p| p["name"] == "limit");
    assert_eq!(limit.expect("it is described")["schema"]["maximum"], 1_000);
}

#[test]
fn what_is_not_there_and_what_is_not_possible_are_told_apart() {
    let world = World::new();
    for path in ["/", "/store", "/stores/names/keys", "/stores/names/keys/"] {
        let detail = world.get(path).problem(404, "unknown-route");
        assert!(detail.contains("/openapi.json"), "{detail}");
    }
    for (line, allowed) in [
        ("POST /stores HTTP/1.1", "GET"),
        ("DELETE /topics/orders/records HTTP/1.1", "POST"),
        ("PUT /health/live HTTP/1.1", "GET"),
    ] {
        let reply = request(world.address(), line, &[], b"");
        reply.problem(405, "method-not-allowed");
        let allow = reply.head.to_lowercase();
        let allow = allow.lines().find(|l| l.starts_with("allow:")).expect("an Allow header");
        assert!(allow.contains(&allowed.to_lowercase()), "{allow}");
    }
    let head = request(world.address(), "HEAD /stores HTTP/1.1", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
}
