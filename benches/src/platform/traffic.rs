//! What the outside sends the platform, from a seed: users' tasks, commands to sessions, work items
//! that wait for quality gates, and agents' metrics.
//!
//! Owns the records and what the checker may expect of them. It must not use the platform's own
//! types: documents are written here as an outsider writes them.

use headwater::record::Headers;
use headwater::serde::kafka_streams::partition_for;

/// Shares of the input in thousandths; the rest are metrics.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Tasks of users, each in a session of its own.
    pub tasks: u32,
    /// Commands to sessions.
    pub commands: u32,
    /// Completed work items that wait for their gates.
    pub completions: u32,
}

/// Commands of one session's life: begun, two tasks, two work items, ended.
pub const SCRIPT: u64 = 6;

/// Sessions that get commands at a time.
const OPEN_SESSIONS: usize = 500;

/// Sessions whose agents tell metrics.
const METRIC_SESSIONS: u64 = 2_000;

/// A task is judged from outside when so many came after it, and until so many more did.
const JUDGED_AFTER: u64 = 200;
const JUDGED_UNTIL: u64 = 2_000;

/// One record to send.
#[derive(Debug)]
pub struct Input {
    /// Where to.
    pub topic: &'static str,
    /// Its partition there.
    pub partition: u32,
    /// The session.
    pub key: String,
    /// The document.
    pub value: String,
    /// What every producer of the platform says beside it.
    pub headers: Headers,
}

/// What was sent; everything the checker needs to know of it.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Events.
    pub events: u64,
    /// Tasks among them, named `task-0` and up.
    pub tasks: u64,
    /// The numbers of the events that were commands, and each one's place in its session's script.
    pub commands: Vec<(u64, u8)>,
    /// The numbers of the events that were completions.
    pub completions: Vec<u64>,
    /// Metrics.
    pub metrics: u64,
}

/// An endless stream of input.
#[derive(Debug)]
pub struct Traffic {
    seed: u64,
    random: u64,
    mix: Mix,
    /// The number of each open session, and how far its script has come.
    sessions: Vec<(u64, u64)>,
    next_session: u64,
    /// What was drawn so far.
    pub sent: Sent,
}

/// The topics that are written, with their partitions.
pub const TOPICS: [(&str, u32); 4] = [
    ("agent.tasks.manager", 3),
    ("session.commands", 6),
    ("task.completed", 3),
    ("monitoring.events", 12),
];

/// The service named as the source of all input.
pub const SOURCE: &str = "platform-load";

impl Traffic {
    /// The stream of a seed.
    pub fn new(seed: u64, mix: Mix) -> Self {
        let open = u64::try_from(OPEN_SESSIONS).expect("few");
        let sessions = (0..open).map(|number| (number, 0)).collect();
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { seed, random, mix, sessions, next_session: open, sent: Sent::default() }
    }

    /// The next record, at this time in milliseconds.
    pub fn next(&mut self, now: i64) -> Input {
        let number = self.sent.events;
        self.sent.events += 1;
        let draw = self.below(1_000);
        let Mix { tasks, commands, completions } = self.mix;
        let (tasks, commands, completions) =
            (u64::from(tasks), u64::from(commands), u64::from(completions));
        if draw < tasks {
            self.task(number, now)
        } else if draw < tasks + commands {
            self.command(number, now)
        } else if draw < tasks + commands + completions && self.sent.tasks > JUDGED_AFTER {
            self.completion(number, now)
        } else {
            self.metric(number, now)
        }
    }

