//! A host, as queries see it. Owns the translation of boards and logs into what the HTTP server
//! asks; knows no route.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater_state::database::Reader;

use super::append::Appender;
use crate::actor::{Poll, Ticket};
use crate::log::embedded::EmbeddedLog;
use crate::log::{Log, LogResult, OffsetQuery, TopicSpec};
use crate::query::{
    ApplicationInfo, CommittedPartition, Health, NewRecord, QueryError, QueryTarget, StoreInfo,
    TaskInfo, TaskInput, TaskRestore, TopologyInfo,
};
use crate::record::{TaskId, TopicPartition};
use crate::runtime::{HostView, RestoreProgress, Streams, TaskStatus};
use crate::task::store_family;
use crate::topology::{Subtopology, Topology};

/// The description of a topology as an application of this id runs it.
pub(super) fn describe(topology: &Topology, application: &str) -> TopologyInfo {
    let described = topology.describe();
    let named = |text: String| text.replace("<application>", application);
    let json = serde_json::to_string(&described).expect("names and numbers have a JSON form");
    TopologyInfo {
        text: named(described.to_string()),
        mermaid: named(described.mermaid()),
        json: serde_json::from_str(&named(json)).expect("an application id needs no escape"),
    }
}

/// Answers the HTTP server's questions from a host.
#[derive(Debug)]
pub struct HostQueries {
    view: HostView,
    appender: Appender,
    applications: Vec<Arc<ApplicationInfo>>,
    /// By application and subtopology: how many partitions it has, once its topics are there.
    partitions: Mutex<BTreeMap<(Arc<str>, u32), Partitions>>,
}

#[derive(Debug)]
enum Partitions {
    Asked(Ticket<LogResult<Vec<TopicSpec>>>),
    Known(u32),
}

impl HostQueries {
    /// Over this host.
    pub fn new(view: HostView) -> Self {
        let info = |streams: &Streams| {
            let (id, topology) = (streams.application(), streams.topology());
            let stores = topology.subtopologies(id).into_iter().flat_map(|subtopology| {
                let stores = subtopology.stores.into_iter();
                stores.map(move |at| (at, subtopology.id))
            });
            let stores = stores.map(|(at, subtopology)| StoreInfo {
                spec: topology.stores()[at].clone(),
                subtopology: Some(subtopology),
            });
            // No task has a global table's store.
            let globals = topology.globals().iter();
            let globals =
                globals.map(|global| StoreInfo { spec: global.spec.clone(), subtopology: None });
            Arc::new(ApplicationInfo {
                application_id: Arc::clone(id),
                topology: describe(topology, id),
                stores: stores.chain(globals).collect(),
            })
        };
        let applications = view.applications.iter().map(info).collect();
        let appender = Appender::new(view.clone());
        Self { view, appender, applications, partitions: Mutex::default() }
    }

    /// Partitions of a subtopology: those of its inputs, which are all alike.
    fn partitions_of(&self, application: &Arc<str>, subtopology: &Subtopology) -> Option<u32> {
        let key = (Arc::clone(application), subtopology.id);
        let mut known = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = || Partitions::Asked(self.view.log.describe_topics(subtopology.inputs.clone()));
        match known.entry(key.clone()).or_insert_with(asked) {
            Partitions::Known(partitions) => Some(*partitions),
            Partitions::Asked(ticket) => match ticket.poll() {
                Poll::Pending => None,
                Poll::Done(Ok(topics)) if topics.len() == subtopology.inputs.len() => {
                    let partitions = topics.iter().map(|topic| topic.partitions).max()?;
                    known.insert(key, Partitions::Known(partitions));
                    Some(partitions)
                }
                // Not all there yet, or the log failed: asked again by the next question.
                Poll::Done(_) | Poll::Abandoned => {
                    known.remove(&key);
                    None
                }
            },
        }
    }

    fn subtopology_of(&self, application: &str, task: TaskId) -> Option<Subtopology> {
        let streams = self.view.application(application)?;
        let all = streams.topology().subtopologies(application);
        all.into_iter().find(|subtopology| subtopology.id == task.subtopology)
    }

