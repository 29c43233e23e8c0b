//! HTTP: queries of committed state, the topology, tasks, metrics and health of one process, and
//! records in and out of the embedded log. Owns the server, its routes, their limits and errors. It
//! reads through [`QueryTarget`] and knows neither tasks nor how anything gets into a store.
//!
//! ```text
//!  socket -> server (connections, timeouts, token) -> endpoint (route, typed parameters)
//!              async, two threads of its own             |  blocking threads, bounded
//!                                                        v
//!                        stores: key, range, windows     topics: append, read
//!                                                        |
//!                                                        v
//!                                         QueryTarget: committed, synced snapshots
//! ```
//!
//! - Answers show **committed, synced** state only, with the input offsets it stands for (`asOf`).
//! - Everything has a limit ([`HttpLimits`]); a page of a listing ends at its limit or at 1 MiB.
//! - Errors are RFC 9457 problems ([`QueryError`]) whose `detail` says what to do next. A parameter
//!   that a route does not have is an error that names it.
//! - Off loopback the server asks for a token for everything but `/health` and `/metrics`; writes
//!   always need the token there. On loopback a token, where one is set, guards the writes, and only
//!   `localhost` and addresses are answered to, so that no web page can ask under a name of its own.
//! - A topology adds [`Route`]s of its own. `/openapi.json` is made from the same table that routes
//!   requests.

mod api;
mod cursor;
mod dispatch;
mod encoding;
mod endpoint;
mod error;
mod merge;
mod openapi;
mod parameters;
mod port;
mod reads;
mod route;
mod server;
mod topics;

pub use error::{Problem, QueryError};
pub use parameters::{Parameter, ParameterKind, Parameters};
pub use port::{
    ApplicationInfo, CommittedPartition, Health, QueryTarget, StoreInfo, TaskInfo, TaskInput,
    TaskRestore, TopologyInfo,
};
pub use reads::{AsOf, Page, PageRequest, Row, StoreQueries, StoreQuery};
pub use route::{Method, NewRecord, Route, Taken};
pub use server::{HttpLimits, HttpOptions, HttpServer, ServerError};
pub(crate) use topics::{await_log, refused_by_log};
