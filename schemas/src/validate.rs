//! Checks a JSON payload against its Avro schema and reports every offending path.
//!
//! Owns the rules by which JSON stands for Avro. It must not know any event: which schema belongs
//! to a type is said by [`crate::catalogue`].
//!
//! | schema | accepted JSON |
//! |---|---|
//! | `null` | `null`, or absence |
//! | union | whatever one of its branches accepts |
//! | `boolean`, `string` | the same |
//! | `int`, `long` | a whole number of 32 or 64 bits |
//! | `float`, `double` | a finite number |
//! | `bytes`, fixed | a string of characters up to U+00FF, one a byte |
//! | enum | one of its symbols |
//! | `timestamp-millis` | ISO-8601 text, or a whole number of milliseconds since 1970 |
//! | `uuid` | a hyphenated UUID |
//! | array, map, record | an array, an object, an object |
//!
//! A field with a default may be absent. Fields that the schema does not name are allowed: a newer
//! producer may add some.

use apache_avro::schema::{Name, RecordSchema, ResolvedSchema, Schema, UnionSchema};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::envelope::EventTime;
use crate::fields::describe;
use crate::violation::Violations;

/// Longest list of alternatives that a reason quotes.
const ALTERNATIVES_MAX: usize = 12;

/// Reports to `violations` each place below `path` where `value` is not what `schema` asks for.
///
/// A schema that refers to a name nobody defines refuses every value there.
pub fn check(value: &Map<String, Value>, schema: &Schema, path: &str, violations: &mut Violations) {
    let names = ResolvedSchema::try_from(schema).ok();
    let checker = Checker { names: names.as_ref() };
    match schema {
        Schema::Record(record) => checker.record(value, record, path, violations),
        other => checker.value(&Value::Object(value.clone()), other, path, violations),
    }
}

/// Whether `value` is what `schema` asks for; `names` are those the schema may refer to.
pub(crate) fn accepts(value: &Value, schema: &Schema, names: &ResolvedSchema<'_>) -> bool {
    let mut violations = Violations::default();
    Checker { names: Some(names) }.value(value, schema, "$", &mut violations);
    violations.is_empty()
}

struct Checker<'n, 's> {
    names: Option<&'n ResolvedSchema<'s>>,
}

