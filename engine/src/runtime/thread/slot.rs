//! A task's place on a stream thread, from its assignment until it is closed.
//!
//! ```text
//!              stores open,       no transaction
//!              offsets known      is open
//!   Opening ────────────> Ready ───────────────> Running <──┐
//!      │                    │                       │       │ offsets known, changelog tail
//!      │                    │      transaction lost v       │ replayed, no transaction open
//!      │                    │                    Rewinding ─┘
//!      └────────────────────┴─ revoked, lost, stopped ┴──────────> closed
//! ```

use std::sync::Arc;

use headwater_state::positions::TaskPositions;

use super::latency::Latency;
use super::offsets::{OffsetsWanted, Start};
use crate::actor::{Poll, Ticket};
use crate::log::PartitionReader;
use crate::record::TaskId;
use crate::runtime::board::TaskState;
use crate::runtime::messages::{OpenedTask, RestoreError};
use crate::runtime::plan::Blueprint;
use crate::task::{StreamTask, TaskError, positions_of_offsets};
use crate::time::Now;

/// One task of the thread.
pub(super) struct Slot {
    pub(super) blueprint: Arc<Blueprint>,
    pub(super) stage: Stage,
    /// It is given up as soon as nothing of it is uncommitted.
    pub(super) closing: bool,
}

pub(super) enum Stage {
    Opening {
        stores: Answer<OpenedTask>,
        offsets: OffsetsWanted,
    },
    Ready {
        opened: OpenedTask,
        offsets: OffsetsWanted,
    },
    Running(Running),
    /// `replay` is asked for once the lost transaction is resolved.
    Rewinding {
        running: Running,
        replay: Option<Answer<()>>,
        offsets: OffsetsWanted,
    },
}

/// A running task and its readers.
pub(super) struct Running {
    pub(super) task: StreamTask,
    pub(super) database: Arc<dyn headwater_state::database::Database>,
    pub(super) readers: Vec<Option<Box<dyn PartitionReader>>>,
    pub(super) latency: Vec<Latency>,
}

/// What the restorer will say.
pub(super) enum Answer<T> {
    Waits(Ticket<Result<T, RestoreError>>),
    Here(T),
}

impl<T> Answer<T> {
    /// Looks for the answer.
    ///
    /// # Errors
    /// The restorer failed, or has ended.
    pub(super) fn poll(&mut self) -> Result<bool, String> {
        if let Answer::Waits(ticket) = self {
            match ticket.poll() {
                Poll::Pending => return Ok(false),
                Poll::Done(Ok(answer)) => *self = Answer::Here(answer),
                Poll::Done(Err(error)) => return Err(error.to_string()),
                Poll::Abandoned => return Err("the restorer gave up".to_owned()),
            }
        }
        Ok(true)
    }
}

impl Slot {
    pub(super) fn id(&self) -> TaskId {
        self.blueprint.task
    }

    pub(super) fn state(&self) -> TaskState {
        match &self.stage {
            _ if self.closing => TaskState::Closing,
            Stage::Opening { .. } => TaskState::Opening,
            Stage::Ready { .. } => TaskState::Ready,
            Stage::Running(_) => TaskState::Running,
            Stage::Rewinding { .. } => TaskState::Rewinding,
        }
    }

    pub(super) fn running(&self) -> Option<&Running> {
        match &self.stage {
            Stage::Running(running) => Some(running),
            _ => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.stage {
            Stage::Running(running) => Some(running),
            _ => None,
        }
    }

    /// Something of it is uncommitted.
    pub(super) fn needs_commit(&self) -> bool {
        self.running().is_some_and(|running| running.task.needs_commit())
    }

    /// The stores are open and the offsets known, but no transaction may be open when it starts.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready { .. })
    }
}

impl Running {
    pub(super) fn new(
        task: StreamTask,
        database: Arc<dyn headwater_state::database::Database>,
    ) -> Self {
        let inputs = task.inputs().len();
        let readers = std::iter::repeat_with(|| None).take(inputs).collect();
        let latency = std::iter::repeat_with(Latency::default).take(inputs).collect();
        Self { task, database, readers, latency }
    }

    /// Inputs that were never committed begin where their partition does.
    pub(super) fn begin(&mut self, start: &Start) {
        for input in 0..self.task.inputs().len() {
            if let Some(&first) = start.first.get(&self.task.inputs()[input]) {
                self.task.begin_at(input, first);
            }
        }
    }

    /// Goes back to what is committed.
    pub(super) fn rewind(&mut self, start: &Start, now: Now) -> Result<(), TaskError> {
        let from = positions(self.task.id(), start)?;
        self.task.rewind(&from, now)?;
        self.begin(start);
        for (input, reader) in self.readers.iter_mut().enumerate() {
            if let Some(reader) = reader {
                reader.seek(self.task.next_offset(input));
            }
        }
        self.latency.iter_mut().for_each(Latency::clear);
        Ok(())
    }
}

/// Where a task stood when it last committed.
pub(super) fn positions(task: TaskId, start: &Start) -> Result<TaskPositions, TaskError> {
    positions_of_offsets(task, &start.committed)
}
