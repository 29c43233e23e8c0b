//! What is bounded: sizes, times, connections; and who may write.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use headwater::query::{HttpLimits, Parameter, Parameters, QueryError, Route, StoreQueries};
use serde_json::{Value as Json, json};

use crate::world::{APPLICATION, Reply, Setup, World, connect, read_reply, request};

const PATH: &str = "/topics/orders/records";
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

/// A route that says when it was entered and answers when it may.
struct Slow {
    entered: Mutex<Sender<()>>,
    may_answer: Mutex<Receiver<()>>,
}

impl Route for Slow {
    fn path(&self) -> &str {
        "/slow"
    }

    fn about(&self) -> &str {
        "answers when it may"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn answer(&self, _: &Parameters, _: &StoreQueries<'_>) -> Result<Json, QueryError> {
        self.entered.lock().expect("no panic").send(()).expect("the test waits");
        // An error is the end of the test.
        let answered = self.may_answer.lock().expect("no panic").recv();
        Ok(json!({ "answered": answered.is_ok() }))
    }
}

/// A world with a slow route, what it says, and how it is let go.
fn with_slow_route(limits: HttpLimits) -> (World, Receiver<()>, Sender<()>) {
    let (entered, is_entered) = channel();
    let (go, may_answer) = channel();
    let slow: Arc<dyn Route> =
        Arc::new(Slow { entered: Mutex::new(entered), may_answer: Mutex::new(may_answer) });
    let routes = vec![(Arc::from(APPLICATION), slow)];
    (World::with(Setup { limits, routes, ..Setup::default() }), is_entered, go)
}

fn short(limits: HttpLimits) -> HttpLimits {
    HttpLimits { header_timeout: SHORT, request_timeout: SHORT, ..limits }
}

/// The connection ends without an answer of status 200.
fn is_closed(stream: TcpStream) -> bool {
    matches!(read_reply(stream).status, 0 | 408)
}

#[test]
fn a_body_that_is_too_large_is_refused_by_its_length_and_by_its_bytes() {
    let limits = HttpLimits { body_bytes: 1_000, ..HttpLimits::default() };
    let world = World::with(Setup { limits, ..Setup::default() });
    let body = json!({ "value": "x".repeat(2_000) }).to_string();
    let detail = world.post(PATH, &body).problem(413, "body-too-large");
    assert!(detail.contains("1000 bytes"), "{detail}");
    let mut stream = connect(world.address());
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    for _ in 0..4 {
        let chunk = format!("190\r\n{}\r\n", "x".repeat(400));
        drop(stream.write_all(chunk.as_bytes()));
    }
    read_reply(stream).problem(413, "body-too-large");
    world.post(PATH, r#"{"value":1}"#).ok();
}

#[test]
fn a_client_that_sends_its_head_too_slowly_is_cut_off() {
    let limits = short(HttpLimits::default());
    let world = World::with(Setup { limits, ..Setup::default() });
    let mut slow = connect(world.address());
    slow.write_all(b"GET /stores HTTP/1.1\r\nHo").expect("it reads");
    assert!(is_closed(slow));
    let silent = connect(world.address());
    assert!(is_closed(silent));
}

#[test]
fn a_client_that_sends_its_body_too_slowly_is_told_so() {
    let limits = short(HttpLimits::default());
    let world = World::with(Setup { limits, ..Setup::default() });
    let mut slow = connect(world.address());
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).expect("it reads");
    read_reply(slow).problem(408, "too-slow");
}

#[test]
fn beyond_the_limit_of_connections_clients_wait_and_are_served() {
    let limits = short(HttpLimits { connections: 2, ..HttpLimits::default() });
    let world = World::with(Setup { limits, ..Setup::default() });
    let idle = [connect(world.address()), connect(world.address())];
    assert_eq!(world.get("/stores").status, 200, "served when the idle ones are cut off");
    drop(idle);
}

#[test]
fn an_old_connection_is_closed_after_its_request() {
    let limits = HttpLimits { connection_age: SHORT, ..HttpLimits::default() };
    let world = World::with(Setup { limits, ..Setup::default() });
    let mut stream = connect(world.address());
    stream.write_all(b"GET /apps HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("it is closed in the end");
    assert!(all.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&all));
}

#[test]
fn a_question_that_takes_too_long_is_given_up_and_its_thread_comes_back() {
    let (world, entered, go) =
        with_slow_route(short(HttpLimits { requests: 1, ..HttpLimits::default() }));
    let detail = world.get("/slow").problem(504, "timed-out");
    assert!(detail.contains("300ms"), "{detail}");
    entered.recv_timeout(LONG).expect("it was asked");
    world.get("/stores").problem(503, "unavailable");
    assert_eq!(world.get("/health/live").status, 200, "probes need no turn");
    go.send(()).expect("it still waits");
    // The turn comes back at once, or a moment later.
    while world.get("/stores").status != 200 {}
}

#[test]
fn a_stop_lets_a_request_under_way_finish_and_accepts_no_more() {
    let (mut world, entered, go) = with_slow_route(HttpLimits::default());
    let address = world.address();
    let asking = thread::spawn(move || request(address, "GET /slow HTTP/1.1", &[], b""));
    entered.recv_timeout(LONG).expect("it was asked");
    let server = world.take_server();
    let stopping = thread::spawn(move || server.stop(LONG));
    while TcpStream::connect(address).is_ok() {}
    go.send(()).expect("it still waits");
    let reply: Reply = asking.join().expect("no panic");
    assert_eq!(reply.ok()["answered"], true);
    stopping.join().expect("no panic");
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let (mut world, entered, _go) = with_slow_route(HttpLimits::default());
    let address = world.address();
    let asking = thread::spawn(move || request(address, "GET /slow HTTP/1.1", &[], b""));
    entered.recv_timeout(LONG).expect("it was asked");
    world.take_server().stop(SHORT);
    assert_eq!(asking.join().expect("no panic").status, 0, "the connection is cut off");
}

#[test]
fn with_a_token_writes_need_it_and_reads_do_not() {
    let world = World::with(Setup { token: Some("s3cret"), ..Setup::default() });
    let reply = world.post(PATH, r#"{"value":1}"#);
    let detail = reply.problem(401, "unauthorized");
    assert!(detail.contains("Authorization: Bearer"), "{detail}");
    assert!(reply.head.to_lowercase().contains("www-authenticate: bearer"), "{}", reply.head);
    let line = format!("POST {PATH} HTTP/1.1");
    let json = "Content-Type: application/json";
    let wrong = [json, "Authorization: Bearer s3cre"];
    request(world.address(), &line, &wrong, br#"{"value":1}"#).problem(401, "unauthorized");
    let right = [json, "Authorization: Bearer s3cret"];
    request(world.address(), &line, &right, br#"{"value":1}"#).ok();
    assert_eq!(world.get("/topics").status, 200);
}

#[test]
fn on_loopback_a_name_that_someone_pointed_here_is_refused() {
    let world = World::new();
    let ask = |host: &str, path: &str| {
        let mut stream = connect(world.address());
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it reads");
        read_reply(stream)
    };
    ask("evil.example:8080", "/stores").problem(403, "forbidden");
    assert_eq!(ask("evil.example", "/health/live").status, 200);
    assert_eq!(ask("127.0.0.1:8080", "/stores").status, 200);
}

#[test]
fn what_is_no_http_is_refused_and_the_server_goes_on() {
    let world = World::new();
    let many = format!("GET /apps HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(200));
    let huge =
        format!("GET /apps HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n", "b".repeat(200_000));
    for junk in [b"\0\0\0\0\r\n\r\n".as_slice(), b"GET\r\n\r\n", many.as_bytes(), huge.as_bytes()] {
        let mut stream = connect(world.address());
        drop(stream.write_all(junk));
        let status = read_reply(stream).status;
        assert!(matches!(status, 0 | 400 | 431), "{status}");
    }
    assert_eq!(world.get("/apps").status, 200);
}
