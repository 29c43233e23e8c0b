//! Routes that topologies add.

use std::sync::Arc;

use headwater::config::Secret;
use headwater::metrics::Metrics;
use headwater::query::{
    HttpOptions, HttpServer, PageRequest, Parameter, ParameterKind, Parameters, QueryError,
    QueryTarget, Route, ServerError, StoreQueries,
};
use headwater::time::SystemClock;
use serde_json::{Value as Json, json};

use crate::world::{APPLICATION, Setup, World};

/// `/visits?key=&from=&to=`: how often someone came.
struct Visits;

impl Route for Visits {
    fn path(&self) -> &str {
        "/visits"
    }

    fn about(&self) -> &str {
        "how often someone came"
    }

    fn parameters(&self) -> &[Parameter] {
        const {
            &[
                Parameter::required("key", ParameterKind::Text, "who"),
                Parameter::optional("from", ParameterKind::Time, "since when"),
                Parameter::optional("to", ParameterKind::Time, "until when"),
                Parameter::optional("limit", ParameterKind::Limit, "windows at most"),
            ]
        }
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Json, QueryError> {
        let store = stores.store("visits")?;
        let key = store.key(asked.required_text("key")?)?;
        let (from, to) = asked.times("from", "to")?;
        let page =
            store.windows(&key, from, to, PageRequest { limit: asked.limit(), cursor: None })?;
        Ok(json!({ "windows": page.rows.len(), "more": page.next_cursor.is_some() }))
    }
}

/// A route of any path that answers with what it was asked, or panics.
struct Echo(&'static str);

impl Route for Echo {
    fn path(&self) -> &str {
        self.0
    }

    fn about(&self) -> &str {
        "what was asked"
    }

    fn parameters(&self) -> &[Parameter] {
        const { &[Parameter::optional("n", ParameterKind::Number, "a number")] }
    }

    fn answer(&self, asked: &Parameters, _: &StoreQueries<'_>) -> Result<Json, QueryError> {
        assert_ne!(asked.number("n"), Some(13), "thirteen is too much");
        Ok(json!({ "id": asked.text("id"), "n": asked.number("n") }))
    }
}

fn of(application: &str, route: impl Route + 'static) -> (Arc<str>, Arc<dyn Route>) {
    (application.into(), Arc::new(route))
}

#[test]
fn a_topology_answers_questions_of_its_own_from_its_stores() {
    let routes = vec![of(APPLICATION, Visits), of(APPLICATION, Echo("/people/{id}"))];
    let world = World::with(Setup { routes, ..Setup::default() });
    world.put_windows(b"ada", &[0, 60_000, 120_000]);
    let visits = |query: &str| world.get(&format!("/visits?{query}"));
    assert_eq!(visits("key=ada&from=60000").ok(), json!({ "windows": 2, "more": false }));
    assert_eq!(visits("key=ada&limit=1").ok(), json!({ "windows": 1, "more": true }));
    let long = world.get(&format!("/apps/{APPLICATION}/visits?key=ada"));
    assert_eq!(long.ok()["windows"], 3);
    let person = world.get("/people/a%2Fb?n=7").ok();
    assert_eq!(person, json!({ "id": "a/b", "n": 7 }));
    assert_eq!(world.get(&format!("/apps/{APPLICATION}/stores")).status, 200);
    assert!(world.get("/openapi.json").ok()["paths"]["/visits"]["get"].is_object());
}

#[test]
fn its_parameters_are_checked_before_it_is_asked() {
    let world = World::with(Setup { routes: vec![of(APPLICATION, Visits)], ..Setup::default() });
    let detail = world.get("/visits").problem(400, "missing-parameter");
    assert!(detail.contains("`key`") && detail.contains("who"), "{detail}");
    world.get("/visits?key=a&from=soon").problem(400, "invalid-parameter");
    world.get("/visits?key=a&since=1").problem(400, "unknown-parameter");
    world.get("/visits?key=a&from=2&to=1").problem(400, "invalid-parameter");
}

#[test]
fn a_route_that_panics_is_a_failure_and_the_server_goes_on() {
    let world =
        World::with(Setup { routes: vec![of(APPLICATION, Echo("/e"))], ..Setup::default() });
    let detail = world.get("/e?n=13").problem(500, "failed");
    assert!(detail.contains("/e"), "{detail}");
    assert_eq!(world.get("/e?n=14").ok()["n"], 14);
}

#[test]
fn a_path_that_two_applications_have_needs_the_application() {
    let routes = vec![of("a", Echo("/e")), of("b", Echo("/e")), of("b", Echo("/only"))];
    let world = World::with(Setup { routes, applications: vec!["a", "b"], ..Setup::default() });
    let detail = world.get("/e").problem(400, "application-needed");
    assert!(detail.contains("a, b"), "{detail}");
    assert_eq!(world.get("/apps/a/e?n=1").ok()["n"], 1);
    assert_eq!(world.get("/apps/b/e?n=2").ok()["n"], 2);
    assert_eq!(world.get("/only?n=3").ok()["n"], 3);
}

#[test]
fn paths_that_cannot_be_served_are_refused_at_the_start() {
    let world = World::new();
    let start = |routes: &[(Arc<str>, Arc<dyn Route>)]| {
        let target = Arc::clone(&world.target) as Arc<dyn QueryTarget>;
        let options = HttpOptions::at(([127, 0, 0, 1], 0).into());
        HttpServer::start(target, routes, options, Metrics::new(), Arc::new(SystemClock::new()))
    };
    for path in ["stores", "/stores", "/topics/mine", "/apps/x", "/a b", "/", "/{a", "/a/"] {
        let refused = start(&[of(APPLICATION, Echo(path))]).expect_err("it cannot be served");
        assert!(matches!(refused, ServerError::Route { .. }), "{path}: {refused}");
    }
    let twice = [of(APPLICATION, Echo("/e/{a}")), of(APPLICATION, Echo("/e/{b}"))];
    assert!(matches!(start(&twice), Err(ServerError::Route { .. })));
}

#[test]
fn beyond_loopback_it_starts_only_with_a_token_or_on_the_users_word() {
    let world = World::new();
    let start = |token: Option<&str>, insecure| {
        let target = Arc::clone(&world.target) as Arc<dyn QueryTarget>;
        let options = HttpOptions {
            token: token.map(Secret::new),
            insecure,
            ..HttpOptions::at(([0, 0, 0, 0], 0).into())
        };
        HttpServer::start(target, &[], options, Metrics::new(), Arc::new(SystemClock::new()))
    };
    assert!(matches!(start(None, false), Err(ServerError::Exposed { .. })));
    assert!(start(Some("s3cret"), false).is_ok());
    assert!(start(None, true).is_ok());
}
