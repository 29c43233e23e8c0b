//! Payloads in Avro, in the wire format of schema registries: a zero byte, the schema's id in four
//! bytes, the datum.
//!
//! Owns JSON to Avro and back, and reading old data with a newer schema. It must not know where
//! schemas come from (see [`crate::registry`]).

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::{ResolvedSchema, Schema};
use apache_avro::types::Value as Avro;
use apache_avro::util::max_allocation_bytes;
use apache_avro::writer::datum::GenericDatumWriter;
use schema_registry_converter::schema_registry_common::{
    BytesResult, get_bytes_result, get_payload,
};
use serde_json::{Map, Value};

use crate::envelope::{EVENT_BYTES_MAX, EventTime};
use crate::validate;
use crate::violation::{EventError, Violations};

/// Why bytes are not the Avro they claim to be, or a payload cannot become Avro.
///
/// Repeating the call gives the same answer; the caller sends the record to the dead letters.
#[derive(Debug, thiserror::Error)]
pub enum AvroError {
    /// The value does not begin with a zero byte and a schema id.
    #[error(
        "value of {bytes} bytes is not in the registry's wire format (a zero byte, four bytes of schema id, the datum)"
    )]
    NotFramed {
        /// Size of the value.
        bytes: usize,
    },
    /// The value is larger than any event may be.
    #[error(
        "avro value of {bytes} bytes, at most {max} are allowed: store the payload elsewhere and send a reference"
    )]
    TooLarge {
        /// Size of the value.
        bytes: usize,
        /// The limit, [`EVENT_BYTES_MAX`].
        max: usize,
    },
    /// The payload is not what its schema asks for.
    #[error(transparent)]
    Payload(#[from] EventError),
    /// The datum ends early, runs over, or cannot be resolved to the reader's schema.
    #[error("avro datum: {0}; was it written with the schema its id names?")]
    Datum(Box<apache_avro::Error>),
    /// Bytes follow the datum.
    #[error("{0} bytes follow the avro datum; was it written with the schema its id names?")]
    Trailing(usize),
}

impl From<apache_avro::Error> for AvroError {
    fn from(error: apache_avro::Error) -> Self {
        Self::Datum(Box::new(error))
    }
}

/// The schema id and the datum of a value in the wire format.
///
/// # Errors
/// [`AvroError::NotFramed`], [`AvroError::TooLarge`].
pub fn unframe(value: &[u8]) -> Result<(u32, &[u8]), AvroError> {
    if value.len() > EVENT_BYTES_MAX {
        return Err(AvroError::TooLarge { bytes: value.len(), max: EVENT_BYTES_MAX });
    }
    match get_bytes_result(Some(value)) {
        BytesResult::Valid(id, datum) => Ok((id, datum)),
        _ => Err(AvroError::NotFramed { bytes: value.len() }),
    }
}

/// A datum in the wire format, under its schema's id.
pub fn frame(id: u32, datum: Vec<u8>) -> Vec<u8> {
    get_payload(id, datum)
}

/// A schema from its text, as a registry gives it.
///
/// # Errors
/// [`AvroError::Datum`] when it is none.
pub fn parse_schema(text: &str) -> Result<Schema, AvroError> {
    Ok(Schema::parse_str(text)?)
}

/// A JSON payload as an Avro datum.
///
/// # Errors
/// [`AvroError::Payload`] with every path that the schema refuses.
pub fn encode(payload: &Map<String, Value>, schema: &Schema) -> Result<Vec<u8>, AvroError> {
    let mut violations = Violations::default();
    validate::check(payload, schema, "$", &mut violations);
    violations.finish(Some(()))?;
    let value =
        to_avro(&Value::Object(payload.clone()), schema, &ResolvedSchema::try_from(schema)?);
    let writer = GenericDatumWriter::builder(schema).build()?;
    Ok(writer.write_value_to_vec(value)?)
}

