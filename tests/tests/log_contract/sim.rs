//! The contract on the simulated log: on a calm network, and on one that delays, loses and repeats
//! messages in ways that a client makes good.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use headwater::actor::{Actor, Next};
use headwater::log::Log;
use headwater::log::sim::{Process, SimCluster, SimConfig, SimFaults};
use headwater::time::{Clock, VirtualClock};
use headwater_tests::log_contract::LogUnderTest;

/// Longer than a request may be missed, shorter than a transaction may take.
const SOON: Duration = Duration::from_secs(5);

struct Sim {
    log: Arc<dyn Log>,
    cluster: RefCell<SimCluster>,
    clock: VirtualClock,
}

impl Sim {
    fn new(faults: SimFaults) -> Self {
        let config = SimConfig {
            faults,
            transaction_timeout: Duration::from_secs(86_400),
            ..SimConfig::calm(7)
        };
        let cluster = SimCluster::new(config);
        let log = Arc::new(cluster.connect(&Process::new("a")));
        Self { log, cluster: RefCell::new(cluster), clock: VirtualClock::new(0) }
    }
}

impl LogUnderTest for Sim {
    fn log(&self) -> Arc<dyn Log> {
        Arc::clone(&self.log)
    }

    fn run(&self) {
        let mut cluster = self.cluster.borrow_mut();
        loop {
            let now = self.clock.now();
            match cluster.step(now) {
                Next::Again => {}
                Next::WakeAt(at) if at < now.monotonic + SOON => {
                    self.clock.advance(at.saturating_sub(now.monotonic));
                }
                _ => return,
            }
        }
    }
}

mod calm {
    use super::{Sim, SimFaults};

    fn fresh_log() -> Sim {
        Sim::new(SimFaults::default())
    }

    headwater_tests::log_contract!(fresh_log);
}

mod lossy {
    use super::{Sim, SimFaults};

    fn fresh_log() -> Sim {
        Sim::new(SimFaults {
            delay_ms: (0, 30),
            lose_request: 100,
            lose_answer: 100,
            duplicate: 200,
            short_fetch: 300,
            ..SimFaults::default()
        })
    }

    headwater_tests::log_contract!(fresh_log);
}
