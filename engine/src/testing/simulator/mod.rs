//! The simulator: steps every actor of several processes on one thread, in an order drawn from a
//! seed, under a virtual clock. Owns the order, the clock, the processes' lives and their disks;
//! knows nothing of what actors do. Two runs of one seed are the same run, and say so by one
//! [trace hash](Simulator::trace_hash).
//!
//! ```text
//!            seed ── draws ──> which runnable actor is stepped next
//!  world:    cluster, group                     never die
//!  process:  actors + MemoryDisk                killed, cut off from power, paused, started again
//! ```

mod process;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use headwater_state::database::memory::MemoryDisk;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::process::Instance;
use crate::actor::{Actor, Bell, Next};
use crate::log::sim::{Process, Trace};
use crate::time::{Clock, VirtualClock};

/// One in so many steps takes time, so that work and time interleave.
const SLOW_STEPS: u32 = 8;
/// The longest of them, in microseconds.
const SLOWEST_STEP: u64 = 2_000;

/// A simulated run failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("seed {seed}, step {step}: {message}")]
pub struct SimulationError {
    /// The seed that shows it again.
    pub seed: u64,
    /// After how many steps.
    pub step: u64,
    /// What is wrong.
    pub message: String,
}

/// An actor and what it wants.
struct Slot {
    actor: Box<dyn Actor>,
    bell: Bell,
    wish: Next,
    /// It is not stepped before this time, whatever it wants.
    stalled_until: Duration,
}

impl Slot {
    fn new(actor: Box<dyn Actor>) -> Self {
        Self { bell: actor.bell(), actor, wish: Next::Again, stalled_until: Duration::ZERO }
    }

    /// It wants to be stepped at this time, and can be.
    fn is_runnable(&mut self, now: Duration) -> bool {
        if now < self.stalled_until {
            return false;
        }
        if self.wish != Next::Done && self.bell.take() {
            self.wish = Next::Again;
        }
        match self.wish {
            Next::Again => true,
            Next::WakeAt(at) => at <= now,
            Next::Wait | Next::Done => false,
        }
    }

    /// When time alone may make it runnable.
    fn wakes_at(&self, now: Duration) -> Option<Duration> {
        match self.wish {
            Next::Done => None,
            Next::WakeAt(at) => Some(at.max(self.stalled_until)),
            // Its bell may have rung meanwhile.
            Next::Again | Next::Wait => (now < self.stalled_until).then_some(self.stalled_until),
        }
    }
}

/// Steps actors. See the [module](self).
pub struct Simulator {
    seed: u64,
    rng: ChaCha8Rng,
    clock: VirtualClock,
    world: Vec<Slot>,
    instances: BTreeMap<String, Instance>,
    trace: Trace,
    steps: u64,
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator")
            .field("seed", &self.seed)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl Simulator {
    /// A simulator without actors whose wall clock starts at this time, in milliseconds.
    pub fn new(seed: u64, wall_start_ms: i64) -> Self {
        Self {
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            clock: VirtualClock::new(wall_start_ms),
            world: Vec::new(),
            instances: BTreeMap::new(),
            trace: Trace::default(),
            steps: 0,
        }
    }

    /// The clock of everything in it.
    pub fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// How many steps were done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A number drawn from the seed.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn draw(&mut self, range: Range<u64>) -> u64 {
        self.rng.random_range(range)
    }

    /// Adds to the trace what the simulator cannot see.
    pub fn note(&mut self, event: std::fmt::Arguments<'_>) {
        self.trace.note(event);
    }

    /// The hash of every step so far: actor, time and wish.
    pub fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// The newest notes, oldest first: lives and deaths of processes and what was
    /// [noted](Simulator::note).
    pub fn recent(&self) -> impl Iterator<Item = &str> {
        self.trace.recent()
    }

    /// Adds an actor that belongs to no process and never dies.
    pub fn add(&mut self, actor: Box<dyn Actor>) {
        self.world.push(Slot::new(actor));
    }

    // ---- processes -----------------------------------------------------------------------------

    /// Starts a process: `boot` makes its actors on its disk, which is the same at every start.
    ///
    /// # Panics
    /// If a process of this name is alive.
    pub fn start(
        &mut self,
        name: &str,
        boot: impl FnOnce(&Process, &MemoryDisk) -> Vec<Box<dyn Actor>>,
    ) {
        self.trace.note(format_args!("{name} starts"));
        let instance = self.instances.entry(name.to_owned()).or_insert_with(Instance::new);
        instance.start(name, boot);
    }

    /// Kills a process between two steps. What it has written stays, as after `kill -9`.
    pub fn kill(&mut self, name: &str) {
        self.trace.note(format_args!("{name} is killed"));
        self.instance(name).kill(usize::MAX);
        self.ring_world();
    }

    /// Cuts a process's machine off from power: of the writes that were not synced only the first
    /// few survive, as many as the seed says.
    pub fn lose_power(&mut self, name: &str) {
        let unsynced = self.instance(name).disk().unsynced();
        let kept = self.rng.random_range(0..=unsynced);
        self.trace.note(format_args!("{name} loses power, {kept} of {unsynced} writes survive"));
        self.instance(name).kill(kept);
        self.ring_world();
    }

    /// Stops a process for a while; it may be a zombie when it goes on.
    pub fn pause(&mut self, name: &str) {
        self.trace.note(format_args!("{name} is paused"));
        self.instance(name).process().pause();
        self.ring_world();
    }

    /// Lets a paused process go on.
    pub fn resume(&mut self, name: &str) {
        self.trace.note(format_args!("{name} goes on"));
        self.instance(name).process().resume();
        self.ring_world();
    }

