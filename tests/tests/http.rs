//! The HTTP server as a client sees it: every question, every bad input, every limit. Most suites
//! run it over stores and a log in memory; `host` and `shell` over a real host.

#[path = "http/world.rs"]
mod world;

#[path = "http/any_request.rs"]
mod any_request;
#[path = "http/failures.rs"]
mod failures;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/process.rs"]
mod process;
#[path = "http/records.rs"]
mod records;
#[path = "http/routes.rs"]
mod routes;
#[path = "http/shell.rs"]
mod shell;
#[path = "http/stores.rs"]
mod stores;
