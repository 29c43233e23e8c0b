//! From an HTTP request to a handler and back: the token, sizes, parameters, the body, and the
//! threads that handlers run on. The only file that knows the router's types; knows no store.

use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::endpoint::{Access, Answer, Call, Context, Endpoint};
use super::error::{Problem, QueryError};
use super::parameters::Parameters;
use super::route::Method;
use super::server::HttpLimits;
use super::topics;
use crate::config::Secret;

/// Bodies are counted in units of this many bytes.
const BODY_UNIT: usize = 1024;
/// The label of requests that no route matched, in metrics.
const NO_ROUTE: &str = "none";

/// Who may come in.
pub(super) struct Gate {
    pub(super) token: Option<Secret>,
    /// The server listens on loopback.
    pub(super) is_local: bool,
}

impl Gate {
    fn check(&self, access: Access, headers: &HeaderMap) -> Result<(), QueryError> {
        if self.is_local && access != Access::Probe && !is_local_host(headers) {
            let detail = "this server listens on loopback and answers to `localhost` or an address \
                          only, lest a web page asks it under a name of its own";
            return Err(QueryError::new(Problem::Forbidden, detail));
        }
        let needed = match access {
            Access::Probe => false,
            Access::Read => !self.is_local && self.token.is_some(),
            Access::Write => !self.is_local || self.token.is_some(),
        };
        if !needed {
            return Ok(());
        }
        let Some(token) = &self.token else {
            let detail = "records can be written only with a token when the server is reachable \
                          from outside; set HTTP_TOKEN, or listen on 127.0.0.1";
            return Err(QueryError::new(Problem::Forbidden, detail));
        };
        let shown = headers.get(AUTHORIZATION).and_then(|shown| shown.to_str().ok());
        let shown = shown.and_then(|shown| shown.strip_prefix("Bearer ")).unwrap_or_default();
        if is_same(shown.trim().as_bytes(), token.reveal().as_bytes()) {
            return Ok(());
        }
        let detail = "send the server's token: `Authorization: Bearer <HTTP_TOKEN>`";
        Err(QueryError::new(Problem::Unauthorized, detail))
    }
}

/// The client asks for `localhost` or an address, not for a name that someone may have pointed here
/// (DNS rebinding). Clients without `Host` are no browsers.
fn is_local_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let host = host.to_str().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }
    });
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// Compares in a time that does not tell how much is right.
fn is_same(shown: &[u8], token: &[u8]) -> bool {
    let different = shown.iter().zip(token).fold(0, |bits, (a, b)| bits | (a ^ b));
    shown.len() == token.len() && different == 0
}

struct Server {
    context: Context,
    gate: Gate,
    limits: HttpLimits,
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

/// The router of these endpoints.
pub(super) fn router(
    endpoints: Vec<Endpoint>,
    context: Context,
    gate: Gate,
    limits: &HttpLimits,
) -> Router {
    let server = Arc::new(Server {
        context,
        gate,
        limits: limits.clone(),
        requests: Arc::new(Semaphore::new(limits.requests)),
        bodies: Arc::new(Semaphore::new(limits.waiting_body_bytes.div_ceil(BODY_UNIT))),
    });
    let mut router = Router::new();
    for endpoint in endpoints {
        let filter = match endpoint.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
            Method::Delete => MethodFilter::DELETE,
        };
        let (server, endpoint) = (Arc::clone(&server), Arc::new(endpoint));
        let path = endpoint.path.clone();
        let handler = move |request: Request| {
            let (server, endpoint) = (Arc::clone(&server), Arc::clone(&endpoint));
            async move {
                let answer = answer(&server, &endpoint, request).await;
                respond(&server, &endpoint.path, answer)
            }
        };
        router = router.route(&path, on(filter, handler));
    }
    let refuse = |problem: Problem| {
        let server = Arc::clone(&server);
        move |request: Request| {
            let server = Arc::clone(&server);
            async move {
                let path: String = request.uri().path().chars().take(256).collect();
                let detail = match problem {
                    Problem::MethodNotAllowed => {
                        format!("{} is not possible on `{path}`", request.method())
                    }
                    _ => format!("there is nothing at `{path}`; /openapi.json lists what there is"),
                };
                respond(&server, NO_ROUTE, Err(QueryError::new(problem, detail)))
            }
        }
    };
    router
        .fallback(refuse(Problem::UnknownRoute))
        .method_not_allowed_fallback(refuse(Problem::MethodNotAllowed))
}

