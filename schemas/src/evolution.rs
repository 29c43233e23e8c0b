//! Whether a schema may follow another.
//!
//! Owns the compatibility modes and the check that comes before a registration. It must not know
//! how a registry is reached (see [`crate::registry`]).
//!
//! | mode | the new schema reads old data | old schemas read new data | compared with |
//! |---|---|---|---|
//! | backward | yes | | the newest |
//! | forward | | yes | the newest |
//! | full | yes | yes | the newest |
//! | transitive forms | as above | as above | all |
//! | none | | | none |
//!
//! The names and meanings are those of Confluent's registry.

use std::fmt;

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility as Fit, SchemaCompatibility};

/// What a new version must promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compatibility {
    /// New readers read old data of the newest version.
    #[default]
    Backward,
    /// New readers read old data of every version.
    BackwardTransitive,
    /// Readers of the newest version read new data.
    Forward,
    /// Readers of every version read new data.
    ForwardTransitive,
    /// Backward and forward.
    Full,
    /// Both, with every version.
    FullTransitive,
    /// Nothing.
    None,
}

impl Compatibility {
    /// The registry's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
            Self::None => "NONE",
        }
    }

    fn reads_old(self) -> bool {
        matches!(
            self,
            Self::Backward | Self::BackwardTransitive | Self::Full | Self::FullTransitive
        )
    }

    fn is_read_by_old(self) -> bool {
        matches!(self, Self::Forward | Self::ForwardTransitive | Self::Full | Self::FullTransitive)
    }

    fn looks_at_all(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A schema may not follow the others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {mode} compatible with version {version} (counted from 1): {reason}")]
pub struct Incompatible {
    /// The mode that was asked for.
    pub mode: Compatibility,
    /// The older version it breaks with, from 1.
    pub version: usize,
    /// What cannot be read, and by whom.
    pub reason: String,
}

/// Whether `new` may follow `versions` (oldest first) under `mode`. Partial resolution counts as
/// none: data that only sometimes can be read is data that sometimes is lost.
///
/// # Errors
/// [`Incompatible`] with the first broken promise, newest version first.
pub fn check(mode: Compatibility, versions: &[&Schema], new: &Schema) -> Result<(), Incompatible> {
    let compared = if mode.looks_at_all() { versions.len() } else { versions.len().min(1) };
    for (position, old) in versions.iter().enumerate().rev().take(compared) {
        let broken = |reader: &str, reason: String| Incompatible {
            mode,
            version: position + 1,
            reason: format!("{reader}: {reason}"),
        };
        if mode.reads_old() {
            reads(old, new)
                .map_err(|reason| broken("the new schema cannot read its data", reason))?;
        }
        if mode.is_read_by_old() {
            reads(new, old).map_err(|reason| broken("it cannot read the new data", reason))?;
        }
    }
    Ok(())
}

fn reads(writer: &Schema, reader: &Schema) -> Result<(), String> {
    match SchemaCompatibility::can_read(writer, reader) {
        Ok(Fit::Full) => Ok(()),
        Ok(Fit::Partial) => Err("some values cannot be resolved".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::catalogue::{event_types, versions};

    fn record(fields: Value) -> Schema {
        Schema::parse(&json!({"type": "record", "name": "R", "fields": fields})).expect("a schema")
    }

    fn verdicts(versions: &[&Schema], new: &Schema) -> Vec<bool> {
        use Compatibility::{
            Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive, None,
        };
        [Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive, None]
            .map(|mode| check(mode, versions, new).is_ok())
            .to_vec()
    }

    #[test]
    fn every_version_of_the_platforms_schemas_is_backward_compatible_with_those_before() {
        for event_type in event_types() {
            let all: Vec<&Schema> =
                versions(event_type).iter().map(|entry| &entry.schema).collect();
            for (count, new) in all.iter().enumerate() {
                let verdict = check(Compatibility::BackwardTransitive, &all[..count], new);
                assert_eq!(verdict, Ok(()), "{event_type}");
            }
        }
    }

    #[test]
    fn the_modes_differ_as_the_table_says() {
        let a = json!({"name": "a", "type": "string"});
        let b = json!({"name": "b", "type": "string"});
        let b_default = json!({"name": "b", "type": "string", "default": ""});
        let v1 = record(json!([a]));
        let with_default = record(json!([a, b_default]));
        let without = record(json!([a, b]));
        // backward, its transitive, forward, its transitive, full, its transitive, none
        assert_eq!(verdicts(&[&v1], &with_default), [true; 7]);
        assert_eq!(verdicts(&[&v1], &without), [false, false, true, true, false, false, true]);
        assert_eq!(verdicts(&[&without], &v1), [true, true, false, false, false, false, true]);
        // Between the two comes one that makes each step legal alone.
        assert_eq!(
            verdicts(&[&v1, &with_default], &without),
            [true, false, true, true, true, false, true]
        );
        assert_eq!(verdicts(&[], &without), [true; 7]);
    }

    #[test]
    fn a_changed_type_and_a_dropped_symbol_are_refused_with_the_version_they_break() {
        let long = record(json!([{"name": "a", "type": "long"}]));
        let text = record(json!([{"name": "a", "type": "string"}]));
        let int = record(json!([{"name": "a", "type": "int"}]));
        assert_eq!(check(Compatibility::Backward, &[&int], &long), Ok(()), "int is read as long");
        let broken = check(Compatibility::Backward, &[&int, &long], &text).expect_err("refused");
        assert_eq!((broken.version, broken.mode), (2, Compatibility::Backward));
        assert!(broken.to_string().starts_with("not BACKWARD compatible with version 2"));
        let suit = |symbols: Value| {
            record(
                json!([{"name": "a", "type": {"type": "enum", "name": "E", "symbols": symbols}}]),
            )
        };
        let (two, three) = (suit(json!(["x", "y"])), suit(json!(["x", "y", "z"])));
        assert_eq!(check(Compatibility::Backward, &[&two], &three), Ok(()));
        assert!(check(Compatibility::Backward, &[&three], &two).is_err());
    }
}
