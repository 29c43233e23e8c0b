//! Membership in a consumer group: partitions become tasks. Owns the rule that a task is ours when
//! the partition of its number of *every* topic it reads is ours, and what follows when that is not
//! so; the protocol is the log's business.
//!
//! A group of `range` gives equal partitions of equally partitioned topics to the same member. An
//! assignment that does not is *torn*: members subscribe to different topics (two versions of a
//! topology at once), a topic is newer than the coordinator's picture of the cluster, or somebody
//! else in the group assigns otherwise. A torn task is nobody's to run, so it is waited for, and said;
//! after a minute it is an error.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{MemberId, Membership, MembershipEvent, TaskSpace};
use crate::actor::Bell;
use crate::error::ErrorClass;
use crate::log::{GroupEvent, GroupMember, Identity, LogError, LogResult};
use crate::record::{TaskId, TopicPartition};
use crate::time::Now;

/// How long a torn assignment is waited out.
const TORN_FOR: Duration = Duration::from_secs(60);

/// A member of a consumer group, in tasks.
pub struct ConsumerGroup {
    group: Arc<str>,
    space: TaskSpace,
    member: Box<dyn GroupMember>,
    partitions: BTreeSet<TopicPartition>,
    owned: BTreeSet<TaskId>,
    /// Told as revoked; they are ours until they are acknowledged.
    revoking: Option<Revoking>,
    torn_since: Option<Duration>,
}

struct Revoking {
    partitions: Vec<TopicPartition>,
    tasks: Vec<TaskId>,
}

impl std::fmt::Debug for ConsumerGroup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsumerGroup")
            .field("group", &self.group)
            .field("owned", &self.owned)
            .finish_non_exhaustive()
    }
}

impl ConsumerGroup {
    /// The membership of a member that has been asked to join.
    pub fn new(group: Arc<str>, space: TaskSpace, member: Box<dyn GroupMember>) -> Self {
        Self {
            group,
            space,
            member,
            partitions: BTreeSet::new(),
            owned: BTreeSet::new(),
            revoking: None,
            torn_since: None,
        }
    }

    fn member_id(&self) -> MemberId {
        self.member.identity().map_or_else(|| MemberId::from(""), |identity| identity.member)
    }

    fn take_in(&mut self, event: GroupEvent) -> LogResult<Option<MembershipEvent>> {
        match event {
            GroupEvent::Assigned(partitions) => self.assigned(partitions).map(Some),
            GroupEvent::Revoked(partitions) => {
                let tasks = self.tasks_of(&partitions);
                self.revoking = Some(Revoking { partitions, tasks: tasks.clone() });
                if tasks.is_empty() {
                    self.acknowledge();
                    return Ok(None);
                }
                Ok(Some(MembershipEvent::Revoked { tasks, member: self.member_id() }))
            }
            GroupEvent::Lost(partitions) => {
                let tasks = self.tasks_of(&partitions);
                let member = self.member_id();
                self.give_up(&partitions, &tasks);
                let lost = MembershipEvent::Lost { tasks: tasks.clone(), member };
                Ok((!tasks.is_empty()).then_some(lost))
            }
        }
    }

    fn assigned(&mut self, partitions: Vec<TopicPartition>) -> LogResult<MembershipEvent> {
        for partition in &partitions {
            self.check_known(partition)?;
        }
        self.partitions.extend(partitions);
        let whole = self
            .space
            .tasks()
            .filter(|task| !self.owned.contains(task) && self.missing(*task).next().is_none());
        let tasks: Vec<TaskId> = whole.collect();
        self.owned.extend(&tasks);
        let identity = self.member.identity();
        let epoch = identity.as_ref().map_or(-1, |identity| identity.epoch);
        let member = identity.map_or_else(|| MemberId::from(""), |identity| identity.member);
        Ok(MembershipEvent::Assigned { tasks, member, epoch })
    }

    /// The topic had so many partitions when the tasks were counted.
    fn check_known(&self, partition: &TopicPartition) -> LogResult<()> {
        let counted = self.space.inputs.iter().zip(&self.space.partitions);
        let mut counts = counted.filter(|(topics, _)| topics.contains(&partition.topic));
        let Some((_, &count)) = counts.next() else { return Ok(()) };
        if partition.partition < count {
            return Ok(());
        }
        let why = format!(
            "the topic has a partition {}, but had {count} partitions when the application started; \
             internal topics and state are cut the same way: give the topic its old number back, or \
             stop all instances and reset the application",
            partition.partition
        );
        Err(LogError::new(ErrorClass::Fatal, "share tasks out", why).on(partition))
    }

