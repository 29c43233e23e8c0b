//! The gates as a topology: completed work items in, one result for each gate out.
//!
//! Owns the way of a verdict into the log. It must not know the gates' rules.
//!
//! ```text
//! task.completed -> judge -> quality.gates
//! ```
//!
//! A result's id follows from the completion and the gate, and its time is the completion's: the
//! same item judged twice gives the same events.

use headwater::dsl::{Consumed, StreamsBuilder};
use headwater::processor::{NodeError, Processor, ProcessorContext};
use headwater::record::Record;
use headwater_schemas::envelope::{DomainEvent, Metadata, VERSION};
use headwater_schemas::events::{Event, Payload, QualityGateResult};
use headwater_schemas::topics::{QUALITY_GATES, TASK_COMPLETED};
use uuid::Uuid;

use super::{Gate, judge};
use crate::conventions;
use crate::outgoing::{Outgoing, send};
use crate::platform_event::{PlatformEvent, event_keys, platform_events};

/// The application id.
pub const APPLICATION: &str = "quality-gates";

/// Adds these gates to `b`.
pub fn topology(b: &StreamsBuilder, gates: &[Gate]) {
    conventions::follow(b, &[&TASK_COMPLETED, &QUALITY_GATES]);
    let gates = gates.to_vec();
    let results = b
        .stream(&TASK_COMPLETED.name, Consumed::with(event_keys(), platform_events()))
        .process(move || Judge(gates.clone()), &[])
        .named("judge");
    send(results, &[&QUALITY_GATES]);
}

struct Judge(Vec<Gate>);

impl Processor<String, PlatformEvent, String, Outgoing> for Judge {
    fn process(
        &mut self,
        record: Record<'_, String, PlatformEvent>,
        ctx: &mut ProcessorContext<'_, '_, String, Outgoing>,
    ) -> Result<(), NodeError> {
        let Event::WorkItemCompleted(done) = &record.value.payload else { return Ok(()) };
        let cause = &record.value.event;
        for result in judge(&self.0, done, cause.metadata.timestamp) {
            let event = told(&result, cause);
            let outgoing = Outgoing::event(&event, &QUALITY_GATES, APPLICATION);
            ctx.forward(record.with_value(&outgoing).with_headers(&outgoing.headers))?;
        }
        Ok(())
    }
}

fn told(result: &QualityGateResult, cause: &DomainEvent) -> DomainEvent {
    DomainEvent {
        event_id: Uuid::new_v5(&cause.event_id, result.gate_id.as_bytes()),
        event_type: QualityGateResult::EVENT_TYPE.to_owned(),
        aggregate_id: result.work_item_id.clone(),
        aggregate_type: "WorkItem".to_owned(),
        event_data: result.to_event_data(),
        metadata: Metadata {
            version: VERSION.to_owned(),
            causation_id: Some(cause.event_id),
            sequence: None,
            ..cause.metadata.clone()
        },
    }
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