fn respond(server: &Server, route: &str, answer: Result<Answer, QueryError>) -> Response {
    let unauthorized = matches!(&answer, Err(e) if e.problem == Problem::Unauthorized);
    let answer = answer.unwrap_or_else(|error| {
        if error.problem == Problem::Failed {
            tracing::error!(route, detail = %error.detail, "an HTTP request failed");
        }
        Answer::problem(&error)
    });
    server.context.metrics.http_request(route, answer.status);
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).expect("problems have registered statuses");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    if unauthorized {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

async fn answer(
    server: &Arc<Server>,
    endpoint: &Arc<Endpoint>,
    request: Request,
) -> Result<Answer, QueryError> {
    let (mut parts, body) = request.into_parts();
    let address = parts.uri.path_and_query().map_or(0, |address| address.as_str().len());
    let limit = server.limits.address_bytes;
    if address > limit {
        let detail = format!("path and query have {address} bytes, more than {limit}");
        return Err(QueryError::new(Problem::AddressTooLong, detail));
    }
    server.gate.check(endpoint.access, &parts.headers)?;
    let path = RawPathParams::from_request_parts(&mut parts, &()).await.map_err(|rejection| {
        QueryError::new(Problem::InvalidParameter, format!("the path: {rejection}"))
    })?;
    let path = path.iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    let asked = Parameters::read(path, parts.uri.query(), &endpoint.parameters)?;
    let (body, room) = match endpoint.method {
        Method::Get | Method::Delete => (Vec::new(), None),
        Method::Post => {
            let (body, room) = read_body(server, &parts.headers, body).await?;
            (body, Some(room))
        }
    };
    let work = {
        let (server, endpoint) = (Arc::clone(server), Arc::clone(endpoint));
        move || {
            let call = Call { context: &server.context, asked, body: &body };
            let answer = catch_unwind(AssertUnwindSafe(|| (endpoint.handler)(&call)));
            drop(room);
            answer.unwrap_or_else(|_| {
                let detail = format!("{} panicked; this is a fault of the program", endpoint.path);
                Err(QueryError::new(Problem::Failed, detail))
            })
        }
    };
    match endpoint.access {
        Access::Probe => work(),
        Access::Read | Access::Write => on_a_blocking_thread(server, endpoint.access, work).await,
    }
}

async fn on_a_blocking_thread(
    server: &Server,
    access: Access,
    work: impl FnOnce() -> Result<Answer, QueryError> + Send + 'static,
) -> Result<Answer, QueryError> {
    let limit = server.limits.request_timeout;
    let turn = timeout(limit, Arc::clone(&server.requests).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        let detail = "too many requests wait; try again later";
        return Err(QueryError::new(Problem::Unavailable, detail));
    };
    // The turn is held until the work is done, also when nobody waits for it any more.
    let done = tokio::task::spawn_blocking(move || {
        let answer = work();
        drop(turn);
        answer
    });
    match timeout(limit, done).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(QueryError::new(Problem::Unavailable, "the server stops; try elsewhere")),
        Err(_) if access == Access::Write => Err(topics::unanswered()),
        Err(_) => {
            let detail = format!("no answer within {limit:?}; ask for less at a time");
            Err(QueryError::new(Problem::TimedOut, detail))
        }
    }
}

