//! Orders: commands become events, events become a view that can be asked, and a saga fulfils them.
//!
//! Owns the topologies' stores and names. It must not know which log or which store runs
//! underneath; what an order decides is in `aggregate`.
//!
//! ```text
//! POST /orders, order.commands -> order-aggregate -+-> orders (sequence, headers)
//!                                  stores          +-> api.responses (answer, by correlation id)
//!                                  order-aggregate, order-log
//!
//! orders ----------+-> order-projection -> stores orders, orders-by-customer, orders-by-status
//! customers -------+   (global tables)     GET /orders, GET /orders/{id}
//! products --------+
//!
//! orders, fulfillment.replies -> order-fulfillment -> inventory.commands, payment.commands, ...
//! ...commands -> order-services -> fulfillment.replies
//! ```
//!
//! Instead of the last two `order-choreography` may run, which has no conductor.
//!
//! `order-aggregate` is the only writer of events with a sequence; what it does with commands is
//! [`crate::aggregate`]'s. An order lives for five events at most, so it has no snapshots.

pub mod aggregate;
pub mod choreography;
pub mod fulfillment;
pub mod intake;
mod projection;
pub mod route;
pub mod services;
pub mod view;

#[cfg(test)]
mod aggregate_topology_tests;
#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod projection_tests;
#[cfg(test)]
mod world_tests;

use std::sync::Arc;

use headwater::dsl::StreamsBuilder;
use headwater::query::Route;
use headwater::shell::Application;
use headwater_schemas::topics::{ORDER_COMMANDS, ORDERS};

use self::aggregate::OrderRow;
use self::fulfillment::FulfillmentOptions;
use self::services::{Services, Simulated};
use self::view::OrderReadModel;
use crate::aggregate::Wiring;

/// The application id of the writing side.
pub const AGGREGATE: &str = "order-aggregate";

/// What the aggregates are, by order.
pub const AGGREGATE_STORE: &str = "order-aggregate";

/// Every event of every order, by [`crate::aggregate::log_key`].
pub const LOG_STORE: &str = "order-log";

/// The application id of the reading side.
pub const PROJECTION: &str = "order-projection";

/// The read models, by order.
pub const STORE: &str = "orders";

/// Order ids by [`customer_key`].
pub const BY_CUSTOMER_STORE: &str = "orders-by-customer";

/// Order ids by [`status_key`].
pub const BY_STATUS_STORE: &str = "orders-by-status";

/// The global table of customers, by customer.
pub const CUSTOMER_STORE: &str = "order-customers";

/// The global table of products, by product.
pub const PRODUCT_STORE: &str = "order-products";

/// The key of an order by its customer and creation. The length keeps one customer's rows apart
/// from those of a customer whose name goes on with a slash.
pub fn customer_key(order: &OrderReadModel) -> String {
    let (customer, created) = (&order.customer_id, order.created_at.as_millis());
    format!("{:03}/{customer}/{created:020}/{}", customer.len(), order.id)
}

/// The key of an order by its status and creation.
pub fn status_key(order: &OrderReadModel) -> String {
    format!("{}/{:020}/{}", order.status.word(), order.created_at.as_millis(), order.id)
}

/// The reading side, with its routes.
pub fn projection_application() -> Application {
    let routes: Vec<Arc<dyn Route>> =
        vec![Arc::new(route::OrderRoute), Arc::new(route::OrdersRoute)];
    Application { id: PROJECTION, topology: Arc::new(projection::topology), routes }
}

/// Orders, and simulated services that fulfil them under a saga.
pub fn applications() -> Vec<Application> {
    let mut all = vec![aggregate_application(), projection_application()];
    all.extend(orchestrated(FulfillmentOptions::default(), Arc::new(Simulated::default())));
    all
}

/// Fulfilment by a saga that asks these services.
pub fn orchestrated(options: FulfillmentOptions, services: Arc<dyn Services>) -> Vec<Application> {
    let routes: Vec<Arc<dyn Route>> = vec![Arc::new(fulfillment::route::FulfillmentRoute)];
    vec![
        Application {
            id: fulfillment::topology::APPLICATION,
            topology: Arc::new(move |b: &StreamsBuilder| {
                fulfillment::topology::topology(b, &options);
            }),
            routes,
        },
        Application {
            id: services::topology::APPLICATION,
            topology: Arc::new(move |b: &StreamsBuilder| {
                services::topology::topology(b, &services);
            }),
            routes: Vec::new(),
        },
    ]
}

/// Fulfilment by these services, which react to each other.
pub fn choreographed(options: FulfillmentOptions, services: Arc<dyn Services>) -> Application {
    let topology = move |b: &StreamsBuilder| {
        choreography::topology(b, &services, options.attempts);
    };
    Application { id: choreography::APPLICATION, topology: Arc::new(topology), routes: Vec::new() }
}

/// The writing side, with its routes.
pub fn aggregate_application() -> Application {
    let routes: Vec<Arc<dyn Route>> = vec![
        Arc::new(intake::PlaceRoute),
        Arc::new(intake::CommandRoute),
        Arc::new(intake::ReplyRoute),
    ];
    Application { id: AGGREGATE, topology: Arc::new(aggregate_topology), routes }
}

/// Commands to events and answers.
pub fn aggregate_topology(b: &StreamsBuilder) {
    let wiring = Wiring::<OrderRow> {
        commands: &ORDER_COMMANDS,
        events: &ORDERS,
        rows: AGGREGATE_STORE,
        log: LOG_STORE,
        snapshots: None,
        facts: None,
    };
    crate::aggregate::topology(b, &wiring);
}