/// A datum as a JSON payload, read with `reader`'s fields and defaults. Times become milliseconds
/// since 1970.
///
/// # Errors
/// [`AvroError::Datum`], [`AvroError::Trailing`], [`AvroError::TooLarge`].
pub fn decode(datum: &[u8], writer: &Schema, reader: &Schema) -> Result<Value, AvroError> {
    if datum.len() > EVENT_BYTES_MAX {
        return Err(AvroError::TooLarge { bytes: datum.len(), max: EVENT_BYTES_MAX });
    }
    // A hostile length in a datum allocates no more than this.
    max_allocation_bytes(EVENT_BYTES_MAX);
    let mut rest = datum;
    let datum_reader = GenericDatumReader::builder(writer).reader_schema(reader).build()?;
    let value = datum_reader.read_value(&mut rest)?;
    if !rest.is_empty() {
        return Err(AvroError::Trailing(rest.len()));
    }
    Ok(Value::try_from(value)?)
}

/// What [`validate::check`] accepted, as Avro; absent fields get their defaults.
fn to_avro(value: &Value, schema: &Schema, names: &ResolvedSchema<'_>) -> Avro {
    match schema {
        Schema::Record(record) => Avro::Record(
            record
                .fields
                .iter()
                .map(|field| {
                    let value = value.get(&field.name).or(field.default.as_ref());
                    let value = value.unwrap_or(&Value::Null);
                    (field.name.clone(), to_avro(value, &field.schema, names))
                })
                .collect(),
        ),
        Schema::Array(array) => Avro::Array(
            value
                .as_array()
                .into_iter()
                .flatten()
                .map(|item| to_avro(item, &array.items, names))
                .collect(),
        ),
        Schema::Map(map) => Avro::Map(
            value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, entry)| (key.clone(), to_avro(entry, &map.types, names)))
                .collect(),
        ),
        Schema::Union(union) => {
            let accepts = |branch: &Schema| validate::accepts(value, branch, names);
            let branch = union.variants().iter().position(accepts).unwrap_or(0);
            let position = u32::try_from(branch).expect("a union has few branches");
            Avro::Union(position, Box::new(to_avro(value, &union.variants()[branch], names)))
        }
        Schema::Ref { name } => match names.get_names().get(name) {
            Some(schema) => to_avro(value, schema, names),
            None => Avro::Null,
        },
        Schema::Enum(symbols) => {
            let text = value.as_str().unwrap_or_default();
            let position = symbols.symbols.iter().position(|symbol| symbol == text).unwrap_or(0);
            Avro::Enum(u32::try_from(position).expect("an enum has few symbols"), text.to_owned())
        }
        scalar => scalar_to_avro(value, scalar),
    }
}

fn scalar_to_avro(value: &Value, schema: &Schema) -> Avro {
    let text = || value.as_str().unwrap_or_default();
    let bytes =
        || text().chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect::<Vec<_>>();
    let long = value.as_i64().unwrap_or_default();
    let int = i32::try_from(long).unwrap_or_default();
    let millis = || EventTime::parse(text()).map_or(long, EventTime::as_millis);
    match schema {
        Schema::Boolean => Avro::Boolean(value.as_bool().unwrap_or_default()),
        Schema::Int => Avro::Int(int),
        Schema::Date => Avro::Date(int),
        Schema::TimeMillis => Avro::TimeMillis(int),
        Schema::Long => Avro::Long(long),
        Schema::TimeMicros => Avro::TimeMicros(long),
        Schema::TimestampMillis => Avro::TimestampMillis(millis()),
        Schema::LocalTimestampMillis => Avro::LocalTimestampMillis(millis()),
        Schema::TimestampMicros => Avro::TimestampMicros(long),
        Schema::LocalTimestampMicros => Avro::LocalTimestampMicros(long),
        Schema::TimestampNanos => Avro::TimestampNanos(long),
        Schema::LocalTimestampNanos => Avro::LocalTimestampNanos(long),
        Schema::Float => Avro::Float(text_of(value).parse().unwrap_or_default()),
        Schema::Double => Avro::Double(value.as_f64().unwrap_or_default()),
        Schema::String => Avro::String(text().to_owned()),
        Schema::Uuid(_) => Avro::Uuid(text().parse().unwrap_or_default()),
        Schema::Bytes => Avro::Bytes(bytes()),
        Schema::Fixed(fixed) => Avro::Fixed(fixed.size, bytes()),
        _ => Avro::Null,
    }
}

