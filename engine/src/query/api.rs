//! The server's own routes, and how a topology's are put beside them. Owns paths, parameters and the
//! JSON of answers about stores, topology, tasks and health; knows no HTTP library.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::encoding::from_base64;
use super::endpoint::{Access, Answer, Call, Endpoint, application_needed};
use super::error::{Problem, QueryError};
use super::parameters::{Parameter, ParameterKind as Kind};
use super::port::StoreInfo;
use super::reads::{AsOf, Page, PageRequest, StoreQueries, StoreQuery};
use super::route::{Method, Route, fault_of_path, shape_of_path};
use super::topics;
use crate::serde::KeyRange;
use crate::store::{StoreKind, StoreView};

/// First segments of the server's own routes.
const RESERVED: [&str; 8] =
    ["apps", "health", "metrics", "openapi.json", "stores", "tasks", "topics", "topology"];

const ENCODING: Parameter = Parameter::optional(
    "encoding",
    Kind::Word(&["text", "base64"]),
    "base64: keys are given, and rows shown, as the base64 of their bytes",
);
const LIMIT: Parameter = Parameter::optional("limit", Kind::Limit, "rows of the page");
const CURSOR: Parameter =
    Parameter::optional("cursor", Kind::Text, "`nextCursor` of the page before");
const FORMAT: Parameter =
    Parameter::optional("format", Kind::Word(&["json", "text", "mermaid"]), "the form");

/// The server's own routes.
pub(super) fn own_endpoints() -> Vec<Endpoint> {
    let mut all = probes();
    all.extend(topics::endpoints());
    for prefix in ["", "/apps/{app}"] {
        let mut add = |path: &str, about, parameters: &[Parameter], handler: AppHandler| {
            let path = format!("{prefix}{path}");
            all.push(Endpoint::new(Access::Read, &path, about, parameters, handler));
        };
        add("/stores", "the stores of the application", &[], stores);
        add("/stores/{store}", "one store", &[], store);
        add("/stores/{store}/keys/{key}", "the row of a key", &[ENCODING], key);
        let from = Parameter::optional("from", Kind::Text, "the first key, included");
        let to = Parameter::optional("to", Kind::Text, "the last key, included");
        let parameters = [from, to, LIMIT, CURSOR, ENCODING];
        add("/stores/{store}/range", "rows in the order of their keys", &parameters, range);
        let from = Parameter::optional("from", Kind::Time, "the first window start, included");
        let to = Parameter::optional("to", Kind::Time, "the last window start, included");
        let parameters = [from, to, LIMIT, CURSOR, ENCODING];
        add("/stores/{store}/windows/{key}", "the windows of a key", &parameters, windows);
        add("/topology", "what runs: operators, topics, stores", &[FORMAT], topology);
        add("/tasks", "the tasks on this instance", &[], tasks);
    }
    all
}

