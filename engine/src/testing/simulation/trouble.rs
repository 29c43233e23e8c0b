//! What goes wrong in a simulated run, and when: between any two steps, half the time aimed at a step
//! of a commit. Owns the odds; knows no topology.

use std::time::Duration;

use headwater_state::database::memory::Fault;

use super::matrix::{
    CLOCK_JUMP, COMPACTION, DISK_FULL, EXPELLED, KILL, PAUSE, POWER_LOSS, REBALANCE, STALL,
};
use super::run::{INSTANCES, Outcomes, Run};
use crate::log::Cleanup;
use crate::log::sim::SimFaults;
use crate::runtime::committer::Phase;

/// The steps of a commit that trouble is aimed at.
const AIMS: [Phase; 6] = [
    Phase::Initialising,
    Phase::Open,
    Phase::Sealed,
    Phase::Committing,
    Phase::Writing,
    Phase::Aborting,
];
/// Steps after which an aim is given up.
const AIM_STEPS: u64 = 400;
/// How far the wall clock jumps at most, in milliseconds.
const JUMP_MS: i64 = 30_000;

impl Run<'_> {
    /// Records arrive, and between any two steps something goes wrong.
    pub(super) fn trouble(&mut self) -> Outcomes {
        let mut more = self.simulator.draw(10..25);
        while more > 0 || self.has_more() {
            let name = INSTANCES[if self.simulator.draw(0..2) == 0 { 0 } else { 1 }];
            let most = self.simulator.draw(1..1_500);
            self.steps(most)?;
            if self.simulator.draw(0..2) == 0 {
                self.aim(name)?;
            }
            self.look_after()?;
            more = more.saturating_sub(1);
            match self.simulator.draw(0..18) {
                0..=3 => {
                    let some = self.simulator.draw(1..12);
                    self.append(usize::try_from(some).expect("a few"));
                }
                4..=7 => self.end_or_begin(name),
                8 | 9 => self.pause_or_resume(name),
                10 => {
                    self.did(REBALANCE, Some(name));
                    self.group.rebalance();
                }
                11 => self.compact(name),
                12 => {
                    self.did(DISK_FULL, Some(name));
                    self.simulator.disk(name).faults().fail_writes(Some(Fault::Full));
                }
                13 => self.expel(name),
                14 => self.stall(name),
                15 => self.write_late(name)?,
                16 => self.jump(name),
                _ => self.simulator.disk(name).faults().heal(),
            }
        }
        Ok(())
    }

    /// So many steps, unless nobody is there to do them.
    fn steps(&mut self, count: u64) -> Outcomes {
        for _ in 0..count {
            if !INSTANCES.iter().any(|name| self.simulator.is_running(name)) {
                break;
            }
            self.step()?;
        }
        Ok(())
    }

    /// Steps until a committer of the process is at a step that is drawn, with something to commit
    /// and a cluster that brings the rarer steps about.
    fn aim(&mut self, name: &str) -> Outcomes {
        let at = self.simulator.draw(0..u64::try_from(AIMS.len()).expect("a few"));
        let aim = AIMS[usize::try_from(at).expect("a few")];
        self.append(2);
        let usual = self.faults;
        self.cluster.set_faults(match aim {
            Phase::Initialising => SimFaults { expire: 300, ..usual },
            Phase::Aborting => SimFaults { refuse: 300, ..usual },
            _ => usual,
        });
        for _ in 0..AIM_STEPS {
            if !self.simulator.is_running(name) || self.phases(name).contains(&aim) {
                break;
            }
            self.step()?;
        }
        self.cluster.set_faults(usual);
        Ok(())
    }

    fn end_or_begin(&mut self, name: &str) {
        if !self.simulator.is_alive(name) {
            return self.start(name);
        }
        if self.simulator.draw(0..3) == 0 {
            self.did(POWER_LOSS, Some(name));
            self.simulator.lose_power(name);
            self.prefixes.power_lost(name);
        } else {
            self.did(KILL, Some(name));
            self.simulator.kill(name);
        }
    }

    fn pause_or_resume(&mut self, name: &str) {
        if self.simulator.is_running(name) {
            self.did(PAUSE, Some(name));
            self.simulator.pause(name);
        } else if self.simulator.is_alive(name) {
            self.simulator.resume(name);
        } else {
            self.start(name);
        }
    }

    /// The group gives the process up though it runs.
    fn expel(&mut self, name: &str) {
        if self.simulator.is_running(name) {
            self.did(EXPELLED, Some(name));
            self.group.expel(name);
        }
    }

    /// One actor of the process is held up; the others go on.
    fn stall(&mut self, name: &str) {
        if self.simulator.is_running(name) {
            self.did(STALL, Some(name));
            let actors = self.simulator.actors(name);
            let at = self.simulator.draw(0..u64::try_from(actors.len()).expect("a few"));
            let time = Duration::from_millis(self.simulator.draw(10..3_000));
            self.simulator.stall(name, &actors[usize::try_from(at).expect("a few")], time);
        }
    }

    /// Committed state is still to be written when its tasks have gone, and perhaps come again.
    fn write_late(&mut self, name: &str) -> Outcomes {
        if !self.simulator.is_running(name) {
            return Ok(());
        }
        let time = Duration::from_millis(self.simulator.draw(200..4_000));
        self.simulator.stall(name, &format!("{}-writer", self.setup.name), time);
        for _ in 0..AIM_STEPS {
            if self.phases(name).contains(&Phase::Writing) {
                break;
            }
            self.step()?;
        }
        self.expel(name);
        Ok(())
    }

    /// Somebody sets the clock.
    fn jump(&mut self, name: &str) {
        self.did(CLOCK_JUMP, Some(name));
        let span = self.simulator.draw(0..u64::try_from(2 * JUMP_MS).expect("positive"));
        let by = i64::try_from(span).expect("small") - JUMP_MS;
        self.simulator.note(format_args!("the wall clock jumps by {by} ms"));
        self.simulator.clock().jump_wall(by);
        self.wall.jumps(by);
    }

    fn compact(&mut self, name: &str) {
        let topics = self.cluster.topics().into_iter();
        let compacted: Vec<_> = topics.filter(|t| t.cleanup == Cleanup::Compact).collect();
        if !compacted.is_empty() {
            self.did(COMPACTION, Some(name));
            compacted.iter().for_each(|topic| self.cluster.compact(&topic.name));
        }
    }
}
