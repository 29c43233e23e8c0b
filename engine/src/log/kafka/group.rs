//! A member of a consumer group, by a consumer of its own that is assigned nothing and fetches
//! nothing: readers assign their partitions by hand on another one. Owns the consumer, its companion
//! thread and the order of a rebalance; knows nothing of tasks.
//!
//! ```text
//!   librdkafka ── rebalance ──> companion thread ── GroupEvent ──> membership
//!       ^                            │   ^                             │
//!       └──── assign / unassign ─────┘   └────────── acknowledge ──────┘
//! ```
//!
//! Why a consumer of its own: under the classic protocol with `range`, which alone keeps equal
//! partitions of several topics together, librdkafka takes only whole assignments
//! (`rd_kafka_assign`), each of which throws away what every partition has fetched. Its group
//! protocol runs on what the coordinator has said, not on what is assigned, so an empty assignment
//! answers a rebalance as well as a full one (`rd_kafka_cgrp_assign`, `rkcg_group_assignment`).
//!
//! - What is assigned is accepted at once: a task needs time to be restored, and the group must not
//!   wait for it.
//! - What is revoked is given up when it is acknowledged; heartbeats go on meanwhile.
//! - What is lost is given up at once, and the group joined again.
//! - A KIP-848 coordinator refuses a member whose instance id has not been released, as after a
//!   kill; the consumer is opened anew until the old session is over.
//! - A classic member whose coordinator was silent for a session joins anew, and a late answer to
//!   what it asked before then says that another has its instance id. librdkafka takes that for
//!   final; here the consumer is opened anew, unless nothing was lost before.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::base_consumer::BaseConsumer;
use rdkafka::consumer::{Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use super::context::Voice;
use super::{Shared, classify, ffi::group::member, settings};
use crate::actor::Bell;
use crate::actor::spawn::spawn_blocking;
use crate::error::ErrorClass;
use crate::log::{GroupEvent, GroupMember, GroupRequest, Identity, LogError, LogResult};
use crate::record::TopicPartition;
use crate::time::Clock;

/// How often the member id and epoch are looked at; under KIP-848 they change without an event.
const POLL: Duration = Duration::from_millis(50);
/// While a revocation waits for its acknowledgement.
const SOON: Duration = Duration::from_millis(2);
/// An instance id that is not released is asked for again after this time,
const AGAIN: Duration = Duration::from_secs(1);
/// for no longer than this besides the session timeout: brokers end sessions within 60 s at most.
const RELEASED_WITHIN: Duration = Duration::from_secs(90);
/// For so long, besides the session timeout, after a lost session the member may have fenced itself.
const FENCES_ITSELF_FOR: Duration = Duration::from_secs(10);

/// The client would ask again for ever, and be refused for ever.
const REFUSED: [RDKafkaErrorCode; 9] = [
    RDKafkaErrorCode::GroupAuthorizationFailed,
    RDKafkaErrorCode::TopicAuthorizationFailed,
    RDKafkaErrorCode::GroupMaxSizeReached,
    RDKafkaErrorCode::InconsistentGroupProtocol,
    RDKafkaErrorCode::InvalidGroupId,
    RDKafkaErrorCode::InvalidSessionTimeout,
    RDKafkaErrorCode::UnsupportedAssignor,
    RDKafkaErrorCode::UnsupportedFeature,
    RDKafkaErrorCode::UnsupportedVersion,
];

type Client = BaseConsumer<Rebalances>;

/// What the companion thread and the membership share.
#[derive(Default)]
struct Mail {
    events: VecDeque<GroupEvent>,
    failure: Option<LogError>,
    current: Option<(Arc<str>, i32)>,
    /// What the coordinator has given to this member, and it has not given up.
    assigned: Vec<TopicPartition>,
    /// When a session was lost last, but not to another process that fenced this one.
    lost_at: Option<Duration>,
    /// A revocation was told and is not acknowledged,
    revoking: bool,
    /// of these.
    revoked: Vec<TopicPartition>,
    acknowledged: bool,
    leaving: bool,
    left: bool,
    bell: Bell,
}

#[derive(Clone, Default)]
struct Post(Arc<Mutex<Mail>>);

impl Post {
    fn open(&self) -> MutexGuard<'_, Mail> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: GroupEvent) {
        let mut mail = self.open();
        match &event {
            GroupEvent::Assigned(given) => mail.assigned.extend_from_slice(given),
            // An answer to a revocation of before, which was lost meanwhile, is none to this one.
            GroupEvent::Revoked(revoked) => {
                (mail.revoking, mail.acknowledged) = (true, false);
                mail.revoked.clone_from(revoked);
            }
            GroupEvent::Lost(lost) => {
                mail.assigned.retain(|partition| !lost.contains(partition));
                (mail.current, mail.revoking) = (None, false);
            }
        }
        mail.events.push_back(event);
        mail.bell.ring();
    }

    fn fail(&self, error: LogError) {
        let mut mail = self.open();
        mail.failure.get_or_insert(error);
        mail.bell.ring();
    }
}