/// Reads a JSON body, within its limit, its time and the room for all bodies.
async fn read_body(
    server: &Server,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Vec<u8>, OwnedSemaphorePermit), QueryError> {
    let essence = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = essence.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let detail = "send JSON, and say so: `Content-Type: application/json`";
        return Err(QueryError::new(Problem::UnsupportedMediaType, detail));
    }
    let limit = server.limits.body_bytes;
    let expected =
        body.size_hint().upper().map_or(limit, |b| usize::try_from(b).unwrap_or(usize::MAX));
    if expected > limit {
        return Err(too_large(limit));
    }
    let expected = expected.min(server.limits.waiting_body_bytes);
    let units = u32::try_from(expected.div_ceil(BODY_UNIT)).unwrap_or(u32::MAX);
    let received = async {
        let room = Arc::clone(&server.bodies).acquire_many_owned(units).await;
        let room = room.map_err(|_| QueryError::new(Problem::Unavailable, "the server stops"))?;
        Ok((collect(body, limit).await?, room))
    };
    timeout(server.limits.request_timeout, received).await.unwrap_or_else(|_| {
        let detail = "the body did not arrive in time; send less at a time, or faster";
        Err(QueryError::new(Problem::TooSlow, detail))
    })
}

async fn collect(mut body: Body, limit: usize) -> Result<Vec<u8>, QueryError> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| {
            QueryError::new(Problem::InvalidBody, format!("the body broke off: {error}"))
        })?;
        if let Ok(data) = frame.into_data() {
            if data.len() > limit - bytes.len() {
                return Err(too_large(limit));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

fn too_large(limit: usize) -> QueryError {
    let detail = format!("the body has more than {limit} bytes; send fewer records at a time");
    QueryError::new(Problem::BodyTooLarge, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(token: Option<&str>, is_local: bool) -> Gate {
        Gate { token: token.map(Secret::new), is_local }
    }

    fn problem(gate: &Gate, access: Access, shown: Option<&'static str>) -> Option<Problem> {
        let mut headers = HeaderMap::new();
        if let Some(shown) = shown {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(shown));
        }
        gate.check(access, &headers).err().map(|error| error.problem)
    }

    #[test]
    fn on_loopback_a_token_guards_writes_only() {
        let (open, guarded) = (gate(None, true), gate(Some("s3cret"), true));
        assert_eq!(problem(&open, Access::Write, None), None);
        assert_eq!(problem(&guarded, Access::Read, None), None);
        assert_eq!(problem(&guarded, Access::Write, None), Some(Problem::Unauthorized));
        assert_eq!(problem(&guarded, Access::Write, Some("Bearer s3cret")), None);
        for wrong in ["Bearer s3creT", "Bearer ", "Bearer s3cret1", "Basic s3cret"] {
            assert_eq!(problem(&guarded, Access::Write, Some(wrong)), Some(Problem::Unauthorized));
        }
    }

    #[test]
    fn on_loopback_only_localhost_and_addresses_are_answered_to() {
        let asked = |host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            gate(None, true).check(Access::Read, &headers).is_ok()
        };
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:80", "[::1]:80", "[::1]"] {
            assert!(asked(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "", "a:b"] {
            assert!(!asked(host), "{host}");
        }
    }

    #[test]
    fn off_loopback_a_token_guards_all_but_probes_and_without_one_nobody_writes() {
        let (open, guarded) = (gate(None, false), gate(Some("s3cret"), false));
        assert_eq!(problem(&guarded, Access::Read, None), Some(Problem::Unauthorized));
        assert_eq!(problem(&guarded, Access::Read, Some("Bearer s3cret")), None);
        assert_eq!(problem(&guarded, Access::Probe, None), None);
        assert_eq!(problem(&open, Access::Read, None), None);
        assert_eq!(problem(&open, Access::Write, Some("Bearer s3cret")), Some(Problem::Forbidden));
    }
}
