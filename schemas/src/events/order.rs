//! What happens to an order, in the order aggregate's own stream.
//!
//! Owns the payloads, their money and their addresses. It must not know which transitions are
//! allowed.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Mul};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{PAYLOAD, Payload};
use crate::envelope::EventTime;
use crate::violation::Violations;

/// An amount in hundredths, so that sums are exact. In JSON it is a number of whole units with at
/// most two decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// The largest amount, either way: sums of as many items as an event can hold stay in range.
    pub const MAX: Self = Self(1_000_000_000_000);

    /// So many hundredths; `None` beyond [`Money::MAX`].
    pub fn from_hundredths(hundredths: i64) -> Option<Self> {
        (hundredths.unsigned_abs() <= Self::MAX.0.unsigned_abs()).then_some(Self(hundredths))
    }

    /// The amount in hundredths.
    pub fn hundredths(self) -> i64 {
        self.0
    }

    /// The amount of a JSON number; `None` with more than two decimals or beyond [`Money::MAX`].
    pub fn from_number(number: f64) -> Option<Self> {
        let hundredths = (number * 100.0).round();
        let exact = (number * 100.0 - hundredths).abs() < 1e-4;
        if !exact || hundredths.abs() > 1e12 {
            return None;
        }
        format!("{hundredths:.0}").parse().ok().and_then(Self::from_hundredths)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let hundredths = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

impl Add for Money {
    type Output = Self;

    /// # Panics
    /// Beyond 64 bits, which no sum of valid amounts in one event reaches.
    fn add(self, other: Self) -> Self {
        Self(self.0.checked_add(other.0).expect("amounts are bounded"))
    }
}

impl Mul<i32> for Money {
    type Output = Self;

    fn mul(self, quantity: i32) -> Self {
        Self(self.0.saturating_mul(i64::from(quantity)))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.fold(0_i64, |sum, amount| sum.saturating_add(amount.0)))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number: f64 = self.to_string().parse().expect("digits and one point");
        serializer.serialize_f64(number)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(deserializer)?;
        Self::from_number(number).ok_or_else(|| {
            D::Error::custom(format!(
                "must be an amount with at most two decimals, up to {} either way, found {number}",
                Self::MAX
            ))
        })
    }
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderItem {
    /// What.
    pub product_id: String,
    /// How many, at least 1.
    pub quantity: i32,
    /// What one costs.
    pub price: Money,
}

/// What the items cost together.
pub fn total(items: &[OrderItem]) -> Money {
    items.iter().map(|item| item.price * item.quantity).sum()
}

pub(super) fn item_rules(items: &[OrderItem], violations: &mut Violations) {
    if items.is_empty() {
        violations.push(format!("{PAYLOAD}.items"), "must hold at least one item".to_owned());
    }
    for (position, item) in items.iter().enumerate() {
        if item.quantity < 1 {
            violations.push(
                format!("{PAYLOAD}.items[{position}].quantity"),
                format!("must be at least 1, found {}", item.quantity),
            );
        }
        if item.price < Money::default() {
            violations.push(
                format!("{PAYLOAD}.items[{position}].price"),
                format!("must be at least 0, found {}", item.price),
            );
        }
    }
    if total(items) > Money::MAX {
        let why = format!("must cost at most {} together", Money::MAX);
        violations.push(format!("{PAYLOAD}.items"), why);
    }
}

/// Where to: a text, or its lines by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Address {
    /// As one text.
    Text(String),
    /// As parts, such as `street` and `city`.
    Parts(BTreeMap<String, String>),
}

fn newest_version() -> i32 {
    2
}

/// A customer ordered (version 2; [`crate::upcast`] brings version 1 here).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderCreated {
    /// The order, where the payload repeats it; the event's aggregate is the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// Who ordered.
    pub customer_id: String,
    /// What; at least one.
    pub items: Vec<OrderItem>,
    /// Where the goods go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipping_address: Option<Address>,
    /// Where the bill goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing_address: Option<Address>,
    /// 2.
    #[serde(default = "newest_version")]
    pub schema_version: i32,
}

impl Payload for OrderCreated {
    const EVENT_TYPE: &'static str = "OrderCreated";

    fn rules(&self, violations: &mut Violations) {
        item_rules(&self.items, violations);
    }
}

/// An order is certain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderConfirmed {
    /// Since when.
    pub confirmed_at: EventTime,
}

impl Payload for OrderConfirmed {
    const EVENT_TYPE: &'static str = "OrderConfirmed";
}

/// An order is off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderCancelled {
    /// Why.
    pub reason: String,
    /// Since when.
    pub cancelled_at: EventTime,
}

impl Payload for OrderCancelled {
    const EVENT_TYPE: &'static str = "OrderCancelled";
}

/// An order left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderShipped {
    /// In which shipment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shipment_id: Option<String>,
    /// When.
    pub shipped_at: EventTime,
}

impl Payload for OrderShipped {
    const EVENT_TYPE: &'static str = "OrderShipped";
}

/// An order arrived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderDelivered {
    /// When.
    pub delivered_at: EventTime,
}

impl Payload for OrderDelivered {
    const EVENT_TYPE: &'static str = "OrderDelivered";
}
