//! Aggregates: commands to one thing become its events, numbered without a gap, and answers.
//!
//! Owns what every aggregate has in common: the memory of answers, the order of a decision, the
//! stores' agreement and the wiring. It must not know any aggregate.
//!
//! ```text
//! <commands> -+-> decide -+-> <events> (sequence, headers)
//! facts ------+   stores: rows, log,   +-> api.responses (answer, by correlation id)
//!                 snapshots
//! ```
//!
//! * An aggregate's version is the sequence of its last event; nobody else writes one.
//! * A command that is refused is answered with its reason; one that cannot be read, and does not
//!   say whom to answer, goes to the dead letters.
//! * The answer, the event, the state and the input's offset are one commit.

mod command;
mod decide;
mod replies;

use std::fmt::Debug;

use headwater::dsl::{Consumed, Produced, StreamsBuilder};
use headwater::serde::serdes;
use headwater::store::Stored;
use headwater_schemas::commands::{Command, RejectionCode, Reply, Request};
use headwater_schemas::envelope::DomainEvent;
use headwater_schemas::events::Event;
use headwater_schemas::topics::{API_RESPONSES, Topic};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::replies::{REPLIES_MAX, Replies};

use self::command::{Inbound, inbound};
use self::decide::Decide;
use crate::conventions;
use crate::platform_event::{PlatformEvent, event_keys, platform_events};

/// Events between two snapshots.
pub const SNAPSHOT_EVERY: i64 = 100;

/// The key of one event in an aggregate's log: all of one aggregate in the order of their sequence.
pub fn log_key(id: &str, sequence: i64) -> String {
    format!("{id}/{sequence:020}")
}

/// Why a command is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// For programs.
    pub code: RejectionCode,
    /// For people.
    pub message: String,
}

/// A refusal.
pub(crate) fn reject<T>(code: RejectionCode, message: String) -> Result<T, Rejection> {
    Err(Rejection { code, message })
}

/// What is kept of one aggregate, which may not exist yet. The same command on the same row gives
/// the same events, ids included.
pub trait Aggregate: Clone + Default + PartialEq + Serialize + DeserializeOwned + 'static {
    /// What can be asked of it.
    type Request: Request + Clone + Debug + PartialEq + Send + Sync + 'static;
    /// What it takes notice of.
    type Fact: Clone + Debug + PartialEq + 'static;
    /// Its state at a version.
    type Snapshot: Serialize + DeserializeOwned + 'static;
    /// The service that its events name as their source.
    const SOURCE: &'static str;

    /// The sequence of its last event; 0 before the first.
    fn version(&self) -> i64;

    /// Its state, once there is one.
    fn snapshot(&self) -> Option<&Self::Snapshot>;

    /// Its newest answers.
    fn replies(&mut self) -> &mut Replies;

    /// What a command comes to: nothing, when things are as it asks already.
    ///
    /// # Errors
    /// [`Rejection`], which is answered.
    fn decide(&self, command: &Command<Self::Request>) -> Result<Option<Event>, Rejection>;

    /// Makes it so: the event, with the next sequence.
    fn happen(&mut self, command: &Command<Self::Request>, event: Event) -> DomainEvent;

    /// Takes notice of something that happened elsewhere.
    fn notice(&mut self, _fact: &Self::Fact) -> Option<DomainEvent> {
        None
    }

    /// Takes a command: what happened, and the answer. A command that was answered before gets its
    /// answer again and changes nothing.
    fn execute(&mut self, command: &Command<Self::Request>) -> (Vec<DomainEvent>, Reply) {
        if let Some(reply) = self.replies().of(command.id) {
            return (Vec::new(), reply.clone());
        }
        let (events, reply) = match self.decide(command) {
            Ok(event) => {
                let events: Vec<_> = event.into_iter().map(|e| self.happen(command, e)).collect();
                let accepted = Reply::CommandAccepted {
                    command_id: command.id,
                    aggregate_id: command.aggregate_id.clone(),
                    version: self.version(),
                };
                (events, accepted)
            }
            Err(Rejection { code, message }) => {
                (Vec::new(), Reply::CommandRejected { command_id: command.id, code, message })
            }
        };
        self.replies().remember(command.id, reply.clone());
        (events, reply)
    }
}

/// What an event means to one kind of aggregate.
type ReadFact<A> = fn(&PlatformEvent) -> Option<<A as Aggregate>::Fact>;

/// Where the commands of one kind of aggregate come from, and where its events and rows are.
pub(crate) struct Wiring<A: Aggregate> {
    /// What it is asked.
    pub(crate) commands: &'static Topic,
    /// What happens to it.
    pub(crate) events: &'static Topic,
    /// The store of its rows.
    pub(crate) rows: &'static str,
    /// The store of its events, by [`log_key`].
    pub(crate) log: &'static str,
    /// The store of its state at every [`SNAPSHOT_EVERY`]th event, for those that live long.
    pub(crate) snapshots: Option<&'static str>,
    /// What it takes notice of among the events, where it does.
    pub(crate) facts: Option<ReadFact<A>>,
}

/// Commands to events and answers.
pub(crate) fn topology<A: Aggregate>(b: &StreamsBuilder, wiring: &Wiring<A>) {
    conventions::follow(b, &[wiring.commands, wiring.events, &API_RESPONSES]);
    let rows = b.add_store(Stored::key_value(wiring.rows, serdes::string(), serdes::json::<A>()));
    let log = b.add_store(Stored::key_value(wiring.log, serdes::string(), platform_events()));
    let snapshots = wiring.snapshots.map(|name| {
        b.add_store(Stored::key_value(name, serdes::string(), serdes::json::<A::Snapshot>()))
    });
    let commands = b.stream(&wiring.commands.name, Consumed::with(event_keys(), inbound::<A>()));
    let asked = match wiring.facts {
        None => commands,
        Some(fact) => {
            let facts = b
                .stream(&wiring.events.name, Consumed::with(event_keys(), platform_events()))
                .flat_map_values(move |_, event| fact(event).map(Inbound::<A>::Fact))
                .named("facts");
            commands.merge(facts)
        }
    };
    let stores: Vec<_> =
        [rows.id(), log.id()].into_iter().chain(snapshots.map(|store| store.id())).collect();
    let decided =
        asked.process(move || Decide::<A> { rows, log, snapshots }, &stores).named("decide");
    decided
        .flat_map_values(|_, decided| decided.event())
        .named("events")
        .to(&wiring.events.name, Produced::with(event_keys(), platform_events()));
    decided
        .flat_map(|_, decided| decided.answer())
        .named("answers")
        .to(&API_RESPONSES.name, Produced::with(serdes::string(), serdes::json()));
}
