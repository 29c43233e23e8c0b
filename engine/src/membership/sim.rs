//! The simulated group coordinator and its members. Owns who lives, the assignment drawn from a seed,
//! epochs and the barrier of a revocation; tells the cluster which members may commit. Knows tasks as
//! numbers only.
//!
//! ```text
//!  SimMember::poll ── joins ──> coordinator ── target assignment, a new epoch
//!        ^                          │
//!        │   Revoked                ├── tasks that leave: the owner is asked, then acknowledges
//!        └── Assigned, Lost ────────┴── tasks that come: once nobody owns them any more
//! ```
//!
//! A process that is paused or dead sends no heartbeats; after the session timeout its member is
//! expelled and its tasks go to others at once. When such a process goes on (a zombie), it first
//! hears that its tasks are lost, then joins as a new member. Rules: KIP-848's reconciliation.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{MemberId, Membership, MembershipEvent, TaskSpace};
use crate::actor::{Actor, Bell, Next};
use crate::log::sim::{Process, SimCluster, Trace};
use crate::log::{Identity, LogError};
use crate::record::TaskId;
use crate::time::Now;

/// What a simulated group is like.
#[derive(Debug, Clone)]
pub struct SimGroupConfig {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// A member that is silent so long is expelled.
    pub session_timeout: Duration,
    /// Shortest and longest time between two rebalances that nobody asked for, in milliseconds.
    pub rebalance_ms: Option<(u64, u64)>,
}

impl SimGroupConfig {
    /// A group that rebalances only when members come and go.
    pub fn calm(seed: u64) -> Self {
        Self { seed, session_timeout: Duration::from_secs(5), rebalance_ms: None }
    }
}

#[derive(Debug)]
struct Member {
    process: Process,
    bell: Bell,
    silent_since: Option<Duration>,
    epoch: i32,
    owned: BTreeSet<TaskId>,
    target: BTreeSet<TaskId>,
    /// Asked to give these up, not yet acknowledged.
    revoking: Option<Vec<TaskId>>,
    events: VecDeque<MembershipEvent>,
}

#[derive(Debug)]
struct Coordinator {
    group: Arc<str>,
    space: TaskSpace,
    cluster: SimCluster,
    config: SimGroupConfig,
    rng: ChaCha8Rng,
    epoch: i32,
    members: BTreeMap<MemberId, Member>,
    joined: u64,
    /// Members came or went since the last target assignment.
    changed: bool,
    next_rebalance: Option<Duration>,
    trace: Trace,
}

/// The coordinator of one group. Clones are the same one; as an [`Actor`] it is stepped once.
#[derive(Debug, Clone)]
pub struct SimGroup {
    coordinator: Arc<Mutex<Coordinator>>,
    bell: Bell,
}

impl SimGroup {
    /// The coordinator of a group without members.
    pub fn new(group: impl Into<Arc<str>>, cluster: SimCluster, config: SimGroupConfig) -> Self {
        let group = group.into();
        cluster.set_members(&group, BTreeMap::new());
        let coordinator = Coordinator {
            group,
            space: TaskSpace::default(),
            cluster,
            rng: ChaCha8Rng::seed_from_u64(config.seed),
            config,
            epoch: 0,
            members: BTreeMap::new(),
            joined: 0,
            changed: false,
            next_rebalance: None,
            trace: Trace::default(),
        };
        Self { coordinator: Arc::new(Mutex::new(coordinator)), bell: Bell::new() }
    }

    /// The membership of this process, which knows that these are the tasks. It joins when it is
    /// first polled.
    pub fn member(&self, process: &Process, space: TaskSpace) -> SimMember {
        self.lock().space = space;
        SimMember {
            group: self.clone(),
            process: process.clone(),
            bell: Bell::new(),
            id: None,
            owned: BTreeSet::new(),
            epoch: 0,
            revoking: Vec::new(),
        }
    }

    /// Shares the tasks out anew at the next step.
    pub fn rebalance(&self) {
        self.lock().changed = true;
        self.bell.ring();
    }

    /// Expels the member of this process, whose heartbeats were lost though it runs: its tasks go
    /// to others, and it hears of it later. False if it is no member.
    pub fn expel(&self, process: &str) -> bool {
        let mut coordinator = self.lock();
        let found = coordinator.members.iter().find(|(_, m)| **m.process.name() == *process);
        let Some(id) = found.map(|(id, _)| Arc::clone(id)) else { return false };
        coordinator.expel(&id);
        drop(coordinator);
        self.bell.ring();
        true
    }

    /// From now on only members that come and go cause rebalances.
    pub fn calm_down(&self) {
        self.lock().config.rebalance_ms = None;
    }

