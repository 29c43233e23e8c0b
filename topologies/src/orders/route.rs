//! `GET /orders/{id}` and `GET /orders`: orders as queries see them.
//!
//! Owns the shape of the answers and which rows lead to them. It must not know HTTP.

use headwater::query::{
    PageRequest, Parameter, ParameterKind, Parameters, Problem, QueryError, Route, StoreQueries,
};
use serde_json::{Value, json};

use super::aggregate::OrderStatus;
use super::projection::name_in;
use super::view::{OrderFold, OrderReadModel};
use super::{BY_CUSTOMER_STORE, BY_STATUS_STORE, CUSTOMER_STORE, PRODUCT_STORE, STORE};

/// One order.
#[derive(Debug)]
pub struct OrderRoute;

impl Route for OrderRoute {
    fn path(&self) -> &str {
        "/orders/{id}"
    }

    fn about(&self) -> &str {
        "one order"
    }

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let store = stores.store(STORE)?;
        let id = asked.required_text("id")?;
        let (row, as_of) = store.get(&store.key(id)?)?;
        match model(&row.value, stores)? {
            Some(order) => Ok(json!({"order": order, "asOf": as_of})),
            None => {
                let detail = format!("the creation of order `{id:.128}` has not come yet");
                Err(QueryError::not_found(detail))
            }
        }
    }
}

/// Orders by customer or by status, each by their creation. A page holds at most `limit` items; one
/// that is filtered further may hold fewer and still have a next.
#[derive(Debug)]
pub struct OrdersRoute;

impl Route for OrdersRoute {
    fn path(&self) -> &str {
        "/orders"
    }

    fn about(&self) -> &str {
        "orders of a customer or in a status by their creation, ascending; else all by id"
    }

    fn parameters(&self) -> &[Parameter] {
        const {
            &[
                Parameter::optional("customerId", ParameterKind::Text, "whose orders"),
                Parameter::optional(
                    "status",
                    ParameterKind::Word(OrderStatus::WORDS),
                    "only orders that stand there",
                ),
                Parameter::optional("limit", ParameterKind::Limit, "orders at most"),
                Parameter::optional("cursor", ParameterKind::Text, "nextCursor of a page before"),
            ]
        }
    }

    fn answer(&self, asked: &Parameters, stores: &StoreQueries<'_>) -> Result<Value, QueryError> {
        let (customer, status) = (asked.text("customerId"), asked.text("status"));
        let page = PageRequest { limit: asked.limit(), cursor: asked.text("cursor") };
        // `0` follows `/`: a range ends after every row under its prefix.
        let (name, prefix) = match (customer, status) {
            (Some(customer), _) => {
                (BY_CUSTOMER_STORE, Some(format!("{:03}/{customer}", customer.len())))
            }
            (None, Some(status)) => (BY_STATUS_STORE, Some(status.to_owned())),
            (None, None) => (STORE, None),
        };
        let bounds = prefix.map(|prefix| (format!("{prefix}/"), format!("{prefix}0")));
        let listed = stores.store(name)?;
        let ranges = match &bounds {
            Some((from, to)) => listed.key_ranges(Some(from), Some(to))?,
            None => listed.key_ranges(None, None)?,
        };
        let found = listed.range(&ranges, page)?;
        let store = stores.store(STORE)?;
        let mut items = Vec::new();
        for row in &found.rows {
            let order = if bounds.is_none() {
                model(&row.value, stores)?
            } else {
                match store.get(&row.value) {
                    Ok((row, _)) => model(&row.value, stores)?,
                    Err(error) if error.problem == Problem::NotFound => continue,
                    Err(error) => return Err(error),
                }
            };
            items.extend(order.filter(|it| status.is_none_or(|word| word == it.status.word())));
        }
        Ok(json!({"items": items, "nextCursor": found.next_cursor, "asOf": found.as_of}))
    }
}

/// The order in a row, with the names that have become known since it was written.
fn model(row: &[u8], stores: &StoreQueries<'_>) -> Result<Option<OrderReadModel>, QueryError> {
    let fold: OrderFold =
        serde_json::from_slice(row).map_err(|error| QueryError::failed(&error))?;
    let Some(mut order) = fold.model else { return Ok(None) };
    fill(&mut order.customer_name, CUSTOMER_STORE, &order.customer_id, stores)?;
    for line in &mut order.items {
        fill(&mut line.product_name, PRODUCT_STORE, &line.product_id, stores)?;
    }
    Ok(Some(order))
}

fn fill(
    name: &mut Option<String>,
    table: &str,
    id: &str,
    stores: &StoreQueries<'_>,
) -> Result<(), QueryError> {
    if name.is_some() {
        return Ok(());
    }
    let table = stores.store(table)?;
    match table.get(&table.key(id)?) {
        Ok((row, _)) => *name = name_in(&row.value),
        Err(error) if error.problem == Problem::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