type AppHandler = fn(&Call<'_>) -> Result<Answer, QueryError>;

fn probes() -> Vec<Endpoint> {
    let probe =
        |path, about, handler: AppHandler| Endpoint::new(Access::Probe, path, about, &[], handler);
    vec![
        probe("/health/live", "the process works; else restart it", |call| {
            match call.context.target.health().failed {
                None => Answer::json(&json!({ "status": "live" })),
                Some(why) => Err(QueryError::new(Problem::Unavailable, why)),
            }
        }),
        probe("/health/ready", "every task here processes records", |call| {
            let health = call.context.target.health();
            match health.failed.or(health.waiting_for) {
                None => Answer::json(&json!({ "status": "ready" })),
                Some(why) => Err(QueryError::new(Problem::Unavailable, why)),
            }
        }),
        probe("/metrics", "metrics in the Prometheus text form", |call| {
            let text = call.context.metrics.text();
            Ok(Answer::text("text/plain; version=0.0.4; charset=utf-8", text))
        }),
        Endpoint::new(Access::Read, "/openapi.json", "this API, described", &[], |call| {
            Answer::json(&call.context.openapi)
        }),
        Endpoint::new(Access::Read, "/apps", "the applications of this process", &[], |call| {
            let all = call.context.target.applications();
            Answer::items(&all.iter().map(|a| &*a.application_id).collect::<Vec<_>>())
        }),
    ]
}

/// The routes of topologies, each with the application it belongs to. The short form of a path leads
/// to the only application that has it.
///
/// # Errors
/// The path that cannot be used, and why.
pub(super) fn topology_endpoints(
    routes: &[(Arc<str>, Arc<dyn Route>)],
) -> Result<Vec<Endpoint>, (String, String)> {
    let mut all = Vec::new();
    let mut owners: BTreeMap<String, Vec<&Arc<str>>> = BTreeMap::new();
    for (application, route) in routes {
        let path = route.path();
        let refused = |why: String| Err((path.to_owned(), why));
        if let Some(why) = fault_of_path(path) {
            return refused(why);
        }
        let first = path.split('/').nth(1).unwrap_or_default();
        // A body may be sent to `/tasks`, where the server itself only answers.
        let is_shared = route.method() == Method::Post && path == "/tasks";
        if RESERVED.contains(&first) && !is_shared {
            return refused(format!("`/{first}` belongs to the server; choose another word"));
        }
        let of_shape = owners.entry(shape_of(&**route)).or_default();
        if of_shape.contains(&application) {
            return refused(format!("application `{application}` has two routes of this shape"));
        }
        of_shape.push(application);
        if !is_shared {
            all.push(topology_endpoint(format!("/apps/{application}{path}"), application, route));
        } else if let [first, second, ..] = of_shape[..] {
            // Its long form would stand before the server's own `/apps/{app}/tasks`.
            return refused(format!("both `{first}` and `{second}` take bodies there"));
        }
    }
    for (shape, applications) in &owners {
        let of_shape = |(_, r): &&(Arc<str>, Arc<dyn Route>)| shape_of(&**r) == *shape;
        let Some((application, route)) = routes.iter().find(of_shape) else { continue };
        all.push(if applications.len() == 1 {
            topology_endpoint(route.path().to_owned(), application, route)
        } else {
            let ids = applications.iter().map(|id| &***id).collect::<Vec<_>>().join(", ");
            let (path, about) = (route.path(), route.about());
            let refuse = move |_: &Call<'_>| Err(application_needed(&ids));
            let access = access_of(&**route);
            let endpoint = Endpoint::new(access, path, about, route.parameters(), refuse);
            Endpoint { method: route.method(), ..endpoint }
        });
    }
    Ok(all)
}

fn access_of(route: &dyn Route) -> Access {
    if route.method() == Method::Get { Access::Read } else { Access::Write }
}

/// Two routes of one shape would answer the same requests.
fn shape_of(route: &dyn Route) -> String {
    format!("{:?} {}", route.method(), shape_of_path(route.path()))
}

fn topology_endpoint(path: String, owner: &Arc<str>, route: &Arc<dyn Route>) -> Endpoint {
    let (owner, handler) = (Arc::clone(owner), Arc::clone(route));
    let (access, method) = (access_of(&**route), route.method());
    let answer = move |call: &Call<'_>| {
        let all = call.context.target.applications();
        let Some(application) = all.iter().find(|a| a.application_id == owner) else {
            let detail = format!("application `{owner}` does not run here any more");
            return Err(QueryError::new(Problem::UnknownApplication, detail));
        };
        let stores = StoreQueries::new(&*call.context.target, application);
        if access == Access::Write {
            return taken(&*handler, call, &stores);
        }
        Answer::json(&handler.answer(&call.asked, &stores)?)
    };
    let endpoint = Endpoint::new(access, &path, route.about(), route.parameters(), answer);
    Endpoint { method, ..endpoint }
}

fn taken(
    route: &dyn Route,
    call: &Call<'_>,
    stores: &StoreQueries<'_>,
) -> Result<Answer, QueryError> {
    let context = call.context;
    let now_ms = context.clock.now().wall_ms;
    let taken = route.take_with(call.body, &call.asked, stores, now_ms)?;
    context.target.append(&taken.records, context.patience)?;
    Ok(Answer { status: 202, ..Answer::json(&taken.answer)? })
}

fn stores(call: &Call<'_>) -> Result<Answer, QueryError> {
    let application = call.application()?;
    let shown =
        application.stores.iter().map(|s| shown_store(call, &application.application_id, s));
    Answer::items(&shown.collect::<Vec<_>>())
}

fn store(call: &Call<'_>) -> Result<Answer, QueryError> {
    let application = call.application()?;
    let name = call.asked.required_text("store")?;
    // For its error, if there is none.
    StoreQueries::new(&*call.context.target, &application).store(name)?;
    let shown = application.store(name);
    Answer::json(&shown.map(|s| shown_store(call, &application.application_id, s)))
}

fn shown_store(call: &Call<'_>, application: &str, store: &StoreInfo) -> Json {
    let spec = &store.spec;
    let kind = match spec.kind {
        StoreKind::KeyValue => "key-value",
        StoreKind::TimestampedKeyValue => "timestamped-key-value",
        StoreKind::Window(_) => "window",
        StoreKind::TimestampedWindow(_) | StoreKind::ClosingWindow(_) => "timestamped-window",
        StoreKind::JoinWindow(_) => "join-window",
        StoreKind::Session(_) => "session",
        StoreKind::Versioned(_) => "versioned",
        StoreKind::JoinBuffer => "join-buffer",
        StoreKind::SuppressBuffer => "suppress-buffer",
        StoreKind::Timers(_) => "timers",
    };
    let mut shown = json!({ "name": &*spec.name, "kind": kind, "cached": spec.cached });
    if let Some(windows) = spec.kind.window() {
        shown["windowSizeMs"] = Json::from(windows.size_ms);
    }
    if let Some(retention_ms) = spec.kind.retention_ms() {
        shown["retentionMs"] = Json::from(retention_ms);
    }
    if let Some(partitions) = call.context.target.partitions(application, &spec.name) {
        shown["partitions"] = Json::from(partitions);
    }
    shown
}

