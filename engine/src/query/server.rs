//! The HTTP server: its threads, its socket, its end. Owns what is bounded about connections and
//! that nothing but HTTP runs on these threads; what a request means is `dispatch`'s business.
//!
//! A connection ends when its client is slow to ask ([`HttpLimits::header_timeout`]) or when it is
//! old ([`HttpLimits::connection_age`]); at the limit of connections further ones wait to be accepted.

use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::api;
use super::dispatch::{self, Gate};
use super::endpoint::Context;
use super::openapi;
use super::port::QueryTarget;
use super::route::Route;
use crate::config::Secret;
use crate::metrics::Metrics;
use crate::time::Clock;

/// Threads that do nothing but move HTTP's bytes.
const ASYNC_THREADS: usize = 2;
/// Bytes of a request's head, address included.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What bounds the server. Answers and bodies that wait for slow clients take at most
/// `connections` pages and `waiting_body_bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Open connections; more wait to be accepted. Default 128.
    pub connections: usize,
    /// Requests that are answered at a time, each on a thread of its own; more wait. Default 16.
    pub requests: usize,
    /// Bytes of one body. Default 4 MiB.
    pub body_bytes: usize,
    /// Bytes of all bodies that are being received or appended. Default 32 MiB.
    pub waiting_body_bytes: usize,
    /// Bytes of path and query string. Default 16 KiB.
    pub address_bytes: usize,
    /// How long a client may take to send a request's head, or to send nothing. Default 10 s.
    pub header_timeout: Duration,
    /// How long a client may take to send a body, and then the server to answer. Default 30 s.
    pub request_timeout: Duration,
    /// When a connection is closed after its current request. Default 5 min.
    pub connection_age: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections: 128,
            requests: 16,
            body_bytes: 4 << 20,
            waiting_body_bytes: 32 << 20,
            address_bytes: 16 << 10,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            connection_age: Duration::from_secs(300),
        }
    }
}

/// Where the server listens and whom it trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// What writers must show, and off loopback everyone.
    pub token: Option<Secret>,
    /// Listen off loopback without a token. Writes are refused then.
    pub insecure: bool,
    /// What bounds it.
    pub limits: HttpLimits,
}

impl HttpOptions {
    /// The defaults, at this address.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, token: None, insecure: false, limits: HttpLimits::default() }
    }
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address can be reached from outside and nothing guards it.
    #[error(
        "HTTP on {address} is reachable from outside: set HTTP_TOKEN, listen on 127.0.0.1, or say \
         --insecure"
    )]
    Exposed {
        /// The address.
        address: SocketAddr,
    },
    /// A topology's route cannot be served.
    #[error("route {path}: {why}")]
    Route {
        /// Its path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The address cannot be listened on.
    #[error("HTTP cannot listen on {address}; choose another with HTTP_ADDR")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system gave no threads.
    #[error("no threads for the HTTP server")]
    Threads(#[source] std::io::Error),
}

/// A running server. Dropping it ends it at once; [`HttpServer::stop`] lets requests finish.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    connections: Arc<Semaphore>,
    limits: HttpLimits,
    runtime: Option<Runtime>,
}

impl HttpServer {
    /// Listens and serves, on threads of its own, until it is stopped. Each of `routes` belongs to
    /// the application of that id.
    ///
    /// # Errors
    /// A [`ServerError`]; nothing listens then.
    pub fn start(
        target: Arc<dyn QueryTarget>,
        routes: &[(Arc<str>, Arc<dyn Route>)],
        options: HttpOptions,
        metrics: Metrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServerError> {
        let HttpOptions { address, token, insecure, limits } = options;
        let is_local = address.ip().is_loopback();
        if !is_local && token.is_none() && !insecure {
            return Err(ServerError::Exposed { address });
        }
        let mut endpoints = api::own_endpoints();
        let of_topologies = api::topology_endpoints(routes);
        endpoints.extend(of_topologies.map_err(|(path, why)| ServerError::Route { path, why })?);
        let context = Context {
            target,
            metrics,
            clock,
            patience: limits.request_timeout,
            next_partition: 0.into(),
            openapi: openapi::describe(&endpoints),
        };
        let gate = Gate { token, is_local };
        let router = dispatch::router(endpoints, context, gate, &limits);
        let listen = |source| ServerError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(ASYNC_THREADS)
            .max_blocking_threads(limits.requests)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(ServerError::Threads)?;
        let (stop, stopped) = watch::channel(false);
        let connections = Arc::new(Semaphore::new(limits.connections));
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(listen)?
        };
        let acceptor = Acceptor {
            listener,
            router,
            stopped,
            connections: Arc::clone(&connections),
            limits: limits.clone(),
        };
        runtime.spawn(acceptor.run());
        Ok(Self { address, stop, connections, limits, runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nothing more, lets the requests under way finish for at most `within`, and ends.
    pub fn stop(mut self, within: Duration) {
        self.stop.send_replace(true);
        let Some(runtime) = self.runtime.take() else { return };
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        let finished = runtime
            .block_on(async { timeout(within, self.connections.acquire_many(all)).await.is_ok() });
        if !finished {
            tracing::warn!(?within, "HTTP requests did not finish in time; they are cut off");
        }
        // Its threads hold stores, which must be closed before the process ends.
        runtime.shutdown_timeout(within);
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Acceptor {
    listener: tokio::net::TcpListener,
    router: Router,
    stopped: watch::Receiver<bool>,
    connections: Arc<Semaphore>,
    limits: HttpLimits,
}

impl Acceptor {
    async fn run(mut self) {
        loop {
            let accepted = tokio::select! {
                _ = self.stopped.wait_for(|stopped| *stopped) => return,
                accepted = accept(&self.listener, &self.connections) => accepted,
            };
            let Some((stream, permit)) = accepted else { continue };
            let (router, stopped) = (self.router.clone(), self.stopped.clone());
            let limits = self.limits.clone();
            tokio::spawn(async move {
                serve(stream, router, stopped, &limits).await;
                drop(permit);
            });
        }
    }
}

async fn accept(
    listener: &tokio::net::TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            // Mostly a lack of file descriptors, which passes when connections end.
            tracing::warn!(%error, "an HTTP connection could not be accepted");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn serve(
    stream: TcpStream,
    router: Router,
    mut stopped: watch::Receiver<bool>,
    limits: &HttpLimits,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY cannot be set");
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stopped.wait_for(|stopped| *stopped) => None,
        () = sleep(limits.connection_age) => None,
    };
    let ended = match ended {
        Some(ended) => Ok(ended),
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(limits.request_timeout, connection).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection broke off"),
        Err(_) => tracing::debug!("an HTTP connection was cut off: its client reads too slowly"),
    }
}
