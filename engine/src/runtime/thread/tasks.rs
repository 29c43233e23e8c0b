//! Tasks on a stream thread: opened, installed, rewound, closed. Owns the moves between the stages of
//! a slot; the thread decides when.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::offsets::OffsetsWanted;
use super::slot::{Answer, Running, Slot, Stage, positions};
use super::{POLL, StreamThread, chain};
use crate::actor::{Next, ticket};
use crate::record::TaskId;
use crate::runtime::board::StoreHandle;
use crate::runtime::committer::Phase;
use crate::runtime::messages::{OpenedTask, Report, RestoreRequest};
use crate::task::{StreamTask, TaskSettings};
use crate::time::Now;

impl StreamThread {
    pub(super) fn move_tasks(&mut self, now: Now) -> Next {
        let transaction = self.parts.committer.is_open() || self.committing();
        if self.rewind_wanted && !transaction {
            self.rewind_wanted = false;
            self.rewind_all();
        }
        let idle = self.parts.committer.is_idle();
        let mut next = Next::Wait;
        for at in 0..self.slots.len() {
            if self.slots[at].closing || self.failed {
                continue;
            }
            match self.move_task(at, idle, now) {
                Ok(false) => {}
                Ok(true) => next = Next::Again,
                Err(why) => self.fail(&why),
            }
            let waits =
                matches!(self.slots[at].stage, Stage::Opening { .. } | Stage::Rewinding { .. });
            if waits && idle {
                next = next.sooner(Next::WakeAt(now.monotonic + POLL));
            }
        }
        next
    }

    fn committing(&self) -> bool {
        let phase = self.parts.committer.phase();
        matches!(phase, Phase::Sealed | Phase::Committing | Phase::Writing)
    }

    /// True if the task came one stage further.
    fn move_task(&mut self, at: usize, idle: bool, now: Now) -> Result<bool, String> {
        let group = Arc::clone(&self.parts.application);
        let log = Arc::clone(&self.parts.log);
        let slot = &mut self.slots[at];
        let id = slot.id();
        match &mut slot.stage {
            Stage::Opening { stores, offsets } => {
                if idle {
                    offsets.ask(&*log, &group, now);
                }
                let known = offsets.poll(&*log, now).map_err(text)?.is_some();
                if !(stores.poll()? && known) {
                    return Ok(false);
                }
                self.replace(at, |stage| match stage {
                    Stage::Opening { stores: Answer::Here(opened), offsets } => {
                        Stage::Ready { opened, offsets }
                    }
                    other => other,
                });
            }
            Stage::Ready { .. } if idle => self.install(at, now)?,
            Stage::Rewinding { replay, offsets, .. } if idle => {
                let replay = replay.get_or_insert_with(|| {
                    let (promise, answer) = ticket(self.parts.bell.clone());
                    self.requests.push_back(RestoreRequest::Replay { task: id, promise });
                    Answer::Waits(answer)
                });
                offsets.ask(&*log, &group, now);
                let known = offsets.poll(&*log, now).map_err(text)?.is_some();
                if !(replay.poll()? && known) {
                    return Ok(false);
                }
                self.resume(at, now)?;
            }
            _ => return Ok(false),
        }
        self.show(id);
        Ok(true)
    }

    fn replace(&mut self, at: usize, change: impl FnOnce(Stage) -> Stage) {
        let slot = self.slots.remove(at);
        let Slot { blueprint, stage, closing } = slot;
        self.slots.insert(at, Slot { blueprint, stage: change(stage), closing });
    }

    /// Makes the task and lets it run.
    pub(super) fn install(&mut self, at: usize, now: Now) -> Result<(), String> {
        let slot = self.slots.remove(at);
        let Slot { blueprint, stage, closing } = slot;
        let Stage::Ready { opened, mut offsets } = stage else {
            unreachable!("only a ready task is installed")
        };
        let id = blueprint.task;
        let start = offsets.poll(&*self.parts.log, now).map_err(text)?;
        let start = start.expect("a ready task knows its offsets");
        let from = positions(id, start).map_err(text)?;
        let OpenedTask { stores, database, tasks_family } = opened;
        let handles = blueprint.stores.iter().zip(&stores).map(|(store, state)| StoreHandle {
            spec: store.spec.clone(),
            task: id,
            database: Arc::clone(&database),
            family: state.family().clone(),
            partition: state.partition(),
        });
        let handles: Vec<_> = handles.collect();
        let indexes = blueprint.stores.iter().map(|store| store.index);
        let stores = indexes.zip(stores).collect();
        let settings = TaskSettings { tasks_family, ..(self.parts.settings)(id) };
        let task = StreamTask::new(&self.parts.topology, id, stores, &from, settings, now);
        let mut running = Running::new(task.map_err(text)?, database);
        running.begin(start);
        self.parts.board.open_stores(handles);
        self.metrics.task_created_total.inc();
        self.slots.insert(at, Slot { blueprint, stage: Stage::Running(running), closing });
        self.say(Report::Running(id));
        Ok(())
    }

    fn rewind_all(&mut self) {
        self.metrics.rewind_total.inc();
        for at in 0..self.slots.len() {
            let inputs = self.slots[at].blueprint.inputs.clone();
            let id = self.slots[at].id();
            self.replace(at, |stage| match stage {
                Stage::Running(running) | Stage::Rewinding { running, .. } => {
                    Stage::Rewinding { running, replay: None, offsets: OffsetsWanted::new(inputs) }
                }
                other => other,
            });
            self.show(id);
        }
    }

    /// A rewound task runs again.
    fn resume(&mut self, at: usize, now: Now) -> Result<(), String> {
        let slot = self.slots.remove(at);
        let Slot { blueprint, stage, closing } = slot;
        let Stage::Rewinding { mut running, mut offsets, .. } = stage else {
            unreachable!("only a rewinding task resumes")
        };
        let start = offsets.poll(&*self.parts.log, now).map_err(text)?;
        running.rewind(start.expect("its offsets are known"), now).map_err(text)?;
        let id = blueprint.task;
        self.slots.insert(at, Slot { blueprint, stage: Stage::Running(running), closing });
        self.say(Report::Running(id));
        Ok(())
    }

    pub(super) fn close_tasks(&mut self) {
        let committer = &self.parts.committer;
        let busy: BTreeSet<TaskId> = committer.members().clone();
        let failed = self.failed;
        let (over, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.slots).into_iter().partition(|slot| {
                let done = slot.closing && !slot.needs_commit() && !busy.contains(&slot.id());
                failed || done
            });
        self.slots = kept;
        over.into_iter().for_each(|slot| self.close(slot));
    }

    pub(super) fn close(&mut self, slot: Slot) {
        let id = slot.id();
        if slot.running().is_some() {
            self.metrics.task_closed_total.inc();
        }
        drop(slot);
        self.parts.board.remove(id);
        self.requests.push_back(RestoreRequest::Close(id));
        self.say(Report::Closed(id));
    }
}

fn text(error: impl std::error::Error) -> String {
    chain(&error)
}