fn text_of(value: &Value) -> String {
    value.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::catalogue::{schema_of, versions};

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn a_payload_comes_back_with_its_defaults_and_its_times_in_milliseconds() {
        let schema = schema_of("QualityGateResult").expect("in the catalogue");
        let payload = object(json!({
            "gateId": "g", "gateName": "Gate", "workItemId": "w", "taskId": "t", "sessionId": "s",
            "passed": true, "score": 0.5, "threshold": 1, "required": false,
            "evaluatedAt": "2026-01-05T10:00:00.000Z", "durationMs": 7}));
        let datum = encode(&payload, schema).expect("valid");
        let mut expected = payload;
        expected.insert("findings".into(), json!([]));
        expected.insert("attempt".into(), json!(1));
        expected.insert("evaluatedAt".into(), json!(1_767_607_200_000_i64));
        expected.insert("threshold".into(), json!(1.0));
        assert_eq!(decode(&datum, schema, schema).expect("ours"), Value::Object(expected));
    }

    #[test]
    fn version_one_is_read_with_the_fields_and_defaults_of_version_two() {
        let [v1, v2] = versions("TaskEvent") else { panic!("two versions") };
        let payload = json!({"eventId": "e", "taskId": "t", "userId": "u", "description": "d",
                             "priority": "high", "timestamp": 5});
        let datum = encode(&object(payload.clone()), &v1.schema).expect("valid");
        let mut expected = payload;
        expected["estimatedDuration"] = Value::Null;
        expected["tags"] = json!([]);
        expected["metadata"] = Value::Null;
        assert_eq!(decode(&datum, &v1.schema, &v2.schema).expect("resolvable"), expected);
    }

    #[test]
    fn a_union_of_a_text_and_a_map_keeps_which_it_was() {
        let schema = schema_of("OrderCreated").expect("in the catalogue");
        let payload = object(json!({"orderId": null, "customerId": "c", "schemaVersion": 2,
            "items": [{"productId": "p", "quantity": 1, "price": 2.5}],
            "shippingAddress": "a street", "billingAddress": {"city": "a city"}}));
        let datum = encode(&payload, schema).expect("valid");
        assert_eq!(decode(&datum, schema, schema).expect("ours"), Value::Object(payload));
    }

    #[test]
    fn a_refused_payload_names_every_path() {
        let schema = schema_of("SessionStarted").expect("in the catalogue");
        let Err(AvroError::Payload(EventError::Invalid(violations))) =
            encode(&object(json!({"userId": 5})), schema)
        else {
            panic!("refused")
        };
        assert_eq!(violations.paths(), ["$.userId", "$.taskDescription", "$.startTime"]);
    }

    #[test]
    fn the_wire_format_is_a_zero_byte_the_id_and_the_datum() {
        let framed = frame(258, vec![7, 8]);
        assert_eq!(framed, [0, 0, 0, 1, 2, 7, 8]);
        assert_eq!(unframe(&framed).expect("framed"), (258, &[7, 8][..]));
        for value in [&b""[..], b"{}", b"\x00\x00\x00", b"\x01\x00\x00\x00\x01a"] {
            assert!(matches!(unframe(value), Err(AvroError::NotFramed { .. })), "{value:?}");
        }
        assert!(matches!(unframe(&vec![0; EVENT_BYTES_MAX + 1]), Err(AvroError::TooLarge { .. })));
    }

    #[test]
    fn bytes_after_the_datum_are_refused() {
        let schema = schema_of("inventory.reserved").expect("in the catalogue");
        let mut datum = encode(&object(json!({"orderId": "o"})), schema).expect("valid");
        datum.extend([1, 2, 3]);
        assert!(matches!(decode(&datum, schema, schema), Err(AvroError::Trailing(3))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic_or_allocate_more_than_an_event(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for schema in crate::catalogue::schemas() {
                let _answer = decode(&bytes, schema, schema);
            }
            let _answer = unframe(&bytes);
        }
    }
}
