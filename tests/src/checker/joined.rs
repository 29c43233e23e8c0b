//! Sales of customers by window, recomputed: orders joined with customers, counted and summed per
//! customer (late ones left out) and per region (behind a repartition topic, none late).
//!
//! It must not use the topology it checks; it knows its formats. Customers must all have been
//! written before the first order: then the join has one answer.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::told::Told;
use super::{Findings, LogRecord};

const WINDOW_MS: i64 = 10_000;
const GRACE_MS: i64 = 5_000;

/// Count and sum of a key's windows, by start.
type Windows = BTreeMap<String, BTreeMap<i64, (u64, i64)>>;

/// What all records should have led to.
#[derive(Clone, Debug, Default)]
pub struct Sales {
    by_customer: Windows,
    by_region: Windows,
    /// Orders of known customers.
    pub joined: u64,
    /// Orders whose customer is unknown.
    pub unknown: u64,
    /// Orders that came too late for their customer's window.
    pub late: u64,
}

/// Recomputes the sales and compares both output topics.
pub fn compare_output(
    customers: &[LogRecord],
    orders: &[LogRecord],
    by_customer: &[LogRecord],
    by_region: &[LogRecord],
) -> (Sales, Findings) {
    let mut sales = Sales::default();
    let (mut customer_told, region_told) = (Told::read(by_customer), Told::read(by_region));
    let regions = regions(customers);
    let mut clocks: BTreeMap<u32, i64> = BTreeMap::new();
    for order in orders {
        let Some((customer, region, amount)) = joined(&regions, order) else {
            sales.unknown += 1;
            continue;
        };
        sales.joined += 1;
        let start = order.timestamp - order.timestamp % WINDOW_MS;
        add(&mut sales.by_region, region, start, amount);
        let clock = clocks.entry(order.partition).or_insert(order.timestamp);
        *clock = order.timestamp.max(*clock);
        if start + WINDOW_MS <= *clock - GRACE_MS {
            sales.late += 1;
            continue;
        }
        let (count, sum) = add(&mut sales.by_customer, customer, start, amount);
        customer_told.state(&format!("{customer}@{start}"), count, || state(count, sum));
    }
    customer_told.nothing_else();
    let mut findings = last_states(customer_told, &sales.by_customer);
    for (region, windows) in &sales.by_region {
        for (start, (count, _)) in windows {
            // Without a cache every update is told.
            let told = region_told.states(&format!("{region}@{start}"));
            if u64::try_from(told) != Ok(*count) {
                findings.note(|| format!("{region}@{start}: {told} updates told of {count}"));
            }
        }
    }
    findings.extend(last_states(region_told, &sales.by_region));
    (sales, findings)
}

impl Sales {
    /// Every customer with a window.
    pub fn customers(&self) -> impl Iterator<Item = &str> {
        self.by_customer.keys().map(String::as_str)
    }

    /// Every region with a window.
    pub fn regions(&self) -> impl Iterator<Item = &str> {
        self.by_region.keys().map(String::as_str)
    }

    /// Compares a customer's windows as the store shows them.
    pub fn compare_customer(&self, customer: &str, shown: &[(i64, Value)]) -> Findings {
        compare(&self.by_customer, customer, shown)
    }

    /// Compares a region's windows as the store shows them.
    pub fn compare_region(&self, region: &str, shown: &[(i64, Value)]) -> Findings {
        compare(&self.by_region, region, shown)
    }
}

fn state(count: u64, sum: i64) -> Value {
    json!({ "count": count, "sum": sum })
}

fn add(windows: &mut Windows, key: &str, start: i64, amount: i64) -> (u64, i64) {
    let state = windows.entry(key.to_owned()).or_default().entry(start).or_default();
    state.0 += 1;
    state.1 += amount;
    *state
}

/// Each customer's region.
fn regions(customers: &[LogRecord]) -> BTreeMap<String, String> {
    let mut regions = BTreeMap::new();
    for record in customers {
        let Some(key) = text(record.key.as_deref()) else { continue };
        match json_of(record)["region"].as_str() {
            Some(region) => regions.insert(key.to_owned(), region.to_owned()),
            None => regions.remove(key),
        };
    }
    regions
}

fn joined<'r>(
    regions: &'r BTreeMap<String, String>,
    order: &LogRecord,
) -> Option<(&'r str, &'r str, i64)> {
    let (customer, region) = regions.get_key_value(text(order.key.as_deref())?)?;
    Some((customer, region, json_of(order)["amount"].as_i64()?))
}

fn last_states(mut told: Told, windows: &Windows) -> Findings {
    for (key, windows) in windows {
        for (start, (count, sum)) in windows {
            told.last(&format!("{key}@{start}"), &state(*count, *sum));
        }
    }
    told.finish()
}

fn compare(windows: &Windows, key: &str, shown: &[(i64, Value)]) -> Findings {
    let mut findings = Findings::default();
    let expected: Vec<(i64, Value)> = windows
        .get(key)
        .into_iter()
        .flatten()
        .map(|(start, (count, sum))| (*start, state(*count, *sum)))
        .collect();
    if expected != shown {
        findings.note(|| format!("windows of {key}: shown {shown:?}, expected {expected:?}"));
    }
    findings
}

fn text(bytes: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(bytes?).ok()
}

fn json_of(record: &LogRecord) -> Value {
    let value = record.value.as_deref().unwrap_or_default();
    serde_json::from_slice(value).unwrap_or_default()
}