    /// Which member owns which tasks now.
    pub fn assignment(&self) -> BTreeMap<MemberId, BTreeSet<TaskId>> {
        let coordinator = self.lock();
        let owned = coordinator.members.iter().map(|(id, m)| (Arc::clone(id), m.owned.clone()));
        owned.collect()
    }

    /// What happened so far.
    pub fn trace(&self) -> Trace {
        self.lock().trace.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Coordinator> {
        self.coordinator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Actor for SimGroup {
    fn name(&self) -> &str {
        "group"
    }

    fn bell(&self) -> Bell {
        self.bell.clone()
    }

    fn step(&mut self, now: Now) -> Next {
        self.lock().step(now.monotonic)
    }
}

impl Coordinator {
    fn step(&mut self, now: Duration) -> Next {
        let mut next = self.expel_the_silent(now);
        if let Some((shortest, longest)) = self.config.rebalance_ms {
            if self.next_rebalance.is_some_and(|at| at <= now) {
                self.next_rebalance = None;
                self.changed = true;
            }
            let at = self.next_rebalance.unwrap_or_else(|| {
                now + Duration::from_millis(self.rng.random_range(shortest..=longest))
            });
            self.next_rebalance = Some(at);
            next = next.sooner(Next::WakeAt(at));
        }
        if std::mem::take(&mut self.changed) {
            self.assign();
        }
        self.reconcile();
        next
    }

    fn expel_the_silent(&mut self, now: Duration) -> Next {
        let mut next = Next::Wait;
        let timeout = self.config.session_timeout;
        let mut expelled = Vec::new();
        for (id, member) in &mut self.members {
            if member.process.is_running() {
                member.silent_since = None;
                continue;
            }
            let since = *member.silent_since.get_or_insert(now);
            match since + timeout {
                at if at <= now => expelled.push(Arc::clone(id)),
                at => next = next.sooner(Next::WakeAt(at)),
            }
        }
        expelled.iter().for_each(|id| self.expel(id));
        next
    }

    fn expel(&mut self, id: &MemberId) {
        self.trace.note(format_args!("{} expels {id}", self.group));
        self.members.remove(id);
        self.changed = true;
    }

    /// A target for everybody: mostly what each has, now and then all anew.
    fn assign(&mut self) {
        self.epoch += 1;
        let mut tasks: Vec<TaskId> = self.space.tasks().collect();
        tasks.shuffle(&mut self.rng);
        let mut ids: Vec<MemberId> = self.members.keys().cloned().collect();
        ids.shuffle(&mut self.rng);
        if ids.is_empty() {
            self.publish();
            return;
        }
        let most = tasks.len().div_ceil(ids.len());
        let sticky = self.rng.random_range(0..4) > 0;
        let mut targets: BTreeMap<MemberId, BTreeSet<TaskId>> = BTreeMap::new();
        let mut left = Vec::new();
        for task in tasks {
            let owner = ids.iter().find(|id| sticky && self.members[*id].owned.contains(&task));
            match owner.map(|id| targets.entry(Arc::clone(id)).or_default()) {
                Some(target) if target.len() < most => {
                    target.insert(task);
                }
                _ => left.push(task),
            }
        }
        for task in left {
            let load = |id: &&MemberId| targets.get(*id).map_or(0, BTreeSet::len);
            let least = ids.iter().min_by_key(load).expect("there are members");
            targets.entry(Arc::clone(least)).or_default().insert(task);
        }
        self.trace.note(format_args!("{} epoch {}: {targets:?}", self.group, self.epoch));
        for (id, member) in &mut self.members {
            member.target = targets.remove(id).unwrap_or_default();
        }
    }

    /// Brings every member as near to its target as the others allow.
    fn reconcile(&mut self) {
        let mut owned: BTreeSet<TaskId> =
            self.members.values().flat_map(|member| member.owned.iter().copied()).collect();
        for (id, member) in &mut self.members {
            if member.revoking.is_some() {
                continue;
            }
            let leaving: Vec<TaskId> = member.owned.difference(&member.target).copied().collect();
            if !leaving.is_empty() {
                let event =
                    MembershipEvent::Revoked { tasks: leaving.clone(), member: Arc::clone(id) };
                member.events.push_back(event);
                member.revoking = Some(leaving);
                member.bell.ring();
                continue;
            }
            let coming: Vec<TaskId> = member.target.difference(&owned).copied().collect();
            if coming.is_empty() && member.epoch == self.epoch {
                continue;
            }
            member.epoch = self.epoch;
            member.owned.extend(&coming);
            owned.extend(&coming);
            let (member_id, epoch) = (Arc::clone(id), self.epoch);
            let event = MembershipEvent::Assigned { tasks: coming, member: member_id, epoch };
            member.events.push_back(event);
            member.bell.ring();
        }
        self.publish();
    }

    /// Tells the cluster who may commit.
    fn publish(&self) {
        let members = self.members.iter().map(|(id, m)| (Arc::clone(id), m.epoch)).collect();
        self.cluster.set_members(&self.group, members);
    }

    fn join(&mut self, process: &Process, bell: &Bell) -> MemberId {
        self.joined += 1;
        let id: MemberId = Arc::from(format!("{}-{}", process.name(), self.joined));
        let member = Member {
            process: process.clone(),
            bell: bell.clone(),
            silent_since: None,
            epoch: 0,
            owned: BTreeSet::new(),
            target: BTreeSet::new(),
            revoking: None,
            events: VecDeque::new(),
        };
        self.members.insert(Arc::clone(&id), member);
        self.changed = true;
        id
    }
}

/// The membership of one process.
#[derive(Debug)]
pub struct SimMember {
    group: SimGroup,
    process: Process,
    bell: Bell,
    id: Option<MemberId>,
    /// What the process knows of: news it has polled.
    owned: BTreeSet<TaskId>,
    epoch: i32,
    revoking: Vec<TaskId>,
}

impl SimMember {
    fn take_in(&mut self, event: &MembershipEvent) {
        match event {
            MembershipEvent::Assigned { tasks, epoch, .. } => {
                self.owned.extend(tasks);
                self.epoch = *epoch;
            }
            MembershipEvent::Revoked { tasks, .. } => self.revoking.clone_from(tasks),
            MembershipEvent::Lost { .. } => {
                self.owned.clear();
                self.revoking.clear();
            }
        }
    }
}

impl Membership for SimMember {
    fn poll(&mut self, _now: Now) -> Result<Option<MembershipEvent>, LogError> {
        let mut coordinator = self.group.lock();
        let Some(id) = self.id.clone() else {
            self.id = Some(coordinator.join(&self.process, &self.bell));
            drop(coordinator);
            self.group.bell.ring();
            return Ok(None);
        };
        let event = match coordinator.members.get_mut(&id) {
            // Nothing more is told before a revocation is acknowledged.
            Some(member) if self.revoking.is_empty() => member.events.pop_front(),
            Some(_) => None,
            None => {
                self.id = None;
                let tasks: Vec<TaskId> = self.owned.iter().copied().collect();
                (!tasks.is_empty()).then_some(MembershipEvent::Lost { tasks, member: id })
            }
        };
        drop(coordinator);
        if self.id.is_none() {
            // It joins again at the next poll.
            self.revoking.clear();
            self.bell.ring();
        }
        if let Some(event) = &event {
            self.take_in(event);
        }
        Ok(event)
    }

    fn acknowledge(&mut self) {
        let gone = std::mem::take(&mut self.revoking);
        self.owned.retain(|task| !gone.contains(task));
        let mut coordinator = self.group.lock();
        if let Some(member) = self.id.as_ref().and_then(|id| coordinator.members.get_mut(id)) {
            member.owned.retain(|task| !gone.contains(task));
            member.revoking = None;
        }
        drop(coordinator);
        self.group.bell.ring();
    }

    fn identity(&self, task: TaskId) -> Option<Identity> {
        let member = self.id.clone().filter(|_| self.owned.contains(&task))?;
        let group = Arc::clone(&self.group.lock().group);
        Some(Identity { group, member, epoch: self.epoch })
    }

    fn leave(&mut self) {
        let mut coordinator = self.group.lock();
        if let Some(id) = self.id.take() {
            coordinator.members.remove(&id);
            coordinator.changed = true;
        }
        drop(coordinator);
        self.owned.clear();
        self.group.bell.ring();
    }

    fn listen(&mut self, bell: Bell) {
        self.bell = bell;
        let mut coordinator = self.group.lock();
        if let Some(member) = self.id.as_ref().and_then(|id| coordinator.members.get_mut(id)) {
            member.bell = self.bell.clone();
        }
        drop(coordinator);
        self.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::sim::SimConfig;
    use crate::time::{Clock, VirtualClock};

    struct Scene {
        group: SimGroup,
        clock: VirtualClock,
    }

    impl Scene {
        fn new(config: SimGroupConfig) -> Self {
            let cluster = SimCluster::new(SimConfig::calm(1));
            Self { group: SimGroup::new("g", cluster, config), clock: VirtualClock::new(0) }
        }

        fn member(&self, name: &str) -> (Process, SimMember) {
            let process = Process::new(name);
            let member = self
                .group
                .member(&process, TaskSpace { partitions: vec![4], ..TaskSpace::default() });
            (process, member)
        }

        fn poll(&mut self, member: &mut SimMember) -> Option<MembershipEvent> {
            self.group.step(self.clock.now());
            member.poll(self.clock.now()).expect("the simulated group never fails")
        }

        /// Polls until there is no news; acknowledges revocations.
        fn settle(&mut self, member: &mut SimMember) {
            for _ in 0..10 {
                if let Some(MembershipEvent::Revoked { .. }) = self.poll(member) {
                    member.acknowledge();
                }
            }
        }
    }

    fn task(partition: u32) -> TaskId {
        TaskId { subtopology: 0, partition }
    }

    fn owned(member: &SimMember) -> Vec<TaskId> {
        (0..4).map(task).filter(|task| member.identity(*task).is_some()).collect()
    }

    #[test]
    fn the_first_member_gets_every_task() {
        let mut scene = Scene::new(SimGroupConfig::calm(1));
        let (_process, mut member) = scene.member("a");
        scene.settle(&mut member);
        assert_eq!(owned(&member).len(), 4);
    }

    #[test]
    fn a_task_moves_only_after_its_owner_has_acknowledged() {
        for seed in 0..20 {
            let mut scene = Scene::new(SimGroupConfig::calm(seed));
            let (_a, mut first) = scene.member("a");
            scene.settle(&mut first);
            let (_b, mut second) = scene.member("b");
            scene.poll(&mut second);
            let Some(MembershipEvent::Revoked { tasks, .. }) = scene.poll(&mut first) else {
                panic!("the first member is asked to give some up");
            };
            for _ in 0..10 {
                scene.poll(&mut second);
                assert_eq!(owned(&second), [], "the barrier holds");
            }
            first.acknowledge();
            scene.settle(&mut second);
            scene.settle(&mut first);
            assert_eq!(owned(&second).len(), tasks.len());
            assert_eq!(owned(&first).len() + owned(&second).len(), 4);
        }
    }

    #[test]
    fn a_zombie_hears_that_its_tasks_are_lost_and_joins_again() {
        let mut scene = Scene::new(SimGroupConfig::calm(3));
        let (process, mut zombie) = scene.member("a");
        scene.settle(&mut zombie);
        let before = zombie.identity(task(0)).expect("it has every task");
        let (_b, mut other) = scene.member("b");
        process.pause();
        scene.settle(&mut other);
        scene.clock.advance(Duration::from_secs(6));
        scene.settle(&mut other);
        assert_eq!(owned(&other).len(), 4, "its tasks went to the other at once");
        process.resume();
        let event = scene.poll(&mut zombie);
        let Some(MembershipEvent::Lost { tasks, .. }) = event else { panic!("lost: {event:?}") };
        assert_eq!(tasks.len(), 4);
        assert_eq!(owned(&zombie), []);
        for _ in 0..10 {
            scene.settle(&mut zombie);
            scene.settle(&mut other);
        }
        assert_eq!(owned(&zombie).len(), 2);
        let after = owned(&zombie).first().and_then(|t| zombie.identity(*t)).expect("it is back");
        assert_ne!(after.member, before.member);
        assert!(after.epoch > before.epoch);
    }

    #[test]
    fn a_member_whose_heartbeats_are_lost_hears_that_its_tasks_are_and_gets_them_again() {
        let mut scene = Scene::new(SimGroupConfig::calm(3));
        let (_a, mut member) = scene.member("a");
        scene.settle(&mut member);
        let before = member.identity(task(0)).expect("it has every task");
        assert!(scene.group.expel("a"));
        assert!(!scene.group.expel("a"), "it is no member any more");
        let event = scene.poll(&mut member);
        assert!(matches!(event, Some(MembershipEvent::Lost { .. })), "{event:?}");
        scene.settle(&mut member);
        let after = member.identity(task(0)).expect("nobody else was there");
        assert_ne!(after.member, before.member);
    }

    #[test]
    fn a_member_that_leaves_hands_its_tasks_over_at_once() {
        let mut scene = Scene::new(SimGroupConfig::calm(3));
        let (_a, mut first) = scene.member("a");
        let (_b, mut second) = scene.member("b");
        for _ in 0..10 {
            scene.settle(&mut first);
            scene.settle(&mut second);
        }
        assert_eq!(owned(&second).len(), 2);
        first.leave();
        scene.settle(&mut second);
        assert_eq!(owned(&second).len(), 4);
    }

    #[test]
    fn rebalances_come_by_themselves_when_asked_for() {
        let config = SimGroupConfig { rebalance_ms: Some((10, 20)), ..SimGroupConfig::calm(5) };
        let mut scene = Scene::new(config);
        let (_a, mut member) = scene.member("a");
        scene.settle(&mut member);
        let before = member.identity(task(0)).expect("it has every task").epoch;
        for _ in 0..20 {
            scene.clock.advance(Duration::from_millis(30));
            scene.settle(&mut member);
        }
        assert!(member.identity(task(0)).expect("still").epoch >= before + 20);
    }
}
