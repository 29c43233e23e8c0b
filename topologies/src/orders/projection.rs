//! The reading side: an event, with the names of its customer and products, changes its order's row
//! and the rows that lead to it.
//!
//! Owns the joins and the stores' agreement. It must not know what an event means to an order.

use headwater::dsl::{Consumed, Joined, Materialized, StreamsBuilder};
use headwater::processor::{NodeError, Processor, ProcessorContext};
use headwater::record::Record;
use headwater::serde::{Serde, SerdeError, SharedSerde, serdes};
use headwater::store::{KeyValueStore, StoreHandle, Stored};
use headwater_schemas::topics::{CUSTOMERS, ORDERS, PRODUCTS};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::view::{Change, OrderFold, OrderReadModel};
use super::{BY_CUSTOMER_STORE, BY_STATUS_STORE, CUSTOMER_STORE, PRODUCT_STORE, STORE};
use super::{customer_key, status_key};
use crate::conventions;
use crate::platform_event::{PlatformEvent, event_keys, platform_events};

/// Events to read models.
pub(super) fn topology(b: &StreamsBuilder) {
    conventions::follow(b, &[&ORDERS]);
    for topic in [&CUSTOMERS, &PRODUCTS] {
        b.declare_topic(conventions::spec(topic));
    }
    let table = |topic: &str, store| {
        b.global_table(topic, serdes::string(), Materialized::with(store, names()))
    };
    let customers = table(&CUSTOMERS.name, CUSTOMER_STORE);
    let products = table(&PRODUCTS.name, PRODUCT_STORE);
    let folds = b.add_store(Stored::key_value(STORE, serdes::string(), serdes::json()));
    let index = |name| b.add_store(Stored::key_value(name, serdes::string(), serdes::string()));
    let (by_customer, by_status) = (index(BY_CUSTOMER_STORE), index(BY_STATUS_STORE));
    b.stream(&ORDERS.name, Consumed::with(event_keys(), platform_events()))
        .process(|| Read, &[])
        .named("read")
        .left_join_global(
            &customers,
            |_, part: &Part| part.customer(),
            |_, part, row| part.with_customer(row),
            Joined::with("orders-customers", event_keys(), serdes::json()),
        )
        .left_join_global(
            &products,
            |_, part: &Part| part.product(),
            |_, part, row| part.with_product(row),
            Joined::with("orders-products", event_keys(), serdes::json()),
        )
        .process(
            move || Project { folds, by_customer, by_status },
            &[folds.id(), by_customer.id(), by_status.id()],
        )
        .named("project");
}

/// What an event comes to, one at a time: each is joined with one row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Part {
    /// The order changed.
    Change(Change),
    /// It names a product.
    Product { id: String, name: Option<String> },
}

impl Part {
    fn customer(&self) -> Option<String> {
        match self {
            Self::Change(change) => change.created.as_ref().map(|it| it.customer_id.clone()),
            Self::Product { .. } => None,
        }
    }

    fn product(&self) -> Option<String> {
        match self {
            Self::Change(_) => None,
            Self::Product { id, .. } => Some(id.clone()),
        }
    }

    fn with_customer(&self, row: Option<&Name>) -> Self {
        let mut part = self.clone();
        if let (Self::Change(Change { created: Some(created), .. }), Some(row)) = (&mut part, row) {
            created.customer_name.clone_from(&row.0);
        }
        part
    }

    fn with_product(&self, row: Option<&Name>) -> Self {
        match (self, row) {
            (Self::Product { id, .. }, Some(row)) => {
                Self::Product { id: id.clone(), name: row.0.clone() }
            }
            _ => self.clone(),
        }
    }
}

/// The name in a customer's or a product's row.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name(Option<String>);

/// The name that a row's document has, if it has one.
pub(super) fn name_in(document: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(document).ok()?;
    document.get("name").and_then(Value::as_str).map(str::to_owned)
}

/// Rows of other services: a document that has no name is none of an order's faults.
fn names() -> SharedSerde<Name> {
    NameSerde.shared()
}

struct NameSerde;

impl Serde<Name> for NameSerde {
    fn serialize(&self, value: &Name, into: &mut Vec<u8>) -> Result<(), SerdeError> {
        serde_json::to_writer(into, &serde_json::json!({"name": value.0}))
            .map_err(|error| SerdeError::other(error.to_string()))
    }

    fn deserialize(&self, bytes: &[u8]) -> Result<Name, SerdeError> {
        Ok(Name(name_in(bytes)))
    }

    fn to_json(&self, value: &Name) -> Option<Value> {
        Some(serde_json::json!({"name": value.0}))
    }
}

/// An event falls into its parts.
struct Read;

impl Processor<String, PlatformEvent, String, Part> for Read {
    fn process(
        &mut self,
        record: Record<'_, String, PlatformEvent>,
        ctx: &mut ProcessorContext<'_, '_, String, Part>,
    ) -> Result<(), NodeError> {
        let change = Change::read(record.key, record.value).map_err(NodeError::message)?;
        let Some(change) = change else { return Ok(()) };
        let products: Vec<String> = change.products().into_iter().map(str::to_owned).collect();
        ctx.forward(record.with_value(&Part::Change(change)))?;
        for id in products {
            ctx.forward(record.with_value(&Part::Product { id, name: None }))?;
        }
        Ok(())
    }
}

/// A part changes its order's row.
struct Project {
    folds: StoreHandle<KeyValueStore<String, OrderFold>>,
    by_customer: StoreHandle<KeyValueStore<String, String>>,
    by_status: StoreHandle<KeyValueStore<String, String>>,
}

impl Processor<String, Part, String, OrderReadModel> for Project {
    fn process(
        &mut self,
        record: Record<'_, String, Part>,
        ctx: &mut ProcessorContext<'_, '_, String, OrderReadModel>,
    ) -> Result<(), NodeError> {
        let mut fold = ctx.store(self.folds).get(record.key)?.unwrap_or_default();
        let before = fold.model.clone();
        let is_new = match record.value {
            Part::Change(change) => fold.take(record.key, change),
            Part::Product { id, name: Some(name) } => fold.name(id, name),
            Part::Product { name: None, .. } => false,
        };
        if !is_new {
            return Ok(());
        }
        ctx.store(self.folds).put(record.key, &fold)?;
        let Some(model) = &fold.model else { return Ok(()) };
        if before.is_none() {
            ctx.store(self.by_customer).put(&customer_key(model), record.key)?;
        }
        if before.as_ref().map(|before| before.status) != Some(model.status) {
            if let Some(before) = &before {
                ctx.store(self.by_status).delete(&status_key(before))?;
            }
            ctx.store(self.by_status).put(&status_key(model), record.key)?;
        }
        ctx.forward(record.with_value(model))
    }
}
