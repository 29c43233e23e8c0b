//! The services that fulfil orders: inventory, payment, shipping.
//!
//! Owns the port behind which they stand, and the simulated ones. It must not know who asks them: a
//! saga by commands ([`topology`]), or each other by events ([`super::choreography`]).

pub mod ledger;
pub mod topology;

#[cfg(test)]
mod tests;

use headwater_schemas::commands::{Request, ServiceRequest};
use uuid::Uuid;

/// What a service says to one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// It is done.
    Yes,
    /// It cannot be done, and another try would not help.
    No(String),
    /// It was not done; another try may help.
    NotNow(String),
    /// Nothing: it was not done, and nobody is told.
    Silence,
}

/// The services. The same question has the same answer.
pub trait Services: Send + Sync {
    /// Asks for one thing of one order, for the `attempt`th time, from 1.
    fn ask(&self, order_id: &str, request: &ServiceRequest, attempt: u32) -> Say;
}

/// Services that draw their answers, so that a seed has one course of things. Chances are in
/// thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simulated {
    /// What answers are drawn from.
    pub seed: u64,
    /// How often something cannot be done.
    pub refusals: u32,
    /// How often a try fails.
    pub failures: u32,
    /// How often a service says nothing.
    pub silences: u32,
    /// How often something cannot be undone.
    pub stuck: u32,
}

impl Simulated {
    /// Services that never fail.
    pub fn flawless(seed: u64) -> Self {
        Self { seed, refusals: 0, failures: 0, silences: 0, stuck: 0 }
    }
}

impl Default for Simulated {
    /// Some orders cannot be fulfilled, and some need another try.
    fn default() -> Self {
        Self { seed: 1, refusals: 40, failures: 60, silences: 10, stuck: 0 }
    }
}

impl Services for Simulated {
    fn ask(&self, order_id: &str, request: &ServiceRequest, attempt: u32) -> Say {
        let name = format!("{}:{order_id}:{}:{attempt}", self.seed, request.command_type());
        let drawn = Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).as_u128() % 1_000;
        let drawn = u32::try_from(drawn).unwrap_or(0);
        if is_undo(request) {
            return match drawn {
                it if it < self.stuck / 2 => Say::Silence,
                it if it < self.stuck => Say::No("it cannot be undone".to_owned()),
                _ => Say::Yes,
            };
        }
        let (failed, silent) =
            (self.refusals + self.failures, self.refusals + self.failures + self.silences);
        match drawn {
            it if it < self.refusals => Say::No(refusal(request).to_owned()),
            it if it < failed => Say::NotNow("the service is busy".to_owned()),
            it if it < silent => Say::Silence,
            _ => Say::Yes,
        }
    }
}

fn is_undo(request: &ServiceRequest) -> bool {
    matches!(
        request,
        ServiceRequest::ReleaseInventory
            | ServiceRequest::RefundPayment { .. }
            | ServiceRequest::CancelShipment { .. }
    )
}

fn refusal(request: &ServiceRequest) -> &'static str {
    match request {
        ServiceRequest::ReserveInventory { .. } => "out of stock",
        ServiceRequest::ChargePayment { .. } => "the payment was declined",
        _ => "the address cannot be reached",
    }
}
