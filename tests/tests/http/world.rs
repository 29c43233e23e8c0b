//! A server over stores and a log in memory, and a client that can send anything.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use headwater::actor::spawn::{Running, spawn};
use headwater::actor::{Poll, Ticket};
use headwater::config::Secret;
use headwater::dsl::{Consumed, Grouped, Materialized, StreamsBuilder};
use headwater::log::embedded::{EmbeddedLog, EmbeddedSettings};
use headwater::log::{Cleanup, Log, TopicSpec};
use headwater::metrics::Metrics;
use headwater::query::{
    ApplicationInfo, CommittedPartition, Health, HttpLimits, HttpOptions, HttpServer, NewRecord,
    Problem, QueryError, QueryTarget, Route, StoreInfo, TaskInfo, TaskInput, TopologyInfo,
};
use headwater::record::TaskId;
use headwater::serde::kafka_streams::partition_for;
use headwater::serde::serdes::{byte_vec, i64, string};
use headwater::store::{StoreSpec, Stored, WindowSpec};
use headwater::time::{Clock, SystemClock};
use headwater_state::commit::{StateBatch, TaskCommit};
use headwater_state::database::memory::MemoryDisk;
use headwater_state::database::{Database, FamilyKind, Reader};
use headwater_state::layout::timestamped;
use headwater_state::lease::Leases;
use headwater_state::positions::{InputPosition, TaskPositions, tasks_family};
use headwater_state::store::{StorePartition, WindowStore};
use serde_json::{Value as Json, json};

/// Partitions of every store and topic.
pub(crate) const PARTITIONS: u32 = 3;
pub(crate) const APPLICATION: &str = "shop";
/// Windows of the store `visits`.
pub(crate) const VISITS: WindowSpec = WindowSpec { size_ms: 60_000, retention_ms: 3_600_000 };
/// A client waits this long before its test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the server is started with.
pub(crate) struct Setup {
    pub(crate) limits: HttpLimits,
    pub(crate) token: Option<&'static str>,
    pub(crate) routes: Vec<(Arc<str>, Arc<dyn Route>)>,
    pub(crate) applications: Vec<&'static str>,
    pub(crate) with_log: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: HttpLimits::default(),
            token: None,
            routes: Vec::new(),
            applications: vec![APPLICATION],
            with_log: true,
        }
    }
}

pub(crate) struct World {
    pub(crate) target: Arc<Target>,
    pub(crate) metrics: Metrics,
    server: Option<HttpServer>,
    running: Vec<Running>,
}

/// What the server reads: stores that tests fill by hand.
pub(crate) struct Target {
    applications: Vec<Arc<ApplicationInfo>>,
    database: Arc<dyn Database>,
    leases: Leases,
    log: Option<Arc<EmbeddedLog>>,
    /// Partitions that are elsewhere.
    pub(crate) missing: Mutex<BTreeSet<u32>>,
    pub(crate) health: Mutex<Health>,
    pub(crate) disk: MemoryDisk,
}