/// The context of the member's consumer: answers and tells rebalances, on the companion thread.
struct Rebalances {
    voice: Voice,
    post: Post,
    clock: Arc<dyn Clock>,
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // Fatal errors are looked for, and some of them pass.
        let level = if facility == "FATAL" { RDKafkaLogLevel::Debug } else { level };
        self.voice.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(error, reason);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ConsumerContext for Rebalances {
    fn rebalance(
        &self,
        consumer: &Client,
        kind: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let lost = consumer.assignment_lost();
        let named = named(partitions);
        if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            report("accept partitions", accept(consumer));
            refresh(consumer, &self.post);
            self.post.tell(GroupEvent::Assigned(named));
            return;
        }
        let leaving = self.post.open().leaving;
        if lost && consumer.client().fatal_error().is_none() {
            self.post.open().lost_at = Some(self.clock.now().monotonic);
        }
        if lost || leaving {
            self.post.tell(GroupEvent::Lost(named));
            report("give up lost partitions", give_up(consumer));
        } else {
            self.post.tell(GroupEvent::Revoked(named));
        }
    }
}

/// Answers an assignment with an empty one.
fn accept(consumer: &Client) -> KafkaResult<()> {
    let nothing = TopicPartitionList::new();
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(&nothing),
        _ => consumer.assign(&nothing),
    }
}

/// Answers a revocation; nothing was assigned.
fn give_up(consumer: &Client) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(&TopicPartitionList::new()),
        _ => consumer.unassign(),
    }
}

fn report(what: &str, result: KafkaResult<()>) {
    if let Err(error) = result {
        tracing::warn!(what, %error, "a rebalance was not answered");
    }
}

fn named(partitions: &TopicPartitionList) -> Vec<TopicPartition> {
    let number = |partition| u32::try_from(partition).expect("the coordinator counts from 0");
    let elements = partitions.elements();
    elements.iter().map(|e| TopicPartition::new(e.topic(), number(e.partition()))).collect()
}

/// Looks who we are now.
fn refresh(consumer: &Client, post: &Post) {
    let current = member(consumer)
        .filter(|(id, epoch)| !id.is_empty() && *epoch >= 0)
        .map(|(id, epoch)| (Arc::from(id), epoch));
    let mut mail = post.open();
    if mail.current != current {
        mail.current = current;
        mail.bell.ring();
    }
}

/// See the [module](self).
pub(super) struct KafkaMember {
    group: Arc<str>,
    post: Post,
}

impl KafkaMember {
    /// Joins the group, on a companion thread.
    ///
    /// # Errors
    /// `Fatal`: the system gave no thread.
    pub(super) fn join(shared: &Shared, request: GroupRequest, bell: Bell) -> LogResult<Self> {
        let operation = "join the group";
        let config = settings::member(&shared.common, &request);
        let clock = Arc::clone(&shared.clock);
        let post = Post::default();
        post.open().bell = bell;
        let group = Arc::clone(&request.group);
        let companion = Companion { config, request, post: post.clone(), clock };
        spawn_blocking("kafka-member", move || companion.run()).map_err(|error| {
            LogError::new(ErrorClass::Fatal, operation, format!("no thread: {error}"))
        })?;
        Ok(Self { group, post })
    }
}

impl GroupMember for KafkaMember {
    fn poll(&mut self) -> LogResult<Option<GroupEvent>> {
        let mut mail = self.post.open();
        if let Some(event) = mail.events.pop_front() {
            return Ok(Some(event));
        }
        mail.failure.clone().map_or(Ok(None), Err)
    }

    fn acknowledge(&mut self) {
        self.post.open().acknowledged = true;
    }

    fn identity(&self) -> Option<Identity> {
        let (member, epoch) = self.post.open().current.clone()?;
        Some(Identity { group: Arc::clone(&self.group), member, epoch })
    }

    fn leave(&mut self) {
        self.post.open().leaving = true;
    }

    fn has_left(&self) -> bool {
        self.post.open().left
    }

    fn listen(&mut self, bell: Bell) {
        let mut mail = self.post.open();
        mail.bell = bell;
        mail.bell.ring();
    }
}

