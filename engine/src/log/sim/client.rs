//! The client side of a producer, as it lives inside a process: queues by partition, one request at
//! a time to each partition and to the coordinator, sequences, and the steps of a commit. Owns what
//! the producer's caller is told; knows no broker's state and no delay.
//!
//! ```text
//! commit:  deliver every batch ──> add offsets ──> end the transaction ──> (markers follow)
//! abort:   end the transaction ──> initialise again, if a delivery is in doubt
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::broker::{Caller, Refusal, Reply, Request};
use super::partition::ProducerEpoch;
use super::process::Process;
use crate::actor::{Bell, Promise};
use crate::error::ErrorClass;
use crate::log::{CommitRequest, Committed, LogError, LogResult};
use crate::record::{RecordBatch, TopicPartition};

/// A request on its way, under the number by which its answer is known.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) client: u64,
    pub(super) number: u64,
    pub(super) request: Request,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<RecordBatch>,
    sequence: u64,
    in_flight: Option<u64>,
    end: Option<i64>,
}

#[derive(Debug)]
enum State {
    Fresh,
    Initialising(Promise<LogResult<()>>),
    Ready,
    Open,
    Committing {
        request: CommitRequest,
        offsets_added: bool,
        promise: Promise<LogResult<Committed>>,
    },
    Aborting {
        ended: bool,
        promise: Promise<LogResult<()>>,
    },
    /// The transaction is lost and has to be aborted.
    Failed(LogError),
    /// The producer is of no use any more.
    Dead(LogError),
}

/// What a producer promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Exactly once.
    Transactional,
    /// At least once.
    Plain,
}

/// One producer of one process.
#[derive(Debug)]
pub(super) struct Client {
    number: u64,
    transactional_id: Arc<str>,
    kind: Kind,
    pub(super) process: Process,
    bell: Bell,
    state: State,
    producer: Option<ProducerEpoch>,
    serial: u64,
    queues: BTreeMap<TopicPartition, Queue>,
    queued_bytes: usize,
    call: Option<u64>,
    /// Something of the open transaction was sent.
    touched: bool,
    /// A delivery is in doubt, so sequences are.
    in_doubt: bool,
}

