//! Old payloads, brought to the newest version of their type when they are read.
//!
//! Owns the order of the steps. It must not change the stored event: events are immutable, and
//! the step is taken again at each reading.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Names the version of a payload; absent means 1.
const SCHEMA_VERSION: &str = "schemaVersion";

/// Brings a payload of one version to the next.
pub type Upcast = fn(Map<String, Value>) -> Map<String, Value>;

/// A step that cannot be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpcastError {
    /// A step must lead upward, or reading would never end.
    #[error("upcaster of {event_type} leads from version {from} to {to}; it must lead upward")]
    NotUpward {
        /// The event type.
        event_type: String,
        /// The version it takes.
        from: u64,
        /// The version it gives.
        to: u64,
    },
    /// Two steps begin at one version.
    #[error("there are two upcasters of {event_type} from version {from}; keep one")]
    Twice {
        /// The event type.
        event_type: String,
        /// The version both take.
        from: u64,
    },
}

/// The steps of every type.
#[derive(Debug, Clone, Default)]
pub struct Upcasters {
    steps: BTreeMap<String, BTreeMap<u64, (u64, Upcast)>>,
}

impl Upcasters {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of the platform: `OrderCreated` 1 to 2.
    pub fn platform() -> Self {
        let mut upcasters = Self::new();
        upcasters.register("OrderCreated", 1, 2, split_address).expect("one step upward");
        upcasters
    }

    /// Adds the step of `event_type` from version `from` to version `to`.
    ///
    /// # Errors
    /// [`UpcastError`], a mistake of the program.
    pub fn register(
        &mut self,
        event_type: &str,
        from: u64,
        to: u64,
        upcast: Upcast,
    ) -> Result<(), UpcastError> {
        let event_type = event_type.to_owned();
        if to <= from {
            return Err(UpcastError::NotUpward { event_type, from, to });
        }
        let steps = self.steps.entry(event_type.clone()).or_default();
        if steps.contains_key(&from) {
            return Err(UpcastError::Twice { event_type, from });
        }
        steps.insert(from, (to, upcast));
        Ok(())
    }

    /// Whether there is a step of this type.
    pub fn knows(&self, event_type: &str) -> bool {
        self.steps.contains_key(event_type)
    }

    /// The payload in the newest version that the steps lead to from its own. `event_type` is the
    /// canonical name. A payload without a step for its version is returned as it is, so one that
    /// is already newest, or newer than this program, passes.
    pub fn apply(&self, event_type: &str, mut payload: Map<String, Value>) -> Map<String, Value> {
        let Some(steps) = self.steps.get(event_type) else { return payload };
        while let Some((to, upcast)) = version(&payload).and_then(|from| steps.get(&from)) {
            payload = upcast(payload);
            payload.insert(SCHEMA_VERSION.to_owned(), json!(to));
        }
        payload
    }
}

/// A version that is not a whole number has no step; the schema will refuse it.
fn version(payload: &Map<String, Value>) -> Option<u64> {
    match payload.get(SCHEMA_VERSION) {
        None | Some(Value::Null) => Some(1),
        Some(version) => version.as_u64(),
    }
}

/// Version 1 had one address for both purposes.
fn split_address(mut payload: Map<String, Value>) -> Map<String, Value> {
    if let Some(address) = payload.remove("address") {
        payload.insert("shippingAddress".to_owned(), address.clone());
        payload.insert("billingAddress".to_owned(), address);
    }
    payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{schema_of, versions};
    use crate::validate;
    use crate::violation::Violations;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    fn append(mark: &str, mut payload: Map<String, Value>) -> Map<String, Value> {
        let seen = payload.get("seen").and_then(Value::as_str).unwrap_or_default();
        payload.insert("seen".to_owned(), json!(format!("{seen}{mark}")));
        payload
    }

    #[test]
    fn an_order_of_version_one_gets_both_addresses_and_keeps_the_rest() {
        let old = object(json!({"customerId": "c", "address": {"city": "x"}, "note": 5,
            "items": [{"productId": "p", "quantity": 1, "price": 2.5}]}));
        let mut violations = Violations::default();
        validate::check(&old, &versions("OrderCreated")[0].schema, "$", &mut violations);
        let new = Upcasters::platform().apply("OrderCreated", old);
        assert_eq!(new["shippingAddress"], json!({"city": "x"}));
        assert_eq!(new["billingAddress"], json!({"city": "x"}));
        assert_eq!(new["schemaVersion"], json!(2));
        assert_eq!(new["note"], json!(5));
        assert!(!new.contains_key("address"));
        let schema = schema_of("OrderCreated").expect("in the catalogue");
        validate::check(&new, schema, "$", &mut violations);
        assert!(violations.is_empty(), "{violations}");
        assert_eq!(Upcasters::platform().apply("OrderCreated", new.clone()), new, "once is enough");
    }

    #[test]
    fn steps_chain_upward_from_the_payloads_own_version_however_they_were_registered() {
        let mut upcasters = Upcasters::new();
        upcasters.register("T", 3, 5, |payload| append("c", payload)).expect("upward");
        upcasters.register("T", 1, 2, |payload| append("a", payload)).expect("upward");
        upcasters.register("T", 2, 3, |payload| append("b", payload)).expect("upward");
        let seen = |payload: Value| upcasters.apply("T", object(payload));
        assert_eq!(seen(json!({})), object(json!({"seen": "abc", "schemaVersion": 5})));
        assert_eq!(
            seen(json!({"schemaVersion": 2})),
            object(json!({"seen": "bc", "schemaVersion": 5}))
        );
        for untouched in [
            json!({"schemaVersion": 4}),
            json!({"schemaVersion": "two"}),
            json!({"schemaVersion": -1}),
        ] {
            assert_eq!(seen(untouched.clone()), object(untouched));
        }
        assert_eq!(upcasters.apply("Other", Map::new()), Map::new());
    }

    #[test]
    fn a_step_that_leads_nowhere_and_a_second_step_from_one_version_are_refused() {
        let mut upcasters = Upcasters::new();
        assert_eq!(
            upcasters.register("T", 2, 2, |payload| payload),
            Err(UpcastError::NotUpward { event_type: "T".into(), from: 2, to: 2 })
        );
        upcasters.register("T", 1, 2, |payload| payload).expect("upward");
        assert_eq!(
            upcasters.register("T", 1, 3, |payload| payload),
            Err(UpcastError::Twice { event_type: "T".into(), from: 1 })
        );
    }
}
