//! Fulfilment as a topology: events meet their saga, and time does.
//!
//! Owns the agreement of the saga's row and its timer. It must not know what an event means to a
//! saga.
//!
//! ```text
//! orders --------------+-> conduct -+-> inventory.commands, payment.commands, shipping.commands
//! fulfillment.replies -+            +-> order.commands
//!                     stores order-sagas, order-saga-timers
//! ```
//!
//! * Every record has its order as key. One under another key is a dead letter.
//! * A saga waits by one timer: deadlines, backoffs, and the end of its retention. The wall clock
//!   counts.
//! * A reply to no saga is counted as expired and changes nothing.

use std::sync::Arc;

use headwater::dsl::{Consumed, StreamsBuilder};
use headwater::processor::{DropReason, NodeError, Processor, ProcessorContext, Timer};
use headwater::record::Record;
use headwater::serde::serdes;
use headwater::store::{KeyValueStore, StoreHandle, Stored, TimerHandle};
use headwater_schemas::commands::{OrderCommand, ServiceCommand};
use headwater_schemas::envelope::EventTime;
use headwater_schemas::topics::{
    FULFILLMENT_REPLIES, INVENTORY_COMMANDS, ORDER_COMMANDS, ORDERS, PAYMENT_COMMANDS,
    SHIPPING_COMMANDS,
};

use super::{
    FulfillmentOptions, FulfillmentRecord, FulfillmentSaga, Output, order_of, replied_of, saga,
    take,
};
use crate::conventions;
use crate::outgoing::{Outgoing, send};
use crate::platform_event::{PlatformEvent, event_keys, platform_events};
use crate::saga::{Emission, Reaction, emission_id};

/// The application id.
pub const APPLICATION: &str = "order-fulfillment";

/// Every saga, by order.
pub const STORE: &str = "order-sagas";

/// When each saga has something to do.
pub const TIMERS: &str = "order-saga-timers";

/// The one timer of a saga.
const TIMER: &str = "saga";

/// Adds the fulfilment to `b`.
pub fn topology(b: &StreamsBuilder, options: &FulfillmentOptions) {
    conventions::follow(
        b,
        &[
            &ORDERS,
            &FULFILLMENT_REPLIES,
            &INVENTORY_COMMANDS,
            &PAYMENT_COMMANDS,
            &SHIPPING_COMMANDS,
            &ORDER_COMMANDS,
        ],
    );
    let sagas = b.add_store(Stored::key_value(STORE, serdes::string(), serdes::json()));
    let timers = b.add_store(Stored::wall_clock_timers(TIMERS, event_keys()));
    let saga = Arc::new(saga(options));
    let events = |topic: &str| b.stream(topic, Consumed::with(event_keys(), platform_events()));
    let of_orders = events(&ORDERS.name).filter(|_, event| order_of(event).is_some());
    let replies = events(&FULFILLMENT_REPLIES.name).filter(|_, event| replied_of(event).is_some());
    let told = of_orders
        .merge(replies)
        .process(
            move || Conduct { saga: Arc::clone(&saga), sagas, timers },
            &[sagas.id(), timers.id()],
        )
        .named("conduct");
    send(told, &[&INVENTORY_COMMANDS, &PAYMENT_COMMANDS, &SHIPPING_COMMANDS, &ORDER_COMMANDS]);
}

/// Events and time meet their saga.
struct Conduct {
    saga: Arc<FulfillmentSaga>,
    sagas: StoreHandle<KeyValueStore<String, FulfillmentRecord>>,
    timers: TimerHandle<String>,
}

type Context<'c, 't> = ProcessorContext<'c, 't, String, Outgoing>;

impl Processor<String, PlatformEvent, String, Outgoing> for Conduct {
    fn timers(&self) -> Vec<TimerHandle<String>> {
        vec![self.timers]
    }

    fn process(
        &mut self,
        record: Record<'_, String, PlatformEvent>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let (key, event) = (record.key, record.value);
        let Some(order_id) = order_of(event).or_else(|| replied_of(event)) else { return Ok(()) };
        if order_id != key {
            let why =
                format!("the record's key must be its order {order_id:.40?}, found {key:.40?}");
            return Err(NodeError::message(why));
        }
        let now = event_time(ctx.wall_clock());
        let before = ctx.store(self.sagas).get(key)?;
        let (after, reaction) = take(&self.saga, before, event, now);
        let Some(after) = after else {
            let kind = &event.event.event_type;
            let why = format!("{kind} is for order {key}, of which no saga is known");
            ctx.drop_record(DropReason::Expired, why);
            return Ok(());
        };
        ctx.store(self.sagas).put(key, &after)?;
        self.wait(key, reaction.due, ctx)?;
        tell(key, &after, &reaction, now, ctx)
    }

    fn on_timer(
        &mut self,
        timer: Timer<'_, String>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let key = timer.key;
        let Some(before) = ctx.store(self.sagas).get(key)? else { return Ok(()) };
        // The clock may have been set back since the timer was found due.
        let now = event_time(ctx.wall_clock().max(timer.time));
        let (after, reaction) = self.saga.tick(before.clone(), now);
        match &after {
            Some(after) => ctx.store(self.sagas).put(key, after)?,
            None => ctx.store(self.sagas).delete(key)?,
        }
        self.wait(key, reaction.due, ctx)?;
        tell(key, after.as_ref().unwrap_or(&before), &reaction, now, ctx)
    }
}

impl Conduct {
    fn wait(
        &self,
        key: &String,
        due: Option<EventTime>,
        ctx: &mut Context<'_, '_>,
    ) -> Result<(), NodeError> {
        let timers = ctx.store(self.timers);
        match due {
            Some(due) => timers.set(key, TIMER, due.as_millis()),
            None => timers.cancel(key, TIMER),
        }
    }
}

pub(super) fn event_time(ms: i64) -> EventTime {
    EventTime::from_millis(ms.max(0)).unwrap_or(EventTime::MAX)
}

fn tell(
    key: &String,
    record: &FulfillmentRecord,
    reaction: &Reaction<Output>,
    now: EventTime,
    ctx: &mut Context<'_, '_>,
) -> Result<(), NodeError> {
    for emission in &reaction.emitted {
        let Some(outgoing) = outgoing(record, emission, now) else { continue };
        ctx.forward(Record {
            key,
            value: &outgoing,
            timestamp: now.as_millis(),
            headers: &outgoing.headers,
        })?;
    }
    Ok(())
}

/// The command that an emission comes to; its id is the step's.
fn outgoing(
    record: &FulfillmentRecord,
    emission: &Emission<Output>,
    now: EventTime,
) -> Option<Outgoing> {
    let id = emission_id(record.cause, &emission.step_id);
    let (aggregate_id, user_id) = (record.saga_id.clone(), record.data.user_id.clone());
    let (correlation_id, expected_version) = (record.correlation_id, None);
    Some(match &emission.output {
        Output::Service(request) => {
            let (topic, request) = (request.topic()?, request.clone());
            let command = ServiceCommand {
                id,
                aggregate_id,
                request,
                expected_version,
                user_id,
                correlation_id,
                timestamp: now,
            };
            Outgoing::command(&command, topic, APPLICATION)
        }
        Output::Order(request) => {
            let command = OrderCommand {
                id,
                aggregate_id,
                request: request.clone(),
                expected_version,
                user_id,
                correlation_id,
                timestamp: now,
            };
            Outgoing::command(&command, &ORDER_COMMANDS, APPLICATION)
        }
    })
}

#[cfg(test)]
#[path = "topology_tests.rs"]
pub(super) mod tests;