impl Client {
    pub(super) fn new(number: u64, id: &str, kind: Kind, process: Process, bell: Bell) -> Self {
        Self {
            number,
            transactional_id: Arc::from(id),
            kind,
            process,
            bell,
            state: State::Fresh,
            producer: None,
            serial: 0,
            queues: BTreeMap::new(),
            queued_bytes: 0,
            call: None,
            touched: false,
            in_doubt: false,
        }
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    // ---- what the producer's owner calls --------------------------------------------------------

    pub(super) fn initialise(&mut self, promise: Promise<LogResult<()>>) {
        match &self.state {
            State::Fresh if self.kind == Kind::Plain => {
                self.state = State::Ready;
                promise.fulfil(Ok(()));
            }
            State::Fresh => self.state = State::Initialising(promise),
            _ => promise.fulfil(Err(fatal("initialise the producer", "it is initialised"))),
        }
    }

    pub(super) fn begin(&mut self) -> LogResult<()> {
        match &self.state {
            State::Ready => {
                self.state = State::Open;
                self.serial += 1;
                self.touched = false;
                for queue in self.queues.values_mut() {
                    queue.end = None;
                }
                Ok(())
            }
            State::Dead(error) => Err(error.clone()),
            State::Fresh | State::Initialising(_) => {
                Err(fatal("begin a transaction", "the producer is not initialised"))
            }
            _ => Err(fatal("begin a transaction", "one is open; end it first")),
        }
    }

    pub(super) fn send(&mut self, to: &TopicPartition, records: &RecordBatch) -> LogResult<()> {
        match &self.state {
            State::Open => {}
            State::Failed(error) | State::Dead(error) => return Err(error.clone()),
            _ => return Err(fatal("produce", "no transaction is open; begin one")),
        }
        if records.count() > 0 {
            self.queued_bytes += records.bytes().len();
            self.queues.entry(to.clone()).or_default().waiting.push_back(records.clone());
        }
        Ok(())
    }

    pub(super) fn commit(
        &mut self,
        request: CommitRequest,
        promise: Promise<LogResult<Committed>>,
    ) {
        match &self.state {
            State::Open => {
                self.state = State::Committing { request, offsets_added: false, promise };
            }
            State::Failed(error) | State::Dead(error) => promise.fulfil(Err(error.clone())),
            _ => promise.fulfil(Err(fatal("commit the transaction", "none is open; begin one"))),
        }
    }

    pub(super) fn abort(&mut self, promise: Promise<LogResult<()>>) {
        match &self.state {
            State::Open | State::Failed(_) => {
                self.in_doubt |= matches!(self.state, State::Failed(_));
                for queue in self.queues.values_mut() {
                    self.in_doubt |= queue.in_flight.take().is_some();
                    queue.waiting.clear();
                }
                self.queued_bytes = 0;
                self.call = None;
                let plain = self.kind == Kind::Plain;
                self.in_doubt &= !plain;
                self.state = State::Aborting { ended: plain || !self.touched, promise };
            }
            State::Dead(error) => promise.fulfil(Err(error.clone())),
            _ => promise.fulfil(Err(fatal("abort the transaction", "none is open"))),
        }
    }

    // ---- what goes out --------------------------------------------------------------------------

    /// The requests that may go out now.
    pub(super) fn pump(&mut self, calls: &mut u64) -> Vec<Call> {
        let mut out = Vec::new();
        if matches!(self.state, State::Open | State::Committing { .. }) {
            self.pump_records(calls, &mut out);
        }
        if self.call.is_none()
            && let Some(request) = self.next_request()
        {
            let number = next(calls);
            self.call = Some(number);
            self.touched |= matches!(request, Request::Offsets { .. });
            out.push(Call { client: self.number, number, request });
        }
        out
    }

    fn caller(&self) -> Caller {
        Caller {
            transactional_id: Arc::clone(&self.transactional_id),
            producer: self.producer.expect("an open transaction has an initialised producer"),
            serial: self.serial,
        }
    }

    fn pump_records(&mut self, calls: &mut u64, out: &mut Vec<Call>) {
        let caller = (self.kind == Kind::Transactional).then(|| self.caller());
        for (to, queue) in &mut self.queues {
            if queue.in_flight.is_some() {
                continue;
            }
            let Some(records) = queue.waiting.front().cloned() else { continue };
            let number = next(calls);
            queue.in_flight = Some(number);
            self.touched = true;
            let (to, sequence) = (to.clone(), queue.sequence);
            let request = match caller.clone() {
                Some(caller) => Request::Produce { caller, to, sequence, records },
                None => Request::Append { name: Arc::clone(&self.transactional_id), to, records },
            };
            out.push(Call { client: self.number, number, request });
        }
    }

    /// The next request to the coordinator.
    fn next_request(&mut self) -> Option<Request> {
        let transactional_id = Arc::clone(&self.transactional_id);
        match &self.state {
            State::Initialising(_) => {
                Some(Request::Initialise { transactional_id, expected: None })
            }
            State::Committing { request, offsets_added, .. } => {
                if self.queues.values().any(|queue| !queue.waiting.is_empty()) {
                    return None;
                }
                if !offsets_added && !request.offsets.is_empty() {
                    let (identity, offsets) = (request.identity.clone(), request.offsets.clone());
                    return Some(match self.kind {
                        Kind::Transactional => {
                            Request::Offsets { caller: self.caller(), identity, offsets }
                        }
                        Kind::Plain => {
                            Request::Commit { name: transactional_id, identity, offsets }
                        }
                    });
                }
                if self.touched && self.kind == Kind::Transactional {
                    return Some(Request::End { caller: self.caller(), commit: true });
                }
                self.committed();
                None
            }
            State::Aborting { ended: false, .. } => {
                Some(Request::End { caller: self.caller(), commit: false })
            }
            State::Aborting { ended: true, .. } if self.in_doubt => {
                Some(Request::Initialise { transactional_id, expected: self.producer })
            }
            State::Aborting { ended: true, .. } => {
                self.aborted();
                None
            }
            _ => None,
        }
    }

    // ---- what comes back ------------------------------------------------------------------------

    /// The caller still waits for this answer.
    pub(super) fn awaits(&self, number: u64) -> bool {
        self.call == Some(number) || self.queue_of(number).is_some()
    }

    fn queue_of(&self, number: u64) -> Option<&TopicPartition> {
        let found = self.queues.iter().find(|(_, queue)| queue.in_flight == Some(number));
        found.map(|(to, _)| to)
    }

    pub(super) fn answered(&mut self, number: u64, reply: Reply) {
        if self.call == Some(number) {
            self.call = None;
        }
        match (&mut self.state, reply) {
            (_, Reply::Produced(end)) => self.produced(number, end),
            (_, Reply::Initialised(producer)) => self.initialised(producer),
            (State::Committing { request, offsets_added, .. }, Reply::Done) => {
                // The first answer of a commit is to its offsets, if it has any.
                match *offsets_added || request.offsets.is_empty() {
                    true => self.committed(),
                    false => *offsets_added = true,
                }
            }
            (State::Aborting { ended, .. }, Reply::Done) => *ended = true,
            _ => {}
        }
    }

    fn produced(&mut self, number: u64, end: i64) {
        let queues = &mut self.queues;
        let Some(queue) = queues.values_mut().find(|queue| queue.in_flight == Some(number)) else {
            return;
        };
        queue.in_flight = None;
        queue.sequence += 1;
        queue.end = Some(end);
        if let Some(records) = queue.waiting.pop_front() {
            self.queued_bytes -= records.bytes().len();
        }
        self.bell.ring();
    }

    fn initialised(&mut self, producer: ProducerEpoch) {
        self.producer = Some(producer);
        self.serial = 0;
        self.queues.clear();
        self.in_doubt = false;
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Initialising(promise) | State::Aborting { promise, .. } => {
                promise.fulfil(Ok(()));
            }
            other => self.state = other,
        }
    }