    /// Inputs of a task that are not ours.
    fn missing(&self, task: TaskId) -> impl Iterator<Item = TopicPartition> {
        let inputs = self.inputs(task);
        inputs.filter(|input| !self.partitions.contains(input))
    }

    fn inputs(&self, task: TaskId) -> impl Iterator<Item = TopicPartition> {
        let subtopology = usize::try_from(task.subtopology).expect("a small number");
        let topics = self.space.inputs.get(subtopology).map(Vec::as_slice).unwrap_or_default();
        topics.iter().map(move |topic| TopicPartition::new(Arc::clone(topic), task.partition))
    }

    /// Our tasks that read one of these partitions.
    fn tasks_of(&self, partitions: &[TopicPartition]) -> Vec<TaskId> {
        let reads = |task: &TaskId| self.inputs(*task).any(|input| partitions.contains(&input));
        self.owned.iter().copied().filter(reads).collect()
    }

    fn give_up(&mut self, partitions: &[TopicPartition], tasks: &[TaskId]) {
        self.partitions.retain(|partition| !partitions.contains(partition));
        self.owned.retain(|task| !tasks.contains(task));
    }

    /// Says what is torn, and fails when it stays so.
    fn check_torn(&mut self, now: Now) -> LogResult<()> {
        let ours = |task: &TaskId| self.inputs(*task).any(|i| self.partitions.contains(&i));
        let torn: Vec<TaskId> =
            self.space.tasks().filter(|task| !self.owned.contains(task) && ours(task)).collect();
        if torn.is_empty() {
            self.torn_since = None;
            return Ok(());
        }
        let missing: Vec<_> =
            torn.iter().flat_map(|task| self.missing(*task)).map(|p| p.to_string()).collect();
        let since = self.torn_since.unwrap_or_else(|| {
            tracing::warn!(
                group = &*self.group,
                ?torn,
                ?missing,
                "a task's inputs were given to different members; it waits for another assignment"
            );
            now.monotonic
        });
        self.torn_since = Some(since);
        if now.monotonic < since + TORN_FOR {
            return Ok(());
        }
        let tasks: Vec<_> = torn.iter().map(ToString::to_string).collect();
        let why = format!(
            "group {} gave inputs of tasks {} to different members for {TORN_FOR:?}; this one lacks \
             {}: run the same topology in all instances, and nothing else in the group",
            self.group,
            tasks.join(", "),
            missing.join(", ")
        );
        Err(LogError::new(ErrorClass::Fatal, "share tasks out", why))
    }
}

impl Membership for ConsumerGroup {
    fn poll(&mut self, now: Now) -> LogResult<Option<MembershipEvent>> {
        while let Some(event) = self.member.poll()? {
            if let Some(event) = self.take_in(event)? {
                return Ok(Some(event));
            }
        }
        self.check_torn(now).map(|()| None)
    }

    fn acknowledge(&mut self) {
        if let Some(Revoking { partitions, tasks }) = self.revoking.take() {
            self.give_up(&partitions, &tasks);
            self.member.acknowledge();
        }
    }

    fn identity(&self, task: TaskId) -> Option<Identity> {
        self.member.identity().filter(|_| self.owned.contains(&task))
    }

    fn leave(&mut self) {
        self.owned.clear();
        self.member.leave();
    }

    fn has_left(&self) -> bool {
        self.member.has_left()
    }