fn specs() -> Vec<StoreSpec> {
    let builder = StreamsBuilder::new();
    let _names = builder.add_store(Stored::key_value("names", string(), string()));
    let _numbers = builder.add_store(Stored::key_value("numbers", i64(), string()));
    let _blobs = builder.add_store(Stored::key_value("blobs", byte_vec(), byte_vec()));
    let _visits = builder.add_store(Stored::window("visits", VISITS, string(), i64()));
    let _counts = builder
        .stream("orders", Consumed::with(string(), i64()))
        .group_by_key(Grouped::with("by-key", string(), i64()))
        .count(Materialized::count("counts"));
    builder.build().expect("a valid topology").stores().to_vec()
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup) -> Self {
        let disk = MemoryDisk::new();
        let database: Arc<dyn Database> = disk.open("data").expect("a new disk");
        let leases = Leases::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (log, actors) = EmbeddedLog::open(
            Arc::clone(&database),
            leases.clone(),
            EmbeddedSettings { sync_interval: Duration::from_millis(1), ..Default::default() },
        )
        .expect("an empty log opens");
        let running = actors.into_iter().map(|a| spawn(a, Arc::clone(&clock)).expect("a thread"));
        let running = running.collect();
        let topic =
            |name: &str, cleanup| TopicSpec { name: name.into(), partitions: PARTITIONS, cleanup };
        let forever = Cleanup::Delete { retention: None };
        let topics = vec![topic("orders", forever), topic("prices", Cleanup::Compact)];
        wait(&log.create_topics(topics));
        let stores: Vec<StoreInfo> =
            specs().into_iter().map(|spec| StoreInfo { spec, subtopology: Some(0) }).collect();
        let info = |id: &&str| {
            Arc::new(ApplicationInfo {
                application_id: (*id).into(),
                topology: TopologyInfo {
                    text: "orders -> counts\n".to_owned(),
                    mermaid: "flowchart TD\n".to_owned(),
                    json: json!({ "nodes": [] }),
                },
                stores: stores.clone(),
            })
        };
        let applications: Vec<_> = setup.applications.iter().map(info).collect();
        for application in &setup.applications {
            for store in &stores {
                let family = family(application, &store.spec.name);
                database.family(&family, FamilyKind::State).expect("a new family");
            }
        }
        let target = Arc::new(Target {
            applications,
            database,
            leases,
            log: setup.with_log.then_some(log),
            missing: Mutex::default(),
            health: Mutex::default(),
            disk,
        });
        let options = HttpOptions {
            token: setup.token.map(Secret::new),
            limits: setup.limits,
            ..HttpOptions::at(SocketAddr::from(([127, 0, 0, 1], 0)))
        };
        let metrics = Metrics::new();
        let of_server = Arc::clone(&target) as Arc<dyn QueryTarget>;
        let server = HttpServer::start(of_server, &setup.routes, options, metrics.clone(), clock);
        Self { target, metrics, server: Some(server.expect("a free port")), running }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.as_ref().expect("it runs").address()
    }

    pub(crate) fn take_server(&mut self) -> HttpServer {
        self.server.take().expect("it runs")
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        request(self.address(), &format!("GET {path} HTTP/1.1"), &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        let json = ["Content-Type: application/json"];
        request(self.address(), &format!("POST {path} HTTP/1.1"), &json, body.as_ref())
    }

    /// A committed row of a store without timestamps.
    pub(crate) fn put(&self, store: &str, key: &[u8], value: &[u8]) {
        self.target.put(APPLICATION, store, key, value);
    }

    /// A committed row of a store with timestamps.
    pub(crate) fn put_at(&self, store: &str, key: &[u8], value: &[u8], timestamp: i64) {
        let mut stored = Vec::new();
        timestamped::encode(timestamp, value, &mut stored);
        self.target.put(APPLICATION, store, key, &stored);
    }

    /// Committed windows of a key of the store `visits`, each with its start for a value.
    pub(crate) fn put_windows(&self, key: &[u8], starts: &[i64]) {
        let target = &self.target;
        let (state, partition) = target.open(APPLICATION, "visits", key);
        let mut store = WindowStore::new(state, VISITS.retention_ms).expect("a window store");
        for start in starts {
            let value = start.to_be_bytes();
            store.put(key, *start, Some(&value)).expect("a short key");
        }
        store.state_mut().freeze();
        target.write(APPLICATION, partition, store.state().commit(None));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.server.take());
        if let Some(log) = &self.target.log {
            log.close();
            for running in self.running.drain(..) {
                running.join();
            }
        }
    }
}

fn family(application: &str, store: &str) -> String {
    format!("{application}/{store}")
}

impl Target {
    fn open(&self, application: &str, store: &str, key: &[u8]) -> (StorePartition, u32) {
        let partition = partition_for(key, PARTITIONS);
        let lease = self.leases.grant(&family(application, store), partition);
        let state = StorePartition::open(Arc::clone(&self.database), lease).expect("it opens");
        (state, partition)
    }

    pub(crate) fn put(&self, application: &str, store: &str, key: &[u8], value: &[u8]) {
        let (mut state, partition) = self.open(application, store, key);
        state.put(key, value).expect("a short key");
        state.freeze();
        let commit = state.commit(None);
        self.write(application, partition, commit);
    }