    fn task(&self, application: &str, id: TaskId, status: &TaskStatus) -> TaskInfo {
        let inputs = self.subtopology_of(application, id).map(|s| s.inputs).unwrap_or_default();
        let input = |topic: Arc<str>| {
            let partition = TopicPartition::new(topic, id.partition);
            let offset = status.committed.get(&partition).copied();
            let lag = self.end_of(&partition).map(|end| (end - offset.unwrap_or(0)).max(0));
            TaskInput { topic: partition.topic, partition: id.partition, offset, lag }
        };
        TaskInfo {
            id,
            state: format!("{:?}", status.state).to_lowercase(),
            thread: format!("{application}-{}", status.thread),
            inputs: inputs.into_iter().map(input).collect(),
            restores: status.restores.iter().map(restore_of).collect(),
        }
    }

    /// The end of a partition, where it can be known without waiting.
    fn end_of(&self, partition: &TopicPartition) -> Option<i64> {
        let log = self.view.embedded.as_ref()?;
        match log.offsets(vec![partition.clone()], OffsetQuery::HighWatermark).poll() {
            Poll::Done(Ok(ends)) => ends.first().copied(),
            _ => None,
        }
    }
}

impl QueryTarget for HostQueries {
    fn applications(&self) -> Vec<Arc<ApplicationInfo>> {
        self.applications.clone()
    }

    fn partitions(&self, application: &str, store: &str) -> Option<u32> {
        let streams = self.view.application(application)?;
        if streams.topology().globals().iter().any(|global| *global.spec.name == *store) {
            return Some(1);
        }
        let at = streams.topology().stores().iter().position(|spec| *spec.name == *store)?;
        let all = streams.topology().subtopologies(application);
        let subtopology = all.iter().find(|subtopology| subtopology.stores.contains(&at))?;
        self.partitions_of(streams.application(), subtopology)
    }

    fn committed(
        &self,
        application: &str,
        store: &str,
        partition: Option<u32>,
    ) -> Vec<CommittedPartition> {
        let Some(streams) = self.view.application(application) else { return Vec::new() };
        let synced: Option<Arc<dyn Reader>> = self.view.embedded.as_ref().map(|l| l.published());
        let family_name = store_family(application, store);
        let open = streams.board().store(store).into_iter();
        let asked = open.filter(|open| partition.is_none_or(|p| p == open.partition));
        let snapshot = asked.filter_map(|open| {
            let reader = match &synced {
                Some(reader) => Arc::clone(reader),
                // A database that is being closed has none to give; its partition is not here then.
                None => open.database.view().ok()?,
            };
            let family = reader.find_family(&family_name)?;
            Some(CommittedPartition { partition: open.partition, reader, family })
        });
        snapshot.collect()
    }

    fn tasks(&self, application: &str) -> Vec<TaskInfo> {
        let Some(streams) = self.view.application(application) else { return Vec::new() };
        let tasks = streams.board().tasks();
        tasks.iter().map(|(id, status)| self.task(application, *id, status)).collect()
    }

    fn health(&self) -> Health {
        let failed = self.view.applications.iter().find_map(|streams| {
            let why = streams.board().failure()?;
            Some(format!("application {} failed: {why}", streams.application()))
        });
        let waiting = self.view.applications.iter().find(|streams| !streams.board().is_ready());
        let waiting = waiting
            .map(waits_for)
            .or_else(|| self.view.embedded.as_ref().and_then(|log| log.waiting_for()));
        Health { failed, waiting_for: waiting }
    }

    fn log(&self) -> Option<Arc<EmbeddedLog>> {
        self.view.embedded.clone()
    }

    fn append(&self, records: &[NewRecord], patience: Duration) -> Result<(), QueryError> {
        self.appender.append(records, patience)
    }
}

fn restore_of((store, progress): (&Arc<str>, &RestoreProgress)) -> TaskRestore {
    let left = progress.estimated_left();
    TaskRestore {
        store: Arc::clone(store),
        from: progress.from,
        why: progress.why.to_owned(),
        offset: progress.position,
        end: progress.end,
        records: progress.records,
        remaining: progress.remaining(),
        offsets_per_second: progress.offsets_per_second(),
        estimated_ms_left: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// What an application that is not ready waits for, with how far its restores are.
fn waits_for(streams: &Streams) -> String {
    let tasks = streams.board().tasks();
    let restores = || tasks.values().flat_map(|task| task.restores.values());
    let (remaining, pace) = restores()
        .filter(|restore| restore.remaining() > 0)
        .fold((0, 0), |(r, p), one| (r + one.remaining(), p + one.offsets_per_second()));
    let mut text = format!("application {} is {}", streams.application(), streams.state());
    if remaining > 0 {
        text.push_str(&format!(", {remaining} changelog offsets to restore at {pace}/s"));
    }
    text.push_str("; see /tasks");
    text
}
