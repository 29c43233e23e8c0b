//! The command line of a topology binary, over a real host in a scratch directory.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use headwater::dsl::{Consumed, Grouped, Materialized, Produced, StreamsBuilder, TimeWindows};
use headwater::error::BoxError;
use headwater::query::{NewRecord, Parameter, Parameters, Problem, QueryError, Route, Taken};
use headwater::record::Headers;
use headwater::serde::serdes::{i64, optional, string};
use headwater::shell::{Application, Command, Process, Program, run_with};
use serde_json::{Value as Json, json};

use crate::world::{Reply, request};

/// Lines of text are counted by word, for ever and by minute.
fn words(b: &StreamsBuilder) {
    let minute = std::time::Duration::from_secs(60);
    let words = b
        .stream("lines", Consumed::with(optional(string()), string()))
        .flat_map_values(|_, line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .group_by(|_, word| word.clone(), Grouped::with("words", string(), string()));
    words
        .count(Materialized::count("counts"))
        .to_stream()
        .to("word-counts", Produced::with(string(), optional(i64())));
    words
        .windowed_by(TimeWindows::tumbling(minute, minute))
        .count(Materialized::count("by-minute"));
}

fn program(check: fn(&Process) -> Result<(), BoxError>) -> Program {
    Program {
        name: "words",
        about: "Counts words",
        applications: vec![Application {
            id: "words",
            topology: Arc::new(words),
            routes: vec![Arc::new(Spoken)],
        }],
        commands: vec![Command { name: "check", about: "Runs the test", run: check }],
    }
}

/// `POST /tasks`: a line is said; the server's own `GET /tasks` stays what it is.
struct Spoken;

impl Route for Spoken {
    fn path(&self) -> &str {
        "/tasks"
    }

    fn about(&self) -> &str {
        "a line that is said"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn takes(&self) -> bool {
        true
    }

    fn take(&self, body: &[u8], _: &Parameters, now_ms: i64) -> Result<Taken, QueryError> {
        let said: Json = serde_json::from_slice(body)
            .map_err(|error| QueryError::new(Problem::InvalidBody, error.to_string()))?;
        let line = said["line"].as_str().unwrap_or_default().as_bytes().to_vec();
        let (topic, key, headers) = ("lines".to_owned(), b"k".to_vec(), Headers::new());
        let record = NewRecord { topic, key, value: line, timestamp: now_ms, headers };
        Ok(Taken { records: vec![record], answer: json!({ "said": said["line"] }) })
    }
}

#[test]
fn a_route_that_takes_a_body_appends_its_records_and_answers_accepted() {
    let (code, printed) = in_scratch(&program(say_and_count), "");
    assert_eq!(code, 0, "{printed}");
}

fn say_and_count(process: &Process) -> Result<(), BoxError> {
    let at = process.address().ok_or("no address")?;
    until(at, "/health/ready", |health| health["status"] == "ready");
    let json_is_sent = ["Content-Type: application/json"];
    let say = |body: &str| request(at, "POST /tasks HTTP/1.1", &json_is_sent, body.as_bytes());
    let reply = say(r#"{"line": "well said well"}"#);
    assert_eq!(reply.status, 202, "{}", reply.text());
    assert_eq!(serde_json::from_str::<Json>(reply.text())?, json!({ "said": "well said well" }));
    until(at, "/stores/counts/keys/well", |row| row["value"] == 2);
    assert_eq!(say("{").status, 400);
    assert!(get(at, "/tasks").items().len() == 8, "the server's own route under the same path");
    let api = get(at, "/openapi.json").ok();
    assert!(api["paths"]["/tasks"]["post"]["requestBody"]["required"] == true, "{api}");
    Ok(())
}

/// Standard output that can be read afterwards.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
    }
}

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a command line: its exit code and what it printed.
fn command(program: &Program, line: &str) -> (u8, String) {
    let mut printed = Printed::default();
    let words = line.split(' ').map(OsString::from);
    (run_with(program, words, &mut printed), printed.text())
}

pub(crate) fn in_scratch(program: &Program, more: &str) -> (u8, String) {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let directory = scratch.path().join("state");
    let line = format!("words check --http 127.0.0.1:0 --state-dir {}{more}", directory.display());
    command(program, &line)
}

pub(crate) fn get(at: SocketAddr, path: &str) -> Reply {
    request(at, &format!("GET {path} HTTP/1.1"), &[], b"")
}

/// Asks until the answer is as it is to be; the test's own deadline is the suite's.
pub(crate) fn until(at: SocketAddr, path: &str, what: impl Fn(&Json) -> bool) -> Json {
    loop {
        let reply = get(at, path);
        if reply.status == 200 {
            let answer = reply.ok();
            if what(&answer) {
                return answer;
            }
        }
    }
}

fn append(at: SocketAddr, records: &Json) {
    let json = ["Content-Type: application/json"];
    let line = "POST /topics/lines/records HTTP/1.1";
    loop {
        let reply = request(at, line, &json, records.to_string().as_bytes());
        // The application makes its topics when it starts.
        if reply.status != 404 {
            reply.ok();
            return;
        }
    }
}

fn count_words_and_ask_for_them(process: &Process) -> Result<(), BoxError> {
    let at = process.address().ok_or("no address")?;
    append(
        at,
        &json!([
            { "value": "to be or not to be", "timestamp": 1_000 },
            { "value": "to ask", "timestamp": 61_000 },
        ]),
    );
    let row = until(at, "/stores/counts/keys/to", |row| row["value"] == 3);
    assert!(!row["asOf"].as_array().ok_or("no position")?.is_empty(), "{row}");
    until(at, "/health/ready", |health| health["status"] == "ready");
    until(at, "/stores/by-minute/windows/to", |page| {
        page["items"].as_array().is_some_and(|rows| rows.len() == 2)
    });
    // Each partition's task commits by itself: the other words may come later than "to".
    let counted = until(at, "/stores/counts/range?from=a&to=o", |page| {
        let rows = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        rows.iter().filter_map(|row| row["value"].as_i64()).sum::<i64>() == 4
    });
    let words: Vec<&Json> =
        counted["items"].as_array().ok_or("no rows")?.iter().map(|row| &row["key"]).collect();
    assert_eq!(words, ["ask", "be", "not"]);
    until(at, "/topics/word-counts/records?partition=0", |_| true);
    let tasks = get(at, "/tasks").items();
    assert_eq!(tasks.len(), 8, "two subtopologies of four partitions: {tasks:?}");
    assert!(tasks.iter().all(|task| task["state"] == "running"), "{tasks:?}");
    assert!(get(at, "/metrics").text().contains("stream_thread_commit_total"));
    ask_by_command_line(at)
}

fn ask_by_command_line(at: SocketAddr) -> Result<(), BoxError> {
    let program = program(|_| Ok(()));
    let ask =
        |question: &str| command(&program, &format!("words query --url http://{at} {question}"));
    let (code, row) = ask("key counts be");
    assert_eq!((code, serde_json::from_str::<Json>(&row)?["value"].clone()), (0, json!(2)));
    let (code, rows) = ask("range counts --from a --to o --limit 1 --all");
    assert_eq!((code, rows.lines().count()), (0, 3), "{rows}");
    let (code, page) = ask("windows by-minute to --from 1970-01-01T00:01:00Z");
    assert_eq!(
        (code, serde_json::from_str::<Json>(&page)?["items"][0]["value"].clone()),
        (0, json!(1))
    );
    assert_eq!(ask("--app words get tasks").0, 0);
    assert_eq!(ask("key counts nobody").0, 3);
    assert_eq!(ask("key nowhere x").0, 3);
    assert_eq!(ask("range counts --limit 5000").0, 1);
    Ok(())
}

#[test]
fn a_host_counts_what_is_appended_over_http_and_answers_every_question() {
    let (code, printed) = in_scratch(&program(count_words_and_ask_for_them), "");
    assert_eq!(code, 0, "{printed}");
    for said in ["words: applications words", "log: embedded", "memory: ", "listening on http://"] {
        assert!(printed.contains(said), "{printed}");
    }
}

#[test]
fn a_command_that_fails_stops_the_applications_and_tells_so() {
    let (code, _) = in_scratch(&program(|_| Err("it went wrong".into())), "");
    assert_eq!(code, 1);
}

#[test]
fn the_topology_is_described_without_starting_anything() {
    let program = program(|_| Ok(()));
    let (code, text) = command(&program, "words describe");
    assert!(code == 0 && text.contains("topic lines") && text.contains("counts"), "{text}");
    assert!(text.contains("words-words-repartition"), "{text}");
    let (code, json) = command(&program, "words describe --format json --application-id mine");
    let described: Json = serde_json::from_str(&json).expect("JSON");
    assert!(code == 0 && described["nodes"].is_array(), "{json}");
    assert!(json.contains("mine-words-repartition"), "{json}");
    let (code, chart) = command(&program, "words describe --format mermaid");
    assert!(code == 0 && chart.starts_with("flowchart"), "{chart}");
}

#[test]
fn a_wrong_command_line_or_configuration_starts_nothing() {
    let program = program(|_| Err("it must not run".into()));
    for line in ["words plan", "words --threads", "words describe --format svg"] {
        assert_eq!(command(&program, line).0, 2, "{line}");
    }
    for more in [" --threads none", " --threads 0", " --memory-limit 1", " --commit-interval-ms x"]
    {
        assert_eq!(in_scratch(&program, more).0, 2, "{more}");
    }
    let exposed = "words check --http 0.0.0.0:0 --state-dir never-made";
    assert_eq!(command(&program, exposed).0, 2);
    assert!(!std::path::Path::new("never-made").exists());
}

#[test]
fn nobody_who_answers_is_an_error_with_a_question() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = free.local_addr().expect("its address");
    drop(free);
    let program = program(|_| Ok(()));
    assert_eq!(command(&program, &format!("words query --url http://{at} get /tasks")).0, 1);
}
