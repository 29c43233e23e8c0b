//! Failed records in running applications: refused by agents, tried again, given up, listed, sent back
//! and deleted, all of it over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater::dsl::StreamsBuilder;
use headwater::error::BoxError;
use headwater::shell::{Application, Command, Process, Program};
use headwater_topologies::agents::{
    AgentError, Agents, Behaviour, Outcome, Simulated, Work, runner,
};
use headwater_topologies::retry;
use headwater_topologies::retry::policy::Policy;
use serde_json::{Value as Json, json};

use crate::shell::{get, in_scratch, until};
use crate::world::{Reply, request};

const QUEUE: &str = "agent.tasks.worker";

/// Whether the agents take work; one test only.
static WILLING: AtomicBool = AtomicBool::new(false);

struct Moody(Simulated);

impl Agents for Moody {
    fn ask(&self, work: &Work, now_ms: i64) -> Option<Outcome> {
        self.0.ask(work, now_ms)
    }

    fn admit(&self, _: &Work, _: i64) -> Result<(), AgentError> {
        match WILLING.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(AgentError::Busy { waiting: 7 }),
        }
    }

    fn withdraw(&self, _: uuid::Uuid) {}
}

fn program() -> Program {
    let policy = Policy { retries_max: 2, first_delay_ms: 20, delay_max_ms: 40 };
    let agents: Arc<dyn Agents> = Arc::new(Moody(Simulated(Behaviour::flawless(1))));
    Program {
        name: "failures",
        about: "Runs agents that refuse work",
        applications: vec![
            Application {
                id: runner::APPLICATION,
                topology: Arc::new(move |b: &StreamsBuilder| runner::topology(b, &agents, policy)),
                routes: Vec::new(),
            },
            retry::retry_application(&runner::GUARDED, policy),
            retry::manager_application(),
        ],
        commands: vec![Command { name: "check", about: "Runs the test", run: check }],
    }
}

#[test]
fn refused_work_is_tried_again_given_up_listed_sent_back_and_deleted() {
    let (code, printed) = in_scratch(&program(), "");
    assert_eq!(code, 0, "{printed}");
}

fn step(number: u32) -> String {
    format!("00000000-0000-0000-0000-{number:012}")
}

fn post(at: SocketAddr, path: &str, body: &str) -> Reply {
    let is_json = ["Content-Type: application/json"];
    request(at, &format!("POST {path} HTTP/1.1"), &is_json, body.as_bytes())
}

fn delete(at: SocketAddr, path: &str) -> Reply {
    request(at, &format!("DELETE {path} HTTP/1.1"), &[], b"")
}