    /// Writes with it that the task has read one record more.
    fn write(
        &self,
        application: &str,
        partition: u32,
        store: headwater_state::commit::StoreCommit,
    ) {
        let name = tasks_family(application);
        let family = self.database.family(&name, FamilyKind::Meta).expect("it opens");
        let task = TaskId { subtopology: 0, partition }.to_string();
        let positions = TaskPositions::read(&*self.database, &family, &task).expect("readable");
        let mut positions = positions.unwrap_or_default();
        let input = positions.inputs.entry(("orders".to_owned(), partition));
        input.or_insert(InputPosition { next_offset: 0, time_ms: None }).next_offset += 1;
        let tasks = vec![TaskCommit { family, task, positions }];
        let batch = StateBatch { stores: vec![store], tasks };
        batch.write(&self.leases, &*self.database, &[]).expect("memory takes it");
    }
}

impl QueryTarget for Target {
    fn applications(&self) -> Vec<Arc<ApplicationInfo>> {
        self.applications.clone()
    }

    fn partitions(&self, _: &str, _: &str) -> Option<u32> {
        Some(PARTITIONS)
    }

    fn committed(
        &self,
        application: &str,
        store: &str,
        partition: Option<u32>,
    ) -> Vec<CommittedPartition> {
        let reader: Arc<dyn Reader> = self.database.view().expect("it is open");
        let family = reader.find_family(&family(application, store)).expect("it was made");
        let missing = self.missing.lock().expect("no panic").clone();
        let here = (0..PARTITIONS).filter(|p| !missing.contains(p));
        let asked = here.filter(|p| partition.is_none_or(|asked| asked == *p));
        asked
            .map(|partition| CommittedPartition {
                partition,
                reader: Arc::clone(&reader),
                family: family.clone(),
            })
            .collect()
    }

    fn tasks(&self, _: &str) -> Vec<TaskInfo> {
        let inputs =
            vec![TaskInput { topic: "orders".into(), partition: 1, offset: Some(7), lag: Some(2) }];
        vec![TaskInfo {
            id: TaskId { subtopology: 0, partition: 1 },
            state: "running".to_owned(),
            thread: "shop-0".to_owned(),
            inputs,
            restores: Vec::new(),
        }]
    }

    fn health(&self) -> Health {
        self.health.lock().expect("no panic").clone()
    }

    fn log(&self) -> Option<Arc<EmbeddedLog>> {
        self.log.clone()
    }

    fn append(&self, _: &[NewRecord], _: Duration) -> Result<(), QueryError> {
        Err(QueryError::new(Problem::NoEmbeddedLog, "this target takes nothing"))
    }
}

fn wait<T>(ticket: &Ticket<Result<T, headwater::log::LogError>>) -> T {
    loop {
        match ticket.poll() {
            Poll::Done(answer) => return answer.expect("the log does it"),
            Poll::Abandoned => panic!("the log has stopped"),
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

/// What a client got.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("answers are UTF-8")
    }

    /// The JSON of an answer with status 200.
    pub(crate) fn ok(&self) -> Json {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).expect("answers are JSON")
    }

    /// The items of a listing.
    pub(crate) fn items(&self) -> Vec<Json> {
        self.ok()["items"].as_array().expect("a listing").clone()
    }

    /// Checks that it is this problem, and gives its `detail`.
    pub(crate) fn problem(&self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{} {}", self.head, self.text());
        let head = self.head.to_lowercase();
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        let problem: Json = serde_json::from_slice(&self.body).expect("problems are JSON");
        assert_eq!(problem["type"], format!("urn:headwater:problem:{kind}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string(), "{problem}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(!detail.is_empty());
        detail.to_owned()
    }
}

/// Sends one request on a connection of its own.
pub(crate) fn request(at: SocketAddr, line: &str, headers: &[&str], body: &[u8]) -> Reply {
    let mut head = format!("{line}\r\nHost: localhost\r\nConnection: close\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let mut stream = connect(at);
    // The server may answer and close before it has read everything.
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
    read_reply(stream)
}

pub(crate) fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// Reads until the server closes.
pub(crate) fn read_reply(mut stream: TcpStream) -> Reply {
    let mut all = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the server neither answers nor closes: {error}"),
        }
    }
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(all.len());
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Reply { status, head, body: all.get(end + 4..).unwrap_or_default().to_vec() }
}