    fn committed(&mut self) {
        let State::Committing { request, promise, .. } =
            std::mem::replace(&mut self.state, State::Ready)
        else {
            unreachable!("only a commit ends as one")
        };
        let ends = self.queues.iter().filter_map(|(to, q)| q.end.map(|end| (to.clone(), end)));
        promise.fulfil(Ok(Committed { state: Some(request.state), ends: ends.collect() }));
    }

    fn aborted(&mut self) {
        if let State::Aborting { promise, .. } = std::mem::replace(&mut self.state, State::Ready) {
            promise.fulfil(Ok(()));
        }
    }

    /// The broker refused; what passes by itself does not come here.
    pub(super) fn refused(&mut self, request: &Request, refusal: Refusal) {
        let mut refused = None;
        let (class, message) = match refusal {
            Refusal::Record { print, message } => {
                refused = Some(print);
                (ErrorClass::User, message)
            }
            Refusal::Fenced(message) => (ErrorClass::Fenced, message),
            Refusal::Fatal(message) => (ErrorClass::Fatal, message),
            Refusal::Abort(message) => (ErrorClass::Abort, message),
            Refusal::Wait | Refusal::Moving => (ErrorClass::Retry, "try again".to_owned()),
        };
        let mut error = LogError { refused, ..LogError::new(class, request.name(), message) };
        if let Some(to) = request.destination() {
            error = error.on(to);
        }
        self.fail(error);
    }

    /// The coordinator is moving and the caller is told: nothing happened, it may call again.
    pub(super) fn postponed(&mut self, request: &Request) {
        self.call = None;
        let error = LogError::new(
            ErrorClass::Retry,
            request.name(),
            "the coordinator is moving; call again",
        );
        match std::mem::replace(&mut self.state, State::Open) {
            State::Initialising(promise) => {
                self.state = State::Fresh;
                promise.fulfil(Err(error));
            }
            State::Committing { promise, .. } => promise.fulfil(Err(error)),
            State::Aborting { promise, .. } => promise.fulfil(Err(error)),
            other => self.state = other,
        }
    }

    fn fail(&mut self, error: LogError) {
        let failed = match error.class {
            ErrorClass::Fenced | ErrorClass::Fatal => State::Dead(error.clone()),
            _ => State::Failed(error.clone()),
        };
        self.call = None;
        match std::mem::replace(&mut self.state, failed) {
            State::Initialising(promise) | State::Aborting { promise, .. } => {
                promise.fulfil(Err(error));
            }
            State::Committing { promise, .. } => promise.fulfil(Err(error)),
            _ => self.bell.ring(),
        }
    }

    /// No answer came in time and nobody asks again: what was asked may or may not have happened.
    pub(super) fn gave_up(&mut self, request: &Request) {
        let message = "no answer in time; whether it happened is unknown";
        if let Some(to) = request.destination() {
            self.in_doubt = true;
            self.fail(LogError::new(ErrorClass::Abort, request.name(), message).on(to));
            return;
        }
        // The promise is dropped unanswered.
        self.call = None;
        self.state = State::Dead(LogError::new(ErrorClass::Abort, request.name(), message));
        self.bell.ring();
    }
}

fn next(calls: &mut u64) -> u64 {
    *calls += 1;
    *calls
}

fn fatal(operation: &'static str, message: &str) -> LogError {
    LogError::new(ErrorClass::Fatal, operation, message)
}