/// Keys as the request gives and wants them: by the store's serde, or as bytes.
struct Keys {
    raw: bool,
}

impl Keys {
    fn of(call: &Call<'_>) -> Self {
        Self { raw: call.asked.text("encoding") == Some("base64") }
    }

    fn bytes(&self, name: &str, text: &str) -> Result<Vec<u8>, QueryError> {
        from_base64(text).ok_or_else(|| {
            let detail = format!("`{name}` is no base64, which encoding=base64 asks for");
            QueryError::new(Problem::InvalidKey, detail)
        })
    }

    fn key(&self, store: &StoreQuery<'_>, text: &str) -> Result<Vec<u8>, QueryError> {
        if self.raw { self.bytes("key", text) } else { store.key(text) }
    }

    fn ranges(&self, store: &StoreQuery<'_>, call: &Call<'_>) -> Result<Vec<KeyRange>, QueryError> {
        let (from, to) = (call.asked.text("from"), call.asked.text("to"));
        if !self.raw {
            return store.key_ranges(from, to);
        }
        let end = |name, text: Option<&str>| text.map(|t| self.bytes(name, t)).transpose();
        let range = KeyRange { from: end("from", from)?, to: end("to", to)? };
        Ok(if range.is_empty() { Vec::new() } else { vec![range] })
    }

    fn view<'s>(&self, store: &'s StoreQuery<'_>) -> Option<&'s dyn StoreView> {
        (!self.raw).then(|| store.view())
    }
}

fn page_request<'c>(call: &'c Call<'_>) -> PageRequest<'c> {
    PageRequest { limit: call.asked.limit(), cursor: call.asked.text("cursor") }
}

fn key(call: &Call<'_>) -> Result<Answer, QueryError> {
    let application = call.application()?;
    let stores = StoreQueries::new(&*call.context.target, &application);
    let store = stores.store(call.asked.required_text("store")?)?;
    let keys = Keys::of(call);
    let (row, as_of) = store.get(&keys.key(&store, call.asked.required_text("key")?)?)?;
    let mut shown = row.to_json(keys.view(&store));
    put_as_of(&mut shown, &as_of);
    Answer::json(&shown)
}

fn range(call: &Call<'_>) -> Result<Answer, QueryError> {
    let application = call.application()?;
    let stores = StoreQueries::new(&*call.context.target, &application);
    let store = stores.store(call.asked.required_text("store")?)?;
    let keys = Keys::of(call);
    let page = store.range(&keys.ranges(&store, call)?, page_request(call))?;
    shown_page(&page, keys.view(&store))
}

fn windows(call: &Call<'_>) -> Result<Answer, QueryError> {
    let application = call.application()?;
    let stores = StoreQueries::new(&*call.context.target, &application);
    let store = stores.store(call.asked.required_text("store")?)?;
    let keys = Keys::of(call);
    let key = keys.key(&store, call.asked.required_text("key")?)?;
    let (from, to) = call.asked.times("from", "to")?;
    let page = store.windows(&key, from, to, page_request(call))?;
    shown_page(&page, keys.view(&store))
}

fn shown_page(page: &Page, view: Option<&dyn StoreView>) -> Result<Answer, QueryError> {
    let items: Vec<Json> = page.rows.iter().map(|row| row.to_json(view)).collect();
    let mut shown = Json::Object(Map::new());
    shown["items"] = Json::Array(items);
    if let Some(cursor) = &page.next_cursor {
        shown["nextCursor"] = Json::from(cursor.as_str());
    }
    put_as_of(&mut shown, &page.as_of);
    Answer::json(&shown)
}

fn put_as_of(shown: &mut Json, as_of: &[AsOf]) {
    if !as_of.is_empty() {
        shown["asOf"] = json!(as_of);
    }
}

fn topology(call: &Call<'_>) -> Result<Answer, QueryError> {
    let application = call.application()?;
    let topology = &application.topology;
    const PLAIN: &str = "text/plain; charset=utf-8";
    match call.asked.text("format") {
        Some("text") => Ok(Answer::text(PLAIN, topology.text.clone())),
        Some("mermaid") => Ok(Answer::text(PLAIN, topology.mermaid.clone())),
        _ => Answer::json(&topology.json),
    }
}

fn tasks(call: &Call<'_>) -> Result<Answer, QueryError> {
    let application = call.application()?;
    Answer::items(&call.context.target.tasks(&application.application_id))
}