    /// xorshift64*: any generator does, as long as it is not the platform's.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn task(&mut self, number: u64, now: i64) -> Input {
        let task = self.sent.tasks;
        self.sent.tasks += 1;
        let session = format!("user-session-{task}");
        let data = format!(
            r#"{{"taskId":"task-{task}","description":"Implement part {task} of the product",
            "priority":"high","assignedTo":"manager-agent","sessionId":"{session}"}}"#
        );
        let topic = TOPICS[0];
        self.event(
            number,
            now,
            topic,
            "TaskAssigned",
            ("Task", &format!("task-{task}")),
            &session,
            &data,
        )
    }

    fn command(&mut self, number: u64, now: i64) -> Input {
        let open = self.below(u64::try_from(OPEN_SESSIONS).expect("few"));
        let at = usize::try_from(open).expect("few");
        let (session, step) = self.sessions[at];
        self.sent.commands.push((number, u8::try_from(step).expect("a short script")));
        self.sessions[at] = if step + 1 == SCRIPT {
            self.next_session += 1;
            (self.next_session - 1, 0)
        } else {
            (session, step + 1)
        };
        let key = format!("commanded-{session}");
        let (kind, payload) = match step {
            0 => (
                "StartSession",
                format!(r#"{{"userId":"user-{}","taskDescription":"work"}}"#, session % 50),
            ),
            1 | 2 => (
                "AssignTaskToAgent",
                format!(r#"{{"taskId":"{key}-{step}","agentType":"worker"}}"#),
            ),
            3 | 4 => (
                "RecordWorkItemCompleted",
                completed(&format!("item-{step}"), &format!("{key}-{}", step - 2), &key, now),
            ),
            _ => ("CompleteSession", r#"{"reason":"the script is over"}"#.to_owned()),
        };
        let id = id_of(self.seed, number);
        let value = format!(
            r#"{{"id":"{id}","type":"{kind}","aggregateId":"{key}","payload":{payload},
            "metadata":{{"correlationId":"{id}","timestamp":{now}}}}}"#
        );
        let mut headers = Headers::new();
        headers.append("correlation-id", Some(id.into()));
        headers.append("event-source", Some(SOURCE.into()));
        let (topic, partitions) = TOPICS[1];
        let partition = partition_for(key.as_bytes(), partitions);
        Input { topic, partition, key, value, headers }
    }

    fn completion(&mut self, number: u64, now: i64) -> Input {
        self.sent.completions.push(number);
        let newest = self.sent.tasks - JUDGED_AFTER;
        let task = newest - 1 - self.below(newest.min(JUDGED_UNTIL));
        let session = format!("user-session-{task}");
        let item = format!("outside-{number}");
        let data = completed(&item, &format!("task-{task}"), &session, now);
        self.event(
            number,
            now,
            TOPICS[2],
            "WorkItemCompleted",
            ("WorkItem", &item),
            &session,
            &data,
        )
    }

    fn metric(&mut self, number: u64, now: i64) -> Input {
        self.sent.metrics += 1;
        let session = format!("agents-{}", self.below(METRIC_SESSIONS));
        let (metric, value) = match self.below(4) {
            0 => ("execution_time_ms", self.below(30_000).to_string()),
            1 => ("queue_time_ms", self.below(5_000).to_string()),
            2 => ("tokens", self.below(8_000).to_string()),
            _ => ("cost_usd", format!("0.{:03}", self.below(1_000))),
        };
        let data = format!(
            r#"{{"agentType":"worker","agentId":"agent-{}","sessionId":"{session}",
            "metric":"{metric}","value":{value},"success":true}}"#,
            self.below(8)
        );
        let about = ("Session", &*session);
        self.event(number, now, TOPICS[3], "AgentPerformanceMetric", about, &session, &data)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one document")]
    fn event(
        &self,
        number: u64,
        now: i64,
        (topic, partitions): (&'static str, u32),
        kind: &str,
        (aggregate_type, aggregate): (&str, &str),
        session: &str,
        data: &str,
    ) -> Input {
        let id = id_of(self.seed, number);
        let value = format!(
            r#"{{"eventId":"{id}","eventType":"{kind}","aggregateId":"{aggregate}",
            "aggregateType":"{aggregate_type}","eventData":{data},
            "metadata":{{"timestamp":{now},"version":"1.0","correlationId":"{id}",
            "userId":"user-{}","sessionId":"{session}"}}}}"#,
            number % 50
        );
        let mut headers = Headers::new();
        for (name, value) in [
            ("event-type", kind),
            ("event-version", "1.0"),
            ("correlation-id", &id),
            ("event-source", SOURCE),
            ("aggregate-id", aggregate),
            ("content-type", "application/json"),
        ] {
            headers.append(name, Some(value.to_owned().into()));
        }
        let partition = partition_for(session.as_bytes(), partitions);
        Input { topic, partition, key: session.to_owned(), value, headers }
    }
}

fn completed(item: &str, task: &str, session: &str, now: i64) -> String {
    format!(
        r#"{{"workItemId":"{item}","taskId":"{task}","sessionId":"{session}",
        "result":{{"success":true,"output":"done as asked"}},"completedAt":{now},
        "executionTime":1200,"type":"testing"}}"#
    )
}

/// The id of an event: its seed and its number, as a UUID.
pub fn id_of(seed: u64, number: u64) -> String {
    format!("{:08x}-0000-4000-8000-{number:012x}", seed & 0xffff_ffff)
}

/// The number of an event of this seed by its id.
pub fn number_of(seed: u64, id: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(id).ok()?;
    let prefix = format!("{:08x}-0000-4000-8000-", seed & 0xffff_ffff);
    u64::from_str_radix(text.strip_prefix(&prefix)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_event_is_in_its_id() {
        assert_eq!(number_of(7, id_of(7, 1_234_567).as_bytes()), Some(1_234_567));
        assert_eq!(number_of(8, id_of(7, 1).as_bytes()), None);
    }

    #[test]
    fn one_seed_gives_one_stream_of_documents() {
        let mix = Mix { tasks: 300, commands: 300, completions: 200 };
        let (mut one, mut other) = (Traffic::new(3, mix), Traffic::new(3, mix));
        for _ in 0..2_000 {
            let input = one.next(5);
            assert_eq!(input.value, other.next(5).value);
            let read: Result<serde_json::Value, _> = serde_json::from_str(&input.value);
            assert!(read.is_ok(), "{}", input.value);
        }
        let sent = &one.sent;
        let parts = [
            sent.tasks,
            u64::try_from(sent.commands.len()).expect("few"),
            u64::try_from(sent.completions.len()).expect("few"),
            sent.metrics,
        ];
        assert!(parts.iter().all(|part| *part > 100), "{parts:?}");
        assert_eq!(parts.iter().sum::<u64>(), 2_000);
    }
}