impl<'s> Checker<'_, 's> {
    fn record(
        &self,
        object: &Map<String, Value>,
        record: &RecordSchema,
        path: &str,
        violations: &mut Violations,
    ) {
        for field in &record.fields {
            let path = format!("{path}.{}", field.name);
            match object.get(&field.name) {
                Some(value) => self.value(value, &field.schema, &path, violations),
                None if field.default.is_some() || self.holds_null(&field.schema) => {}
                None => violations.push(path, "is missing".to_owned()),
            }
        }
    }

    fn value(&self, value: &Value, schema: &Schema, path: &str, violations: &mut Violations) {
        match schema {
            Schema::Record(record) => match value {
                Value::Object(object) => self.record(object, record, path, violations),
                other => refuse(other, "an object", path, violations),
            },
            Schema::Array(array) => match value {
                Value::Array(items) => {
                    for (position, item) in items.iter().enumerate() {
                        self.value(item, &array.items, &format!("{path}[{position}]"), violations);
                    }
                }
                other => refuse(other, "an array", path, violations),
            },
            Schema::Map(map) => match value {
                Value::Object(entries) => {
                    for (key, entry) in entries {
                        self.value(entry, &map.types, &format!("{path}.{key:.40}"), violations);
                    }
                }
                other => refuse(other, "an object", path, violations),
            },
            Schema::Union(union) => self.union(value, union, path, violations),
            Schema::Ref { name } => match self.named(name) {
                Some(schema) => self.value(value, schema, path, violations),
                None => violations.push(
                    path.to_owned(),
                    format!("cannot be checked: its schema names {name}, which is not defined"),
                ),
            },
            Schema::Enum(symbols) => match value {
                Value::String(text) if symbols.symbols.iter().any(|symbol| symbol == text) => {}
                other => {
                    let known = &symbols.symbols[..symbols.symbols.len().min(ALTERNATIVES_MAX)];
                    refuse(other, &format!("one of {}", known.join(", ")), path, violations);
                }
            },
            scalar => {
                if let Err(expected) = self.scalar(value, scalar) {
                    refuse(value, &expected, path, violations);
                }
            }
        }
    }

    /// One branch must accept. With one branch beside `null` its own report is the best there is.
    fn union(&self, value: &Value, union: &UnionSchema, path: &str, violations: &mut Violations) {
        let holds_null = union.variants().iter().any(|branch| matches!(branch, Schema::Null));
        if value.is_null() && holds_null {
            return;
        }
        let branches: Vec<&Schema> =
            union.variants().iter().filter(|branch| !matches!(branch, Schema::Null)).collect();
        if let [only] = branches[..] {
            return self.value(value, only, path, violations);
        }
        let accepted = branches.iter().any(|branch| {
            let mut tried = Violations::default();
            self.value(value, branch, path, &mut tried);
            tried.is_empty()
        });
        if !accepted {
            let names: Vec<String> = branches.iter().map(|branch| kind(branch)).collect();
            refuse(value, &names.join(" or "), path, violations);
        }
    }

    /// What was expected, when it is something else.
    fn scalar(&self, value: &Value, schema: &Schema) -> Result<(), String> {
        let fits = match schema {
            Schema::Null => value.is_null(),
            Schema::Boolean => value.is_boolean(),
            Schema::String => value.is_string(),
            Schema::Int | Schema::Date | Schema::TimeMillis => {
                whole(value).is_some_and(|number| i32::try_from(number).is_ok())
            }
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => whole(value).is_some(),
            Schema::TimestampMillis | Schema::LocalTimestampMillis => match value {
                Value::String(text) => EventTime::parse(text).is_some(),
                other => whole(other).and_then(EventTime::from_millis).is_some(),
            },
            Schema::Float | Schema::Double => value.as_f64().is_some_and(f64::is_finite),
            Schema::Uuid(_) => value.as_str().is_some_and(|text| {
                text.len() == uuid::fmt::Hyphenated::LENGTH && Uuid::try_parse(text).is_ok()
            }),
            Schema::Fixed(fixed) | Schema::Duration(fixed) => {
                latin(value).is_some_and(|length| length == fixed.size)
            }
            Schema::Bytes | Schema::Decimal(_) | Schema::BigDecimal => latin(value).is_some(),
            _ => false,
        };
        if fits { Ok(()) } else { Err(kind(schema)) }
    }

    fn named(&self, name: &Name) -> Option<&'s Schema> {
        self.names?.get_names().get(name).copied()
    }

    fn holds_null(&self, schema: &Schema) -> bool {
        match schema {
            Schema::Null => true,
            Schema::Union(union) => {
                union.variants().iter().any(|branch| matches!(branch, Schema::Null))
            }
            _ => false,
        }
    }
}

fn refuse(found: &Value, expected: &str, path: &str, violations: &mut Violations) {
    violations.push(path.to_owned(), format!("must be {expected}, found {}", describe(found)));
}

/// A number written without a fraction.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64()
}

fn latin(value: &Value) -> Option<usize> {
    let text = value.as_str()?;
    text.chars().all(|c| u32::from(c) < 256).then(|| text.chars().count())
}

/// A schema's kind in words.
fn kind(schema: &Schema) -> String {
    match schema {
        Schema::Null => "null".to_owned(),
        Schema::Boolean => "true or false".to_owned(),
        Schema::String => "a string".to_owned(),
        Schema::Int | Schema::Date | Schema::TimeMillis => "a whole number of 32 bits".to_owned(),
        Schema::Float | Schema::Double => "a finite number".to_owned(),
        Schema::TimestampMillis | Schema::LocalTimestampMillis => {
            "an iso-8601 time from 1970 to 9999 (or its epoch ms)".to_owned()
        }
        Schema::Uuid(_) => "a uuid".to_owned(),
        Schema::Fixed(fixed) | Schema::Duration(fixed) => {
            format!("a string of {} characters up to U+00FF", fixed.size)
        }
        Schema::Bytes | Schema::Decimal(_) | Schema::BigDecimal => {
            "a string of characters up to U+00FF".to_owned()
        }
        Schema::Array(_) => "an array".to_owned(),
        Schema::Map(_) | Schema::Record(_) => "an object".to_owned(),
        Schema::Enum(symbols) => format!("one of {}", symbols.symbols.join(", ")),
        Schema::Ref { name } => format!("a {name}"),
        _ => "a whole number of 64 bits".to_owned(),
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