    /// Keeps one actor of a process from being stepped for a while, as a thread that the kernel or
    /// a disk holds up; the others go on.
    ///
    /// # Panics
    /// If the process is dead, or has no actor of this name.
    pub fn stall(&mut self, name: &str, actor: &str, time: Duration) {
        self.trace.note(format_args!("{actor} of {name} stalls for {time:?}"));
        let until = self.clock.now().monotonic + time;
        let slots = self.instance(name).slots_mut();
        let slot = slots.iter_mut().find(|slot| slot.actor.name() == actor);
        slot.expect("the process has an actor of this name").stalled_until = until;
    }

    /// The names of a process's actors; none if it is dead.
    pub fn actors(&self, name: &str) -> Vec<String> {
        let slots = self.instances.get(name).map_or(&[][..], Instance::slots);
        slots.iter().map(|slot| slot.actor.name().to_owned()).collect()
    }

    /// The process lives and is not paused.
    pub fn is_running(&self, name: &str) -> bool {
        self.instances.get(name).is_some_and(Instance::is_running)
    }

    /// The process lives, paused or not.
    pub fn is_alive(&self, name: &str) -> bool {
        self.instances.get(name).is_some_and(Instance::is_alive)
    }

    /// Every actor of the process is done.
    pub fn has_ended(&self, name: &str) -> bool {
        self.instances.get(name).is_some_and(Instance::has_ended)
    }

    /// A process's disk, for checkers.
    ///
    /// # Panics
    /// If no process of this name was ever started.
    pub fn disk(&self, name: &str) -> &MemoryDisk {
        self.instances.get(name).expect("a process of this name was started").disk()
    }

    fn instance(&mut self, name: &str) -> &mut Instance {
        self.instances.get_mut(name).expect("a process of this name was started")
    }

    /// The world looks who is there.
    fn ring_world(&self) {
        for slot in &self.world {
            slot.bell.ring();
        }
    }

    // ---- steps ---------------------------------------------------------------------------------

    /// Does one step of one actor; moves the clock when nobody can be stepped before.
    ///
    /// # Errors
    /// Nothing can run any more and no time will change that.
    pub fn step(&mut self) -> Result<(), SimulationError> {
        let now = self.clock.now().monotonic;
        let mut runnable = self.runnable(now);
        if !runnable.is_empty() && self.rng.random_range(0..SLOW_STEPS) == 0 {
            let took = Duration::from_micros(self.rng.random_range(0..SLOWEST_STEP));
            self.clock.advance(took);
        }
        // Whoever was stalled may turn out to have nothing to do.
        while runnable.is_empty() {
            let now = self.clock.now().monotonic;
            let Some(at) = self.earliest_wake(now) else {
                return Err(self.error("nothing can run any more, and no time will change that"));
            };
            self.clock.advance(at.saturating_sub(now));
            runnable = self.runnable(at.max(now));
        }
        let chosen = runnable[self.rng.random_range(0..runnable.len())];
        let now = self.clock.now();
        let slot = self.slot(chosen);
        slot.wish = slot.actor.step(now);
        let (name, wish) = (slot.actor.name().to_owned(), slot.wish);
        self.steps += 1;
        self.trace.mix(name.as_bytes());
        self.trace.mix(&now.monotonic.as_nanos().to_be_bytes());
        self.trace.mix(&wish_bytes(wish));
        Ok(())
    }

    /// Steps until `done` says so.
    ///
    /// # Errors
    /// Nothing can run any more, or `most` steps were not enough.
    pub fn run_until(
        &mut self,
        most: u64,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<(), SimulationError> {
        for _ in 0..most {
            if done(self) {
                return Ok(());
            }
            self.step()?;
        }
        if done(self) { Ok(()) } else { Err(self.error(&format!("not done after {most} steps"))) }
    }

    /// An error of this run, for checkers too.
    pub fn error(&self, message: &str) -> SimulationError {
        SimulationError { seed: self.seed, step: self.steps, message: message.to_owned() }
    }

    /// Everybody who can be stepped now: (index of the instance, or the world's; index in it).
    fn runnable(&mut self, now: Duration) -> Vec<(usize, usize)> {
        let mut runnable = Vec::new();
        for (group, slots) in self.groups().enumerate() {
            for (index, slot) in slots.iter_mut().enumerate() {
                if slot.is_runnable(now) {
                    runnable.push((group, index));
                }
            }
        }
        runnable
    }

    fn earliest_wake(&mut self, now: Duration) -> Option<Duration> {
        self.groups().flat_map(|slots| slots.iter()).filter_map(|slot| slot.wakes_at(now)).min()
    }

    /// The world's slots, then those of each process, none for one that does not run.
    fn groups(&mut self) -> impl Iterator<Item = &mut [Slot]> {
        let world = std::iter::once(self.world.as_mut_slice());
        world.chain(self.instances.values_mut().map(Instance::running_slots))
    }

    fn slot(&mut self, (group, index): (usize, usize)) -> &mut Slot {
        &mut self.groups().nth(group).expect("it was runnable")[index]
    }
}

fn wish_bytes(wish: Next) -> [u8; 17] {
    let (kind, at) = match wish {
        Next::Again => (0, Duration::ZERO),
        Next::WakeAt(at) => (1, at),
        Next::Wait => (2, Duration::ZERO),
        Next::Done => (3, Duration::ZERO),
    };
    let mut bytes = [0; 17];
    bytes[0] = kind;
    bytes[1..].copy_from_slice(&at.as_nanos().to_be_bytes());
    bytes
}