impl Drop for KafkaMember {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The thread that polls the consumer.
struct Companion {
    config: ClientConfig,
    request: GroupRequest,
    post: Post,
    clock: Arc<dyn Clock>,
}

/// Why a consumer came to its end.
enum End {
    Leaving,
    /// The coordinator holds the place for the process of before.
    Unreleased,
    /// Another has the place, and may be this very process.
    Fenced,
    Failed(LogError),
}

impl Companion {
    fn run(self) {
        let mut waited = Duration::ZERO;
        loop {
            match self.serve() {
                End::Leaving => break,
                End::Unreleased if waited < self.request.session_timeout + RELEASED_WITHIN => {
                    let (group, instance) = (&*self.request.group, &*self.request.instance);
                    tracing::warn!(
                        group,
                        instance,
                        "the coordinator holds this instance's place until its last session is over"
                    );
                    std::thread::park_timeout(AGAIN);
                    waited += AGAIN;
                }
                End::Unreleased => {
                    let code = RDKafkaErrorCode::UnreleasedInstanceId;
                    self.post.fail(self.explained(code, ""));
                    break;
                }
                End::Fenced if self.may_have_fenced_itself() => {
                    let (group, instance) = (&*self.request.group, &*self.request.instance);
                    tracing::warn!(group, instance, "fenced after a lost session, joining anew");
                    let assigned = self.post.open().assigned.clone();
                    self.post.tell(GroupEvent::Lost(assigned));
                }
                End::Fenced => {
                    let code = RDKafkaErrorCode::FencedInstanceId;
                    self.post.fail(self.explained(code, ""));
                    break;
                }
                End::Failed(error) => {
                    self.post.fail(error);
                    break;
                }
            }
        }
        let mut mail = self.post.open();
        mail.left = true;
        mail.current = None;
        mail.bell.ring();
    }

    fn may_have_fenced_itself(&self) -> bool {
        let lost_at = self.post.open().lost_at;
        let until = |lost_at| lost_at + self.request.session_timeout + FENCES_ITSELF_FOR;
        lost_at.is_some_and(|lost_at| self.clock.now().monotonic < until(lost_at))
    }

    /// Opens a consumer and polls it to its end. Dropping it may take as long as the broker.
    fn serve(&self) -> End {
        let consumer = match self.open() {
            Ok(consumer) => consumer,
            Err(error) => return End::Failed(error),
        };
        loop {
            let (leaving, revoking, acknowledged) = {
                let mut mail = self.post.open();
                let acknowledged = mail.revoking && mail.acknowledged;
                if acknowledged {
                    (mail.revoking, mail.acknowledged) = (false, false);
                    let given_up = std::mem::take(&mut mail.revoked);
                    mail.assigned.retain(|partition| !given_up.contains(partition));
                }
                (mail.leaving, mail.revoking, acknowledged)
            };
            if leaving {
                report("give up partitions", give_up(&consumer));
                return End::Leaving;
            }
            if acknowledged {
                report("give up partitions", give_up(&consumer));
            }
            if let Some(Err(error)) = consumer.poll(if revoking { SOON } else { POLL }) {
                tracing::debug!(group = &*self.request.group, %error, "event of a group's member");
                if let Some(code) = error.rdkafka_error_code().filter(|code| REFUSED.contains(code))
                {
                    return End::Failed(self.explained(code, ""));
                }
            }
            if let Some((code, reason)) = consumer.client().fatal_error() {
                return match code {
                    RDKafkaErrorCode::UnreleasedInstanceId => End::Unreleased,
                    RDKafkaErrorCode::FencedInstanceId => End::Fenced,
                    _ => End::Failed(self.explained(code, &reason)),
                };
            }
            if !revoking {
                refresh(&consumer, &self.post);
            }
        }
    }

    fn open(&self) -> LogResult<Client> {
        let operation = "join the group";
        let group = &*self.request.group;
        let context = Rebalances {
            voice: Voice::new(&format!("member of {group}")),
            post: self.post.clone(),
            clock: Arc::clone(&self.clock),
        };
        let consumer = Client::from_config_and_context(&self.config, context)
            .map_err(|error| classify::from_kafka(operation, &error))?;
        let topics: Vec<&str> = self.request.topics.iter().map(|topic| &**topic).collect();
        consumer.subscribe(&topics).map_err(|error| classify::from_kafka(operation, &error))?;
        let (instance, protocol) = (&*self.request.instance, self.request.protocol);
        tracing::info!(group, instance, ?protocol, topics = topics.len(), "joining the group");
        Ok(consumer)
    }

    fn explained(&self, code: RDKafkaErrorCode, reason: &str) -> LogError {
        let error = classify::from_code("be a member of the group", code);
        let GroupRequest { group, instance, .. } = &self.request;
        let advice = match code {
            RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::UnreleasedInstanceId => {
                "; each process needs a state directory or a KAFKA_INSTANCE_ID of its own"
            }
            RDKafkaErrorCode::InconsistentGroupProtocol => {
                "; its other members are of another kind: give the application an id of its own"
            }
            RDKafkaErrorCode::InvalidSessionTimeout => {
                "; KAFKA_SESSION_TIMEOUT_MS must be within the broker's group.min.session.timeout.ms \
                 and group.max.session.timeout.ms"
            }
            _ => "",
        };
        let message =
            format!("group {group}, instance {instance}: {} {reason}{advice}", error.message);
        LogError { message, ..error }
    }
}