    fn listen(&mut self, bell: Bell) {
        self.member.listen(bell);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::time::{Clock, VirtualClock};

    /// What the test says, and what the membership answered.
    #[derive(Default)]
    struct Script {
        events: VecDeque<GroupEvent>,
        acknowledged: usize,
    }

    struct Scripted(Arc<Mutex<Script>>);

    impl GroupMember for Scripted {
        fn poll(&mut self) -> LogResult<Option<GroupEvent>> {
            Ok(self.0.lock().expect("one thread").events.pop_front())
        }

        fn acknowledge(&mut self) {
            self.0.lock().expect("one thread").acknowledged += 1;
        }

        fn identity(&self) -> Option<Identity> {
            Some(Identity { group: "g".into(), member: "m".into(), epoch: 7 })
        }

        fn leave(&mut self) {}

        fn has_left(&self) -> bool {
            true
        }

        fn listen(&mut self, bell: Bell) {
            bell.ring();
        }
    }

    /// Subtopology 0 joins `a` and `b` of 2 partitions, subtopology 1 reads `c` of 1.
    struct Scene {
        script: Arc<Mutex<Script>>,
        membership: ConsumerGroup,
        clock: VirtualClock,
    }

    impl Scene {
        fn new() -> Self {
            let script = Arc::new(Mutex::new(Script::default()));
            let inputs = vec![vec!["a".into(), "b".into()], vec!["c".into()]];
            let space = TaskSpace { partitions: vec![2, 1], inputs };
            let member = Box::new(Scripted(Arc::clone(&script)));
            let membership = ConsumerGroup::new("g".into(), space, member);
            Self { script, membership, clock: VirtualClock::new(0) }
        }

        fn hear(&mut self, event: GroupEvent) -> LogResult<Option<MembershipEvent>> {
            self.script.lock().expect("one thread").events.push_back(event);
            self.membership.poll(self.clock.now())
        }

        fn acknowledged(&self) -> usize {
            self.script.lock().expect("one thread").acknowledged
        }
    }

    fn partitions(of: &[(&str, u32)]) -> Vec<TopicPartition> {
        of.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect()
    }

    fn task(subtopology: u32, partition: u32) -> TaskId {
        TaskId { subtopology, partition }
    }

    fn assigned(event: Option<MembershipEvent>) -> Vec<TaskId> {
        match event {
            Some(MembershipEvent::Assigned { tasks, .. }) => tasks,
            other => panic!("not an assignment: {other:?}"),
        }
    }

    #[test]
    fn a_task_is_ours_when_all_its_inputs_are() {
        let mut scene = Scene::new();
        let first = scene.hear(GroupEvent::Assigned(partitions(&[("a", 0), ("c", 0)])));
        assert_eq!(assigned(first.expect("no error")), [task(1, 0)]);
        assert!(scene.membership.identity(task(0, 0)).is_none());
        let second = scene.hear(GroupEvent::Assigned(partitions(&[("b", 0)])));
        assert_eq!(assigned(second.expect("no error")), [task(0, 0)]);
        assert_eq!(scene.membership.identity(task(0, 0)).expect("ours").epoch, 7);
    }

    #[test]
    fn a_revocation_is_passed_on_once_its_tasks_are_acknowledged() {
        let mut scene = Scene::new();
        let all = partitions(&[("a", 0), ("b", 0), ("a", 1), ("b", 1), ("c", 0)]);
        scene.hear(GroupEvent::Assigned(all)).expect("no error");
        let event = scene.hear(GroupEvent::Revoked(partitions(&[("a", 1), ("b", 1)])));
        let Some(MembershipEvent::Revoked { tasks, .. }) = event.expect("no error") else {
            panic!("a revocation");
        };
        assert_eq!((tasks, scene.acknowledged()), (vec![task(0, 1)], 0));
        assert!(scene.membership.identity(task(0, 1)).is_some(), "it may still commit");
        scene.membership.acknowledge();
        assert_eq!(scene.acknowledged(), 1);
        assert!(scene.membership.identity(task(0, 1)).is_none());
        assert!(scene.membership.identity(task(0, 0)).is_some());
    }

    #[test]
    fn a_revocation_of_nothing_that_runs_is_acknowledged_at_once() {
        let mut scene = Scene::new();
        assert_eq!(scene.hear(GroupEvent::Revoked(Vec::new())).expect("no error"), None);
        assert_eq!(scene.acknowledged(), 1);
    }

    #[test]
    fn lost_partitions_are_lost_tasks_and_may_come_again() {
        let mut scene = Scene::new();
        let both = || partitions(&[("a", 0), ("b", 0)]);
        scene.hear(GroupEvent::Assigned(both())).expect("no error");
        let event = scene.hear(GroupEvent::Lost(both())).expect("no error");
        let lost = MembershipEvent::Lost { tasks: vec![task(0, 0)], member: "m".into() };
        assert_eq!(event, Some(lost));
        let again = scene.hear(GroupEvent::Assigned(both())).expect("no error");
        assert_eq!(assigned(again), [task(0, 0)]);
    }

    #[test]
    fn a_torn_assignment_is_waited_out_and_then_refused_by_name() {
        let mut scene = Scene::new();
        scene.hear(GroupEvent::Assigned(partitions(&[("a", 1)]))).expect("it waits");
        scene.membership.poll(scene.clock.now()).expect("it waits");
        scene.clock.advance(TORN_FOR / 2);
        scene.membership.poll(scene.clock.now()).expect("it waits");
        scene.clock.advance(TORN_FOR);
        let error = scene.membership.poll(scene.clock.now()).expect_err("too long");
        assert_eq!(error.class, ErrorClass::Fatal);
        assert!(error.message.contains("0_1") && error.message.contains("b-1"), "{error}");
    }

    #[test]
    fn a_topic_that_has_grown_is_refused_with_both_counts() {
        let mut scene = Scene::new();
        let error = scene.hear(GroupEvent::Assigned(partitions(&[("c", 1)]))).expect_err("grown");
        assert_eq!(error.class, ErrorClass::Fatal);
        assert!(error.to_string().contains("c-1") && error.message.contains("had 1"), "{error}");
    }
}