/// Asks for work under this number.
fn ask(at: SocketAddr, number: u32) {
    let event = json!({"eventId": step(number), "eventType": "WorkItemCreated",
        "aggregateId": "t", "aggregateType": "Task",
        "eventData": {"id": "w", "description": "d", "type": "testing", "taskId": "t",
                      "attempt": 1},
        "metadata": {"timestamp": 1, "version": "1.0", "sessionId": "s",
                     "correlationId": step(0)}});
    let record = json!({"key": "s", "value": event});
    let reply = post(at, &format!("/topics/{QUEUE}/records"), &record.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Waits until the queue has so many letters, went back and deleted ones.
fn until_letters(at: SocketAddr, size: u64, retried: u64, purged: u64) {
    until(at, "/dlq", |queues| {
        let row = &queues["items"][0];
        row["queue"] == QUEUE
            && (&row["size"], &row["retried"], &row["purged"])
                == (&json!(size), &json!(retried), &json!(purged))
            && row["kept"] == size + retried + purged
    });
}

/// The work was taken and answered.
fn until_answered(at: SocketAddr, number: u32) {
    let path = format!("/apps/agent-runner/stores/agent-answers/windows/{}", step(number));
    until(at, &path, |page| page["items"].as_array().is_some_and(|rows| rows.len() == 1));
}

/// The name of a command that was taken.
fn command(reply: &Reply) -> String {
    assert_eq!(reply.status, 202, "{}", reply.text());
    let taken: Json = serde_json::from_slice(&reply.body).expect("json");
    assert_eq!(taken["queue"], QUEUE);
    taken["correlationId"].as_str().expect("a name").to_owned()
}

/// The manager's answer to a command.
fn told(at: SocketAddr, correlation_id: &str) -> Json {
    loop {
        for partition in 0..6 {
            let path = format!("/topics/api.responses/records?partition={partition}");
            let answer = get(at, &path).items().into_iter().find(|r| r["key"] == correlation_id);
            if let Some(answer) = answer {
                return answer["value"].clone();
            }
        }
    }
}

fn check(process: &Process) -> Result<(), BoxError> {
    let at = process.address().ok_or("no address")?;
    until(at, "/health/ready", |health| health["status"] == "ready");
    ask(at, 1);
    ask(at, 2);
    until_letters(at, 2, 0, 0);
    let worker = |all: &Json| {
        let rows = all["items"].as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["queue"] == QUEUE)
    };
    let tried = worker(&get(at, "/retries").ok()).ok_or("the topic is retried")?;
    let expected = json!({"queue": QUEUE, "taken": 6, "sentBack": 4, "givenUp": 2, "waiting": 0});
    assert_eq!(tried, expected);
    let letters = get(at, &format!("/dlq/{QUEUE}")).items();
    let id = letters[0]["id"].as_str().ok_or("a name")?.to_owned();
    let message = get(at, &format!("/dlq/messages/{id}")).ok()["message"].clone();
    assert_eq!((&message, &message["retryCount"]), (&letters[0], &json!(2)));
    assert_eq!(message["error"], "RETRIABLE_EXCEPTION: 7 pieces of work wait already");
    refusals(at);

    WILLING.store(true, Ordering::SeqCst);
    let answer = told(at, &command(&post(at, &format!("/dlq/messages/{id}/retry"), "")));
    assert_eq!((&answer["status"], &answer["body"]["messageId"]), (&json!(200), &json!(id)));
    until_answered(at, 1);
    until_letters(at, 1, 1, 0);
    post(at, &format!("/dlq/messages/{id}/retry"), "").problem(404, "not-found");
    let answer = told(at, &command(&post(at, &format!("/dlq/{QUEUE}/retry"), "{}")));
    assert_eq!(answer["body"], json!({"success": 1, "failed": 0}));
    until_answered(at, 2);
    until_letters(at, 0, 2, 0);

    WILLING.store(false, Ordering::SeqCst);
    ask(at, 3);
    until_letters(at, 1, 2, 0);
    let answer = told(at, &command(&delete(at, &format!("/dlq/{QUEUE}?olderThan=1"))));
    assert_eq!(answer["body"], json!({"deleted": 0}), "it failed later");
    let answer = told(at, &command(&delete(at, &format!("/dlq/{QUEUE}"))));
    assert_eq!(answer["body"], json!({"deleted": 1}));
    until_letters(at, 0, 2, 1);
    Ok(())
}

/// What is refused before a command is sent.
fn refusals(at: SocketAddr) {
    post(at, "/dlq/messages/nobody/retry", "").problem(404, "not-found");
    let detail = post(at, "/dlq/nowhere/retry", "").problem(404, "not-found");
    assert!(detail.contains("`nowhere`") && detail.contains(QUEUE), "{detail}");
    delete(at, "/dlq/nowhere").problem(404, "not-found");
    post(at, &format!("/dlq/{QUEUE}/retry"), "{\"all\": true}").problem(400, "invalid-body");
    let queue = format!("/dlq/{QUEUE}");
    for (query, kind) in [
        ("olderThan=soon", "invalid-parameter"),
        ("olderThan=-5", "invalid-parameter"),
        ("older=1", "unknown-parameter"),
    ] {
        delete(at, &format!("{queue}?{query}")).problem(400, kind);
    }
    let plain = request(at, &format!("POST {queue}/retry HTTP/1.1"), &[], b"");
    plain.problem(415, "unsupported-media-type");
    delete(at, "/dlq").problem(405, "method-not-allowed");
    let api = get(at, "/openapi.json").ok();
    let operation = &api["paths"]["/dlq/{queue}"]["delete"];
    assert_eq!(operation["parameters"][1]["name"], "olderThan", "{operation}");
    assert!(operation["requestBody"].is_null() && operation["security"].is_array());
}
